"""A builder that gives the same model wherever it is called, in every thread and process.

A builder should initialise its model from the generator that it gets, but PyTorch's layers draw from the
global one, and it is easily forgotten. So a model is built twice, with the global generator in two states. If
the two differ, the global generator is seeded from the run's seed for every build; if even that does not make
two builds equal, the builder draws from somewhere else and is refused. The caller's global generator stays as
it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.models.contract import ModelTraits, check_model, copy_inputs, look_at
from comdml_flwr.learning.models.cutting import CutModel, Cutting, find_cutting, hold, left_in_evaluation
from comdml_flwr.learning.structure import Nested, is_chain
from comdml_flwr.learning.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """A model that keeps the contract, as all agents begin with it.

    Parameters
    ----------
    model : nn.Sequential
        The stages.
    traits : ModelTraits
        What training must know of it.
    build : Callable[[], nn.Sequential]
        Builds another one, with the same bits.
    """

    model: nn.Sequential
    traits: ModelTraits
    build: Callable[[], nn.Sequential]


def build_model(
    builder: Callable[[torch.Generator], object],
    name: str,
    samples: Nested,
    task: Task,
    seed_for: Callable[[str], int],
    warn: Callable[[str], None],
) -> BuiltModel:
    """Build a model, and check it on two samples of its data.

    Parameters
    ----------
    builder : Callable[[torch.Generator], object]
        The user's: it should draw from the generator alone.
    name : str
        As in the run configuration.
    samples : Nested
        Two training samples, shape (2, ...).
    task : Task
        What it is to learn.
    seed_for : Callable[[str], int]
        Derives a seed from the run's, for a purpose.
    warn : Callable[[str], None]
        Is told, in one line each, what is no fault but should be known.

    Raises
    ------
    InputError
        The builder returns each time another model, or one that does not keep the contract.
    """
    seed = seed_for("model")

    def given(global_seed: int) -> tuple[nn.Module, object]:
        with global_generator(global_seed):
            returned = builder(torch.Generator().manual_seed(seed))
        return check_model(returned.model if isinstance(returned, CutModel) else returned, name), returned

    layers = seed_for("layers of the model")
    (model, returned), (another, _) = given(layers), given(seed_for("another model"))
    if not _are_equal(model, another):
        another, _ = given(layers)
        if not _are_equal(model, another):
            rule = "must be equal: initialise it from the generator that it gets and from nothing else"
            raise InputError(f"model {name}", "two builds from one seed", rule)
        warn(f"model {name}: its builder does not draw from the generator that it gets: seeded for it")
    cutting = _cutting(model, returned, name, samples)
    if cutting is not None and cutting.reason:
        warn(f"model {name} is trained whole: {cutting.reason}")
    traits, in_place = look_at(_in_stages(another, cutting), name, samples, task)
    if traits.draws_in_evaluation:
        warn(f"model {name}: draws random numbers in evaluation, too; the same in each run of one seed")
    return BuiltModel(
        model=copy_inputs(_in_stages(model, cutting), in_place),
        traits=replace(traits, uncut=cutting.reason if cutting is not None else ""),
        build=lambda: copy_inputs(_in_stages(given(layers)[0], cutting), in_place),
    )


def _cutting(model: nn.Module, returned: object, name: str, samples: Nested) -> Cutting | None:
    """Return how a model becomes a chain of stages; None where it is one."""
    if is_chain(model) and not isinstance(returned, CutModel):
        return None
    try:
        return find_cutting(returned if isinstance(returned, CutModel) else model, samples)
    except InputError as error:
        raise InputError(f"model {name}: {error.what}", error.value, error.rule) from error


def _in_stages(model: nn.Module, cutting: Cutting | None) -> nn.Sequential:
    if cutting is not None:
        return cutting.stages_of(model)
    assert isinstance(model, nn.Sequential)
    hold(model, left_in_evaluation(model))
    return model


def _are_equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(_is_equal(ours[name], theirs[name]) for name in ours)


def _is_equal(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return True  # what a module keeps beside tensors takes no part in training
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.nan_to_num(), other.nan_to_num())
