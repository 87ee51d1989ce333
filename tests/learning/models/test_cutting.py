"""Any module becomes a chain of stages that is the same model, or the reason why not is told."""

import copy
from functools import partial

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.codec import Plain
from comdml_flwr.learning.cut_profile import profile_model
from comdml_flwr.learning.models.cutting import cut_at, find_cutting
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.split import float_state, num_cuts, split
from comdml_flwr.learning.state_layout import layout_of
from comdml_flwr.learning.structure import call
from comdml_flwr.learning.task import Classification
from tests.odd_modules import HARD, ByName, Encoder, HiddenFlow, SkipCnn


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@pytest.mark.parametrize(
    ("name", "num_found", "reason"),
    [
        ("two inputs", 4, ""),
        ("a skip across all cuts", 0, "SkipAcross has no legal cut: 2 values go on: x, one"),
        ("tied weights", 0, "Tied has no legal cut: both sides use embed.weight"),
        ("control flow", 0, "control flow in ControlFlow.forward must not depend on the data"),
        ("dropout everywhere", 6, ""),
        ("recurrent", 2, ""),
    ],
)
def test_hard_models_are_cut_or_the_reason_is_told(name, num_found, reason):
    build, batch = HARD[name]
    cutting = find_cutting(build(), batch())
    assert cutting.num_found == num_found
    assert reason in cutting.reason
    assert bool(cutting.reason) == bool(reason)
    assert cutting.difference == 0.0


def test_an_uncut_model_is_a_chain_of_one_stage_with_its_own_names():
    build, batch = HARD["control flow"]
    model, x = build(), batch()
    chain = find_cutting(model, x).stages_of(model)
    assert num_cuts(chain) == 0
    assert torch.equal(chain(x), model(x))
    assert list(layout_of(chain).shapes) == list(model.state_dict())


def test_a_module_that_cannot_be_traced_is_one_operation():
    cutting = find_cutting(HiddenFlow(), torch.randn(2, 6))
    assert [part.label for part in cutting.parts] == ["up to block", "up to mid", "up to output"]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (SkipCnn, (1, 8, 8)),
        (Encoder, (1, 8, 8)),
        (partial(torchvision.models.resnet18, num_classes=5), (3, 32, 32)),
        (partial(torchvision.models.mobilenet_v3_small, num_classes=5), (3, 32, 32)),
    ],
    ids=["skip", "encoder", "resnet18", "mobilenet_v3_small"],
)
def test_the_stages_are_the_model_to_the_bit(model, shape):
    module = model()
    x = torch.randn(3, *shape)
    cutting = find_cutting(module, x)
    assert cutting.difference == 0.0
    assert 4 <= len(cutting.parts) <= 17
    chain = cutting.stages_of(copy.deepcopy(module)).eval()
    x = torch.randn(5, *shape)
    for cut in range(1, num_cuts(chain) + 1):
        slow_side, fast_side = split(chain, cut)
        assert torch.equal(fast_side(slow_side(x)), module.eval()(x))


def test_two_inputs_may_come_by_name():
    build, batch = HARD["two inputs"]
    model, (a, b) = build(), batch()
    chain = find_cutting(model, {"b": b, "a": a}).stages_of(model)
    assert torch.equal(call(chain, {"b": b, "a": a}), model(a, b))


def test_a_model_that_takes_names_and_sizes_and_returns_a_dict_is_cut():
    model, inputs = ByName(), {"input_ids": torch.randint(20, (2, 6))}
    cutting = find_cutting(model, inputs)
    assert (cutting.difference, cutting.reason) == (0.0, "")
    assert "up to blocks.0" in [part.label for part in cutting.parts]
    chain = cutting.stages_of(copy.deepcopy(model)).eval()
    for num_samples in (1, 5):
        ids = torch.randint(20, (num_samples, 6))
        assert torch.equal(call(chain, {"input_ids": ids}), model.eval()(input_ids=ids)["logits"])
    elsewhere = copy.deepcopy(chain).to("meta")
    assert call(elsewhere, {"input_ids": ids.to("meta")}).device.type == "meta"


