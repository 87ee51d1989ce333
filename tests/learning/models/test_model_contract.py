"""Models of one's own: each runs, or ends in one line that names the stage before anything is trained."""

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.models.builder import BuiltModel, build_model
from comdml_flwr.learning.models.contract import copy_inputs
from comdml_flwr.learning.split import float_state, write_floats
from comdml_flwr.learning.task import Classification
from tests.odd_models import ODD, Pick
from tests.small import few_digits

SIZE, CLASSES = 64, 10


def seed_for(purpose: str) -> int:
    return len(purpose)


def built(builder: Callable[..., object], warn: Callable[[str], None] = print) -> BuiltModel:
    data = few_digits()
    task = Classification(input_shape=data.input_shape, num_classes=data.num_classes)
    return build_model(
        lambda generator: builder(task.input_shape, task.num_classes, generator),
        "own",
        data.x_train_NCHW[:2],
        task,
        seed_for,
        warn,
    )


def of(*stages: nn.Module) -> BuiltModel:
    return built(lambda shape, num_classes, generator: nn.Sequential(*stages))


def as_the_builder_has_it(name: str) -> nn.Module:
    return ODD[name](few_digits().input_shape, CLASSES, torch.Generator().manual_seed(seed_for("model")))


class Centres(nn.Module):
    """A stage that takes a running mean away, which is each time another tensor; or begins without one."""

    mean: Tensor | None

    def __init__(self, mean: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            now = x.detach().mean(0)
            self.mean = now if self.mean is None else 0.9 * self.mean + 0.1 * now
        return x - self.mean


class StaysFrozen(nn.Sequential):
    """A chain that decides for its stages in which mode they are."""

    def train(self, mode: bool = True) -> "StaysFrozen":
        return super().train(mode and False)


class Wrong(nn.Module):
    """A stage whose output is what a function makes of its input."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(SIZE, CLASSES), function

    def forward(self, x: Tensor) -> object:
        return self.function(self.linear(x.flatten(1)))


class CountsSteps(nn.Module):
    """A stage that counts in a whole number how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.linear = nn.Linear(SIZE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]


def norm_of_a_pool() -> list[nn.Module]:
    """A model whose BatchNorm sees one number a channel and sample."""
    pool = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1))
    return [pool, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, CLASSES)]


def refusals() -> list[tuple[list[nn.Module], str]]:
    flat, last = nn.Flatten(), nn.Linear(SIZE, CLASSES)
    return [
        ([], "model own = 'no stage': must be an nn.Module"),
        ([flat, last.to(torch.bfloat16)], r"stage 2 of 2 \(Linear\) = 'weight of torch.bfloat16': must be"),
        ([flat, nn.Linear(SIZE, CLASSES).double()], r"stage 2 of 2 \(Linear\) = 'weight of torch.float64'"),
        ([flat, nn.LazyLinear(CLASSES)], r"stage 2 of 2 \(LazyLinear\) = 'lazy weight': must have a size"),
        ([flat, nn.Linear(SIZE, CLASSES, device="meta")], "'weight on meta': must be on the CPU"),
        ([nn.Flatten(1, 2), nn.LSTM(8, CLASSES)], r"stage 2 of 2 \(LSTM\) = 'returns tuple': must return"),
        ([flat, nn.Linear(SIZE, 9)], r"stage 2 of 2 \(Linear\) = 'returns shape \(2, 9\)': must return"),
        ([nn.Conv2d(3, 8, 3)], r"\(Conv2d\) = 'input of shape \(2, 1, 8, 8\)': must be taken: Runtime"),
        ([nn.Linear(8, CLASSES)], r"returns shape \(2, 1, 8, 10\)"),
        ([Wrong(lambda z: z.argmax(1)), nn.Linear(1, CLASSES)], "'returns torch.int64': must return float32"),
        ([Wrong(lambda z: z.mean(0)), nn.Linear(1, CLASSES)], r"'returns shape \(10,\)': must return"),
        ([Wrong(lambda z: z[:1].expand(3, -1)), nn.Linear(10, 10)], r"'returns shape \(3, 10\)'"),
        ([flat, nn.Linear(SIZE, CLASSES).requires_grad_(False)], "'no trainable parameter': must have one"),
        ([CountsSteps()], "buffer = '0.steps': must not change while it trains"),
        (
            [flat, nn.BatchNorm1d(SIZE, momentum=None), nn.Linear(SIZE, CLASSES)],
            r"buffer = '1.num_batches_tracked': must not change .* \(give BatchNorm a momentum\)",
        ),
        (
            [flat, torch.nn.utils.weight_norm(nn.Linear(SIZE, CLASSES))],
            r"stage 2 of 2 \(Linear\) = 'cannot be copied \(RuntimeError\)'",
        ),
    ]


