"""The two networks: their size, their stages, and where their initial values come from."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.tasks.heads import head_for_samples

torch.set_num_threads(1)

# comdml.md 2.6, after each stage but the last: activation of one sample, params, share of multiply-adds
SHAPES = ((16, 32, 32), (64, 32, 32), (64, 32, 32), (128, 16, 16), (128, 16, 16), (256, 8, 8), (256, 8, 8))
PREFIX_PARAMS = {
    3: (464, 14_480, 28_112, 87_888, 141_264, 377_552, 588_752),
    6: (464, 28_112, 55_376, 168_528, 275_280, 722_768, 1_145_168),
}
PREFIX_SHARES = {
    3: (0.005, 0.161, 0.315, 0.504, 0.657, 0.847, 1.0),
    6: (0.003, 0.164, 0.324, 0.502, 0.662, 0.840, 1.0),
}


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(blocks_per_group: int, seed: int = 1, input_shape: tuple[int, ...] = (3, 32, 32)) -> nn.Sequential:
    return resnet(input_shape, 10, seeded(seed), blocks_per_group=blocks_per_group)


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def num_multiply_adds(module: nn.Module, x_NCHW: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x_NCHW)
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize(
    ("blocks", "layers", "params", "millions"), [(3, 56, 591_322, 87.2), (6, 110, 1_147_738, 167.4)]
)
def test_networks_have_the_published_size(blocks: int, layers: int, params: int, millions: float) -> None:
    model = build(blocks)
    main_path = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in main_path if "shortcut" not in name]) == layers
    assert num_params(model) == params
    multiply_adds = num_multiply_adds(model.to("meta"), torch.empty(1, 3, 32, 32, device="meta"))
    assert multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("blocks", [3, 6])
def test_every_prefix_agrees_with_the_published_table(blocks: int) -> None:
    model = build(blocks).to("meta")
    x_NCHW = torch.empty(1, 3, 32, 32, device="meta")
    whole = num_multiply_adds(model, x_NCHW)
    assert len(model) == 8
    so_far = 0
    for kept, shape in enumerate(SHAPES, start=1):
        stage = model[kept - 1]
        so_far += num_multiply_adds(stage, x_NCHW)
        x_NCHW = stage(x_NCHW)
        assert x_NCHW.shape[1:] == shape
        assert num_params(model[:kept]) == PREFIX_PARAMS[blocks][kept - 1]
        assert so_far / whole == pytest.approx(PREFIX_SHARES[blocks][kept - 1], abs=6e-4)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build(3, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])
    assert not torch.equal(first["head.1.weight"], other["head.1.weight"])


def test_building_neither_reads_nor_advances_the_global_generator() -> None:
    def build_after(global_seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        model, head = build(3), head_for_samples("pool", (64, 8, 8), 10, seeded())
        assert torch.equal(torch.get_rng_state(), state)
        tensors = (*model.state_dict().values(), *head.state_dict().values())
        return torch.cat([tensor.flatten().float() for tensor in tensors]), state

    (first, state), (second, other_state) = build_after(1), build_after(2)
    assert torch.equal(first, second)
    assert not torch.equal(state, other_state)


def test_a_bottleneck_begins_as_its_shortcut() -> None:
    block = build(3).get_submodule("group2.1").eval()
    x_NCHW = torch.randn(2, 64, 4, 4, generator=seeded()).relu()
    assert torch.equal(block(x_NCHW), x_NCHW)


@pytest.mark.parametrize("input_shape", [(1, 8, 8), (3, 5, 7), (4, 28, 28)])
def test_any_image_trains_even_in_a_batch_of_one(input_shape: tuple[int, int, int]) -> None:
    model = resnet(input_shape, 7, seeded(), blocks_per_group=1)
    logits_NK = model(torch.randn(1, *input_shape, generator=seeded()))
    logits_NK.sum().backward()
    assert logits_NK.shape == (1, 7)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_layout_of_an_activation_changes_no_bit() -> None:
    model = build(1, input_shape=(1, 20, 20))
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.ones_(parameter)  # so that the branches are in use
    for kept in range(1, len(model)):
        x_NCHW = model[:kept](torch.randn(5, 1, 20, 20, generator=seeded())).detach()
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last):
            loss = model[kept:](x_NCHW.contiguous(memory_format=layout)).square().sum()
            gradients.append(torch.autograd.grad(loss, list(model[kept:].parameters())))
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("input_shape", "num_classes", "message"),
    [
        ((32, 32), 10, r"input shape = \(32, 32\): must be \(channels, height, width\)"),
        ((0, 32, 32), 10, "at least 1 channel"),
        ((1, 4, 32), 10, "at least 5 pixels"),
        ((3, 32, 32), 1, "number of classes = 1: must be at least 2"),
    ],
)
def test_an_impossible_network_is_refused(
    input_shape: tuple[int, ...], num_classes: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resnet(input_shape, num_classes, seeded(), blocks_per_group=3)