@pytest.mark.parametrize("blocks_per_group", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_hand_made_cuts_are_among_those_found_at_the_same_cost(blocks_per_group):
    build = partial(resnet, (3, 32, 32), 10, blocks_per_group=blocks_per_group)
    by_hand = build(torch.Generator().manual_seed(1))
    cutting = find_cutting(by_hand, torch.randn(2, 3, 32, 32), most=-1)
    found = cutting.stages_of(build(torch.Generator().manual_seed(1)))
    task = Classification(input_shape=(3, 32, 32), num_classes=10)
    costs = {
        (cut.slow_flops, cut.fast_flops, cut.activation_bytes, cut.slow_params, cut.fast_params)
        for cut in profile_model(found, task, 4, Plain()).cuts
    }
    expected = [
        (cut.slow_flops, cut.fast_flops, cut.activation_bytes, cut.slow_params, cut.fast_params)
        for cut in profile_model(by_hand, task, 4, Plain()).cuts
    ]
    assert len(expected) == 7
    assert set(expected) <= costs
    assert num_cuts(found) == cutting.num_found > 7


def test_cuts_may_be_named():
    model = SkipCnn()
    cutting = find_cutting(cut_at(model, ["layer2", "layer1.0"]), torch.randn(2, 1, 8, 8))
    assert [part.label for part in cutting.parts] == ["up to layer1.0", "up to layer2", "up to output"]
    with pytest.raises(InputError, match="cuts = 'layer9': must be the name of a module of SkipCnn"):
        cut_at(model, ["layer9"])
    line = r"cuts = 'layer1.0.conv': must be a module after which one tensor goes on: 2 values go on"
    with pytest.raises(InputError, match=line):
        find_cutting(cut_at(model, ["layer1.0.conv"]), torch.randn(2, 1, 8, 8))


def test_a_saved_model_loads_into_the_users_own(tmp_path):
    model = SkipCnn()
    chain = find_cutting(model, torch.randn(2, 1, 8, 8)).stages_of(copy.deepcopy(model))
    layout = layout_of(chain)
    weights_P = torch.cat([x.reshape(-1) for _, x in float_state(chain)])
    state = layout.unflatten(weights_P.numpy())
    save_file({name: torch.from_numpy(x.copy()) for name, x in state.items()}, tmp_path / "model.safetensors")
    SkipCnn().load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert layout.is_parameter_P.sum() == sum(p.numel() for p in model.parameters())


def test_weights_that_are_not_trained_neither_travel_nor_count():
    model = SkipCnn()
    model.conv1.requires_grad_(False)
    model.layer1.requires_grad_(False)
    chain = find_cutting(model, torch.randn(2, 1, 8, 8)).stages_of(model)
    names = list(layout_of(chain).shapes)
    assert not any(name.startswith("conv1") for name in names)
    assert "layer1.0.bn.running_mean" in names
    assert "layer1.0.bn.weight" not in names
    assert set(layout_of(chain).unflatten(float_values(chain))) == set(SkipCnn().state_dict())


def float_values(chain):
    return torch.cat([x.reshape(-1) for _, x in float_state(chain)]).numpy()


def test_what_the_output_does_not_need_is_kept_and_not_trained():
    class Extra(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.spare = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x):
            z = self.one(x).relu()
            return {"logits": self.two(z), "spare": self.spare(z)}

    model = Extra()
    chain = find_cutting(model, torch.randn(2, 6)).stages_of(model)
    assert num_cuts(chain) >= 1
    state = layout_of(chain).unflatten(float_values(chain))
    assert set(state) == set(model.state_dict())
    assert not any(name.startswith("spare") for name in layout_of(chain).shapes)


def test_a_module_that_the_builder_leaves_in_evaluation_mode_stays_so():
    model = SkipCnn()
    model.bn1.eval()
    chain = find_cutting(model, torch.randn(2, 1, 8, 8)).stages_of(model)
    before = model.bn1.running_mean.clone()
    copied = copy.deepcopy(chain)
    copied.train()(torch.randn(4, 1, 8, 8))
    assert torch.equal(dict(copied.named_buffers())["0.bn1.running_mean"], before)
    chain.eval().train()(torch.randn(4, 1, 8, 8))
    assert torch.equal(model.bn1.running_mean, before)
    assert not torch.equal(model.layer1[0].bn.running_mean, torch.zeros(8))
