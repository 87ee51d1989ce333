"""A split loses nothing, floats travel flat, and every count agrees with the real thing."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.codec import Plain
from comdml_flwr.learning.cut_profile import profile_model
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.split import (
    float_state,
    join,
    load_floats,
    num_cuts,
    num_floats,
    split,
    write_floats,
)
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.heads import head_for_samples

torch.set_num_threads(1)


def task_of(input_shape: tuple[int, ...], num_classes: int) -> Classification:
    return Classification(input_shape=input_shape, num_classes=num_classes)


CUTS = range(1, 8)
SMALL = (1, 8, 8)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(blocks_per_group: int = 1, input_shape: tuple[int, ...] = SMALL) -> nn.Sequential:
    return resnet(input_shape, 10, seeded(), blocks_per_group=blocks_per_group)


def other_model() -> nn.Sequential:
    """Stages that start in place, have no parameters, or save an index: what own models may do."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 20),
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(20, 16)),
        nn.Unflatten(1, (4, 2, 2)),
        nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten()),
        nn.Linear(4, 3),
    )


def count(side: nn.Module, x_N: Tensor) -> tuple[int, int]:
    """Return (flops, bytes kept for backward) of a real pass over a real batch."""
    state = {tensor.data_ptr() for tensor in (*side.parameters(), *side.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in state:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(note, lambda tensor: tensor):
        out_NK = side(x_N)
        kept_bytes = sum(saved.values())
        if out_NK.requires_grad:
            out_NK.backward(torch.ones_like(out_NK))
    return counter.get_total_flops(), kept_bytes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cut", CUTS)
def test_split_then_join_gives_the_same_logits(cut: int, training: bool) -> None:
    x_NCHW = torch.randn(4, *SMALL, generator=seeded())
    expected_NK = build().train(training)(x_NCHW)
    model = build().train(training)
    slow_side, fast_side = split(model, cut)
    assert torch.equal(fast_side(slow_side(x_NCHW)), expected_NK)
    joined = join(*split(build().train(training), cut))
    assert torch.equal(joined(x_NCHW), expected_NK)
    assert slow_side.training == fast_side.training == joined.training == training


@pytest.mark.parametrize("cut", CUTS)
def test_halves_share_the_modules_of_the_model(cut: int) -> None:
    model = build()
    slow_side, fast_side = split(model, cut)
    assert [*slow_side, *fast_side] == list(model)
    assert len(fast_side) == cut
    assert list(join(slow_side, fast_side).named_children()) == list(model.named_children())


def test_join_numbers_stages_anew_when_their_names_clash() -> None:
    joined = join(nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()))
    assert [(name, type(stage)) for name, stage in joined.named_children()] == [
        ("0", nn.ReLU),
        ("1", nn.Tanh),
    ]


def test_a_stage_that_comes_twice_is_kept_twice() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    assert [len(side) for side in split(model, 1)] == [3, 1]
    assert list(join(*split(model, 1))) == list(model)


@pytest.mark.parametrize("cut", [-1, 0, 8])
def test_a_cut_that_the_model_does_not_have_is_refused(cut: int) -> None:
    assert num_cuts(build()) == 7
    with pytest.raises(InputError, match=f"cut = {cut}: must be from 1 to 7 for this model"):
        split(build(), cut)


@pytest.mark.parametrize("cut", CUTS)
def test_floats_of_the_slow_side_are_a_prefix(cut: int) -> None:
    model = build()
    slow_side, fast_side = split(model, cut)
    names = [name for name, _ in float_state(model)]
    assert names == [name for side in (slow_side, fast_side) for name, _ in float_state(side)]
    assert torch.equal(write_floats(model), torch.cat([write_floats(slow_side), write_floats(fast_side)]))


def test_float_state_is_every_parameter_and_float_buffer_and_no_integer() -> None:
    model = build()
    names = {name for name, _ in float_state(model)}
    floats = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    assert names == {name for name in floats if not name.endswith("num_batches_tracked")}
    assert "stem.1.running_mean" in names


def test_floats_survive_the_round_trip_to_the_bit() -> None:
    model, other = build(), resnet(SMALL, 10, seeded(2), blocks_per_group=1)
    model(torch.randn(4, *SMALL, generator=seeded()))  # moves the running statistics
    flat_P = write_floats(model)
    assert (flat_P.shape, flat_P.dtype) == ((num_floats(model),), torch.float32)
    load_floats(other, flat_P)
    assert all(
        torch.equal(a, b) for (_, a), (_, b) in zip(float_state(model), float_state(other), strict=True)
    )
    flat_P.zero_()
    assert torch.count_nonzero(write_floats(model)) > 0


def test_flat_order_does_not_depend_on_the_layout_in_memory() -> None:
    model = build()
    assert torch.equal(
        write_floats(model), write_floats(copy.deepcopy(model).to(memory_format=torch.contiguous_format))
    )


def test_a_flat_tensor_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="must be"):
        load_floats(build(), torch.zeros(3))


