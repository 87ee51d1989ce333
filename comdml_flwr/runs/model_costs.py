"""What planning and the dry run need of the model that a fleet file names: counted, not trained."""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod

import torch

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.codec import ActivationCodec
from comdml_flwr.learning.cut_profile import ModelProfile, profile_model
from comdml_flwr.learning.split import num_floats, split
from comdml_flwr.learning.task import Classification
from comdml_flwr.learning.tasks.heads import with_head
from comdml_flwr.planning.clock.simulation import Workload, batch_sizes
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.planning.types import CutTable, Profile
from comdml_flwr.runs.assemble import CODEC, cut_table
from comdml_flwr.runs.catalogue import MODELS

MAX_NUMBERS = 1e9  # in a batch: nothing so large is trained, and torch's own sizes overflow from 1e18 on


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """What planning and the clock need of a model: FLOPs of a batch, cuts, and the floats that are averaged.

    `fast_floats` and `head_floats` are those of the fast side and of the auxiliary head, by cut.
    """

    batch_flops: float
    cuts: CutTable
    num_floats: int
    fast_floats: ByCut[int]
    head_floats: ByCut[int]


def model_costs(fleet: Fleet, codec: ActivationCodec = CODEC, aux_head: str = "auto") -> ModelCosts:
    """Count what the model of a fleet file costs, where activations travel by this codec.

    Raises
    ------
    InputError
        There is no [model], or no such model.
    """
    if fleet.model is None:
        raise InputError(str(fleet.source), "no [model]", "must name a model to be planned for")
    name, shape, classes = fleet.model.name, fleet.model.input, fleet.model.num_classes
    if name not in MODELS:
        raise InputError(f"{fleet.source}: model.name", name, f"must be one of {', '.join(sorted(MODELS))}")
    for what, size in (("input", prod(shape) * fleet.model.batch_size), ("num_classes", classes)):
        if size > MAX_NUMBERS:
            raise InputError(f"{fleet.source}: model.{what}", size, f"must be at most {MAX_NUMBERS:g}")
    counted = count_model(name, tuple(shape), classes, fleet.model.batch_size, codec, aux_head)
    return ModelCosts(
        batch_flops=counted.profile.whole_flops * fleet.model.batch_size,
        cuts=cut_table(counted.profile, fleet.model.batch_size, fleet),
        num_floats=counted.num_floats,
        fast_floats=counted.fast_floats,
        head_floats=counted.head_floats,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedModel:
    """What a model costs, whatever the fleet; `fast_floats` and `head_floats` are those of `ModelCosts`."""

    profile: ModelProfile
    num_floats: int
    fast_floats: ByCut[int]
    head_floats: ByCut[int]


@lru_cache(maxsize=4)
def count_model(
    name: str, shape: tuple[int, ...], classes: int, batch_size: int, codec: ActivationCodec, aux_head: str
) -> CountedModel:
    """Count what one of our models costs, which takes a second or two; the same one is not counted twice."""
    model = MODELS[name](shape, classes, torch.Generator())
    task = with_head(Classification(input_shape=shape, num_classes=classes), aux_head)
    profile = profile_model(model, task, batch_size, codec)
    heads = [task.aux_head(cut.activation_shape, torch.Generator()) for cut in profile.cuts]
    return CountedModel(
        profile=profile,
        num_floats=num_floats(model),
        fast_floats=ByCut(num_floats(split(model, cut.cut)[1]) for cut in profile.cuts),
        head_floats=ByCut(map(num_floats, heads)),
    )


def planner_input(fleet: Fleet) -> tuple[tuple[Profile, ...], CutTable]:
    """Return what `pair_agents` takes, of a fleet file with a [model] table: its FLOPs are counted here.

    Raises
    ------
    InputError
        There is no [model], or no such model, or the file lacks a speed or a number of samples.
    """
    costs = model_costs(fleet)
    return fleet.profiles(batch_flops=costs.batch_flops), costs.cuts


def workload_of(fleet: Fleet, costs: ModelCosts, num_epochs: int = 1, most: float = inf) -> Workload:
    """Return what a round of a fleet file with a [model] table trains and sends.

    Parameters
    ----------
    fleet : Fleet
        With the samples of each agent.
    costs : ModelCosts
        Of its model.
    num_epochs : int
        Local epochs of a round.
    most : float
        Batches of an epoch that are counted one by one; see `simulation.batch_sizes`.
    """
    assert fleet.model is not None, "model_costs found one"
    size = fleet.model.batch_size
    return Workload(
        cuts=costs.cuts,
        batch_size=size,
        batches={a.id: batch_sizes(a.num_samples or 0, size, num_epochs, most=most) for a in fleet.agents},
        num_floats=costs.num_floats,
        fast_floats=costs.fast_floats,
        head_floats=costs.head_floats,
    )