@pytest.mark.filterwarnings("ignore")  # of a layer without a size, of the old weight_norm
@pytest.mark.parametrize("number", range(16))
def test_a_model_that_cannot_be_trained_is_one_line_with_its_stage(number: int) -> None:
    stages, line = refusals()[number]
    with pytest.raises(InputError, match=line) as error:
        of(*stages)
    assert str(error.value).startswith("model own")


class Shortcut(nn.Sequential):
    """A chain that is more than its stages."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.flatten(1)[:, :CLASSES]  # type: ignore[no-any-return]


def test_a_chain_with_a_forward_of_its_own_is_cut_as_any_module_is() -> None:
    model = built(lambda shape, num_classes, generator: Shortcut(nn.Flatten(), nn.Linear(SIZE, CLASSES)))
    assert len(model.model) == 1
    assert model.traits.uncut == (
        "Shortcut has no legal cut: it has no place where one value goes on between two weights"
    )


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["Python", "NumPy"])
def test_a_stage_that_draws_from_elsewhere_is_refused(draw: Callable[[], float]) -> None:
    with pytest.raises(InputError, match="draws from NumPy's or Python's random generator"):
        of(Wrong(lambda z: z * draw()))


def test_a_chain_with_a_weight_beside_its_stages_is_refused() -> None:
    def scaled(*_: object) -> nn.Sequential:
        chain = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, CLASSES))
        chain.register_buffer("scale", torch.ones(3))
        return chain

    with pytest.raises(InputError, match="model own = 'scale': must be of a stage"):
        built(scaled)


@pytest.mark.parametrize("mean", [None, torch.zeros(SIZE)], ids=["made later", "made anew"])
def test_a_running_value_in_a_tensor_of_its_own_is_refused(mean: Tensor | None) -> None:
    with pytest.raises(InputError, match=r"buffer = .1\.mean.: must be made by the builder"):
        of(nn.Flatten(), Centres(mean), nn.Linear(SIZE, CLASSES))


def test_a_chain_has_nothing_beside_its_stages() -> None:
    def hooked(*stages: nn.Module) -> nn.Sequential:
        chain = nn.Sequential(*stages)
        chain.register_forward_hook(lambda chain, x, z: 3 * z)
        return chain

    for chain, line in (
        (StaysFrozen, "'StaysFrozen.train': must be of a stage"),
        (hooked, "'a hook of the chain itself': must be of a stage"),
    ):
        with pytest.raises(InputError, match=line):
            built(lambda *_, chain=chain: chain(nn.Flatten(), nn.Linear(SIZE, CLASSES)))


def test_a_model_is_a_module() -> None:
    with pytest.raises(InputError, match=r"model own = 'function': must be an nn.Module"):
        built(lambda shape, num_classes, generator: built)


def test_a_recurrent_layer_runs_when_a_stage_picks_its_output() -> None:
    model = of(
        nn.Flatten(1, 2), nn.Sequential(nn.LSTM(8, 16, batch_first=True), Pick()), nn.Linear(16, CLASSES)
    )
    assert not model.traits.draws


def test_a_stage_that_fails_in_the_users_code_names_his_line() -> None:
    def broken(z: Tensor) -> Tensor:
        raise KeyError("missing")

    file = r"tests/learning/models/test_model_contract.py, line \d+, in broken"
    line = f"must be taken: {file}: KeyError: 'missing'"
    with pytest.raises(InputError, match=line):
        of(Wrong(broken))


@pytest.mark.parametrize(
    ("stages", "draws", "in_evaluation"),
    [
        ([nn.Flatten(), nn.Linear(SIZE, CLASSES)], False, False),
        ([nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIZE, CLASSES)], True, False),
        ([nn.Flatten(), nn.Dropout(0.0), nn.Linear(SIZE, CLASSES)], False, False),
        ([Wrong(nn.functional.dropout)], True, True),
    ],
    ids=["no", "dropout", "dropout of nothing", "dropout that is always on"],
)
def test_who_draws_is_found(stages: list[nn.Module], draws: bool, in_evaluation: bool) -> None:
    state = torch.get_rng_state()
    traits = of(*stages).traits
    assert (traits.draws, traits.draws_in_evaluation) == (draws, in_evaluation)
    assert torch.equal(torch.get_rng_state(), state)


def test_who_cannot_train_on_one_sample_is_found() -> None:
    assert of(*norm_of_a_pool()).traits.alone == "stage 2 of 4 (BatchNorm2d)"
    assert of(*norm_of_a_pool()).traits.smallest_batch == 2
    two_values = [nn.Conv2d(1, 8, 7), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, CLASSES)]
    assert of(*two_values).traits.smallest_batch == 1


def test_stages_that_write_into_their_input_get_a_copy_and_give_the_same() -> None:
    model = built(ODD["in-place"])
    x = few_digits().x_train_NCHW[:4].clone()
    plain = as_the_builder_has_it("in-place")
    assert torch.equal(model.model(x), plain(x.clone()))
    assert torch.equal(x, few_digits().x_train_NCHW[:4])
    half = model.build()[3:]
    z = torch.randn(4, 16, requires_grad=True)
    half(z).sum().backward()
    assert z.grad is not None
    assert copy_inputs(nn.Sequential(nn.ReLU()), [])[0]._forward_pre_hooks == {}


def test_weights_that_two_stages_share_are_found_and_counted_once() -> None:
    parted = built(ODD["tied"]).traits.parted
    assert parted == {2: "1.0.weight is 2.0.weight"}
    model = built(ODD["tied"]).model
    assert sum(x.numel() for _, x in float_state(model)) == sum(p.numel() for p in model.parameters())
    assert "2.0.weight" not in dict(float_state(model))
    assert len(write_floats(model)) == 64 * 16 + 16 + 16 * 16 + 2 * 16 + 16 * 10 + 10
    assert built(ODD["returned-twice"]).traits.parted == {2: "1.0.weight is 2.0.weight"}


def test_a_norm_that_the_builder_leaves_in_evaluation_mode_keeps_its_statistics() -> None:
    def fixed(*_: object) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(SIZE).eval(), nn.Linear(SIZE, CLASSES))

    model = built(fixed)
    assert model.traits.alone == ""  # without statistics of its own, a batch of one is enough
    for chain in (model.model, model.build(), copy.deepcopy(model.model)):
        chain.eval().train()(torch.randn(4, 1, 8, 8))
        assert torch.equal(chain[1].running_mean, torch.zeros(SIZE))
        assert chain[2].training


def bits(model: nn.Module) -> Tensor:
    return write_floats(model)


def test_a_builder_that_draws_from_its_generator_is_left_alone() -> None:
    lines: list[str] = []
    torch.manual_seed(1)
    model = built(ODD["drawing"], lines.append)
    torch.manual_seed(2)
    assert torch.equal(bits(built(ODD["drawing"], lines.append).model), bits(model.model))
    assert torch.equal(bits(model.build()), bits(model.model))
    assert torch.equal(bits(model.model), bits(as_the_builder_has_it("drawing")))
    assert lines == []


def test_a_builder_that_forgets_its_generator_is_seeded_and_told() -> None:
    def careless(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, num_classes))

    lines: list[str] = []
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model = built(careless, lines.append)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(bits(built(careless).model), bits(model.model))
    assert torch.equal(bits(model.build()), bits(model.model))
    assert lines == ["model own: its builder does not draw from the generator that it gets: seeded for it"]


def test_a_builder_that_draws_from_elsewhere_is_refused() -> None:
    places = iter(range(100))

    def random(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, num_classes))
        nn.init.constant_(model[1].weight, next(places))  # as NumPy's or Python's own generator would
        return model

    with pytest.raises(InputError, match="model own = 'two builds from one seed': must be equal"):
        built(random)


def test_a_builder_may_seed_the_global_generator_without_a_trace() -> None:
    def reseeding(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
        torch.manual_seed(generator.initial_seed())
        return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, num_classes))

    lines: list[str] = []
    state = torch.get_rng_state()
    built(reseeding, lines.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert lines == []