def test_a_side_without_floats_has_an_empty_flat_tensor() -> None:
    flat_P = write_floats(nn.ReLU())
    assert flat_P.shape == (0,)
    load_floats(nn.ReLU(), flat_P)


@pytest.mark.parametrize(
    ("model", "input_shape", "num_classes"),
    [(build(2, (3, 16, 16)), (3, 16, 16), 10), (other_model(), (3, 2, 2), 3)],
    ids=["resnet", "other"],
)
def test_profile_agrees_with_real_halves_on_a_real_batch(
    model: nn.Sequential, input_shape: tuple[int, ...], num_classes: int
) -> None:
    batch_size = 6
    x_N = torch.randn(batch_size, *input_shape, generator=seeded())
    profile = profile_model(model, task_of(input_shape, num_classes), batch_size, Plain())
    whole_flops, _ = count(copy.deepcopy(model), x_N.clone())
    assert profile.whole_flops * batch_size == whole_flops
    for entry in profile.cuts:
        slow_side, fast_side = split(copy.deepcopy(model), entry.cut)
        activation_N = slow_side(x_N.clone()).detach()
        head = head_for_samples("pool", tuple(activation_N.shape[1:]), num_classes, seeded())
        slow_flops, slow_bytes = count(nn.Sequential(slow_side, head), x_N.clone())
        fast_flops, fast_bytes = count(fast_side, activation_N.clone())
        assert (entry.slow_flops * batch_size, entry.fast_flops * batch_size) == (slow_flops, fast_flops)
        weights = [
            num_floats(side) + 2 * params(side) for side in (nn.Sequential(slow_side, head), fast_side)
        ]
        assert entry.slow_peak_bytes == 4 * weights[0] + slow_bytes
        assert entry.fast_peak_bytes == 4 * weights[1] + fast_bytes
        assert entry.activation_shape == activation_N.shape[1:]
        assert entry.activation_bytes * batch_size == activation_N.nbytes
        assert (entry.slow_params, entry.fast_params) == (params(slow_side), params(fast_side))


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_profile_of_resnet_56_adds_up() -> None:
    model = build(3, (3, 32, 32))
    profile = profile_model(model, task_of((3, 32, 32), 10), 100, Plain())
    assert profile.params == 591_322
    assert [entry.cut for entry in profile.cuts] == list(CUTS)
    assert [entry.activation_bytes // 1024 for entry in profile.cuts] == [64, 64, 128, 128, 256, 256, 64]
    assert all(entry.slow_params + entry.fast_params == profile.params for entry in profile.cuts)
    slow = [entry.slow_flops for entry in profile.cuts]
    assert slow == sorted(slow, reverse=True)
    assert profile.whole_flops == pytest.approx(3 * 2 * 87.2e6, rel=0.002)  # forward, and twice that backward


def test_profiling_changes_neither_the_model_nor_the_global_generator() -> None:
    model = other_model().eval()
    before, state = write_floats(model), torch.get_rng_state()
    profile_model(model, task_of((3, 2, 2), 3), 4, Plain())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(write_floats(model), before)
    assert not model.training
    assert all(parameter.grad is None and not parameter.is_meta for parameter in model.parameters())


def test_an_input_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"input shape = \(2, 32, 32\): must fit stage 1"):
        profile_model(build(), task_of((2, 32, 32), 10), 4, Plain())
    with pytest.raises(InputError, match="batch size = 0"):
        profile_model(build(), task_of(SMALL, 10), 0, Plain())


class Shifted(nn.Module):
    """A linear layer behind a shift that is made in forward, on the CPU, if its input is not all negative."""

    def __init__(self, makes_shift: bool) -> None:
        super().__init__()
        self.linear, self.makes_shift = nn.Linear(6, 6), makes_shift

    def forward(self, x_ND: Tensor) -> Tensor:
        if self.makes_shift and x_ND.max().item() >= 0:
            return self.linear(x_ND + torch.arange(6.0))
        return self.linear(x_ND + x_ND)


def test_a_stage_that_makes_tensors_or_looks_at_values_costs_what_another_one_does():
    models = [nn.Sequential(Shifted(makes), nn.Dropout(), nn.Linear(6, 3)) for makes in (False, True)]
    before = torch.get_rng_state()
    plain, shifted = (profile_model(model, task_of((6,), 3), 4, Plain()) for model in models)
    assert plain == shifted
    assert torch.equal(torch.get_rng_state(), before)
