"""Any nn.Module as a chain of stages, which the rest of the package trains.

How a model gets cut: its graph is found (tracing.py), run on a batch (graph_facts.py), and searched for the
places where one tensor goes on (cut_search.py). Some of these become the borders of stages that share the
model's modules (graph_stage.py), and the stages are held against the model on the batch (equality.py).

What cannot be cut becomes a chain of one stage, with the reason: methods that train a whole model take it.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import fx, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.models.cut_search import FoundCut, Search, search_cuts, thin
from comdml_flwr.learning.models.equality import TOLERANCE, largest_difference
from comdml_flwr.learning.models.graph_facts import NodeFacts, look_at_graph
from comdml_flwr.learning.models.graph_stage import GraphStage, Part, WholeModel, attach_rest, make_part
from comdml_flwr.learning.models.tracing import Traced, trace
from comdml_flwr.learning.split import memory_of
from comdml_flwr.learning.structure import Nested


@dataclass(frozen=True, slots=True, kw_only=True)
class CutModel:
    """A model with places to cut that its author has chosen: see `cut_at`."""

    model: nn.Module
    cuts: tuple[str, ...]


def cut_at(model: nn.Module, cuts: Sequence[str]) -> CutModel:
    """Say after which modules a model may be cut, instead of letting the cuts be found.

    Parameters
    ----------
    model : nn.Module
        What a builder would return.
    cuts : Sequence[str]
        Names of modules, as `model.named_modules()` has them; a list of an `nn.Sequential`'s children or of
        any others, such as ["layer2", "layer3.0"]. One tensor alone may be used on both sides of each.
    """
    if isinstance(cuts, str) or not cuts:
        raise InputError("cuts", cuts, 'must be a list of names of modules, such as ["layer2", "layer3"]')
    known = {name for name, _ in model.named_modules()} - {""}
    for name in cuts:
        if name not in known:
            raise InputError("cuts", name, f"must be the name of a module of {type(model).__name__}")
    return CutModel(model=model, cuts=tuple(cuts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """How models of one architecture become chains of stages.

    Parameters
    ----------
    parts : tuple[Part, ...]
        The stages; empty where the model is not cut.
    num_found : int
        How many legal cuts there are, of which len(parts) - 1 are kept.
    reason : str
        Why it is not cut; empty where it is.
    difference : float
        The largest difference between stages and model, relative to the largest number of a tensor.
    held : tuple[str, ...]
        The modules that stay in evaluation mode while the model trains.
    """

    parts: tuple[Part, ...] = ()
    num_found: int = 0
    reason: str = ""
    difference: float = 0.0
    held: tuple[str, ...] = ()

    def stages_of(self, model: nn.Module) -> nn.Sequential:
        """Return a model as a chain of stages that share its modules."""
        hold(model, self.held)
        if not self.parts:
            return nn.Sequential(WholeModel(model))
        stages: list[nn.Module] = [GraphStage(part, model) for part in self.parts]
        attach_rest(stages, model)
        return nn.Sequential(*stages).train(model.training)


def find_cutting(given: nn.Module | CutModel, inputs: Nested, most: int | None = None) -> Cutting:
    """Find out how a model is cut, and prove on a batch that its stages are the model.

    Parameters
    ----------
    given : nn.Module or CutModel
        Neither it nor any random state is changed.
    inputs : Nested
        A batch of at least 2 samples, as the model takes them: a tensor, or a tuple or dict of tensors.
    most : int, optional
        How many cuts are kept at most. By default as `thin` has it; -1: all.

    Raises
    ------
    InputError
        There is no legal cut where the user wants one.
    """
    model = copy.deepcopy(given.model if isinstance(given, CutModel) else given)
    held = _held(model)
    whole = Cutting(held=held)
    hold(model, held)
    with global_generator(0):
        try:
            graphs = [_graph(model, inputs, training) for training in (True, False)]
        except InputError as error:
            if isinstance(given, CutModel):
                raise
            return replace(whole, reason=f"{error.value} {error.rule}")
        except Exception as error:
            return replace(whole, reason=f"its graph does not run: {_told(error)}")
        (traced, facts, names), (traced_evaluation, facts_evaluation, _) = graphs
        search = search_cuts(traced.graph, facts, traced.stacks, names)
        same = search_cuts(traced_evaluation.graph, facts_evaluation, traced_evaluation.stacks, names)
        both = {cut.node.name: cut.node for cut in same.cuts}
        pairs = [
            (cut, both[cut.node.name])
            for cut in search.cuts
            if cut.node.name in both
            and _weights_before(cut.node, facts) == _weights_before(both[cut.node.name], facts_evaluation)
        ]
        kept = _kept(given, [cut for cut, _ in pairs], search, most)
        if not kept:
            reason = search.reason or "it has no place where one value goes on between two weights"
            return replace(whole, reason=f"{type(model).__name__} has no legal cut: {reason}")
        partner = {cut.node: other for cut, other in pairs}
        borders = [(cut.node, partner[cut.node]) for cut in kept]
        labels = [cut.ends[0] if cut.ends else cut.node.name for cut in kept] + ["output"]
        parts = tuple(
            make_part(f"up to {label}", ((traced, facts), (traced_evaluation, facts_evaluation)), begin, end)
            for label, begin, end in zip(
                labels, [(None, None), *borders], [*borders, (None, None)], strict=True
            )
        )
    cutting = replace(whole, parts=parts, num_found=len(pairs))
    try:
        difference, where = largest_difference(model, cutting.stages_of, inputs)
    except Exception as error:
        return replace(whole, reason=f"its stages do not run: {_told(error)}")
    if difference > TOLERANCE:
        return replace(whole, reason=f"its stages are not the model: {where} differs by {difference:.1e}")
    return replace(cutting, difference=difference)


def _graph(
    model: nn.Module, inputs: Nested, training: bool
) -> tuple[Traced, dict[fx.Node, NodeFacts], dict[object, str]]:
    """Return the graph of one mode, what is known of its nodes, and the names of the weights by memory."""
    scratch = copy.deepcopy(model).train(training)
    names: dict[object, str] = {memory_of(x): name for name, x in scratch.named_parameters()}
    traced = trace(scratch, inputs)
    return traced, look_at_graph(scratch, traced, inputs), names


def _kept(
    given: nn.Module | CutModel, cuts: list[FoundCut], search: Search, most: int | None
) -> list[FoundCut]:
    if not isinstance(given, CutModel):
        return cuts if most == -1 else thin(cuts) if most is None else thin(cuts, most)
    chosen = []
    for name in given.cuts:
        ending = [cut for cut in cuts if name in cut.ends]
        if not ending:
            why = search.obstacles.get(name, "no value of it alone goes on to other weights")
            raise InputError("cuts", name, f"must be a module after which one tensor goes on: {why}")
        chosen.append(ending[-1])
    return [cut for cut in cuts if cut in chosen]


def _weights_before(border: fx.Node, facts: dict[fx.Node, NodeFacts]) -> int:
    """Count the weights that are used up to a node, the same in training and in evaluation."""
    used: set[object] = set()
    for node, fact in facts.items():
        used |= fact.weights
        if node is border:
            break
    return len(used)


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _held(model: nn.Module) -> tuple[str, ...]:
    """Return the modules that stay in evaluation mode: left so by the builder, or by their own `train`."""
    left = set(left_in_evaluation(model))
    model.train()
    return tuple(
        sorted(left | {name for name, module in model.named_modules() if name and not module.training})
    )


def left_in_evaluation(model: nn.Module) -> list[str]:
    """Return the modules that a builder has put into evaluation mode, in a model that is not."""
    return [name for name, module in model.named_modules() if model.training and not module.training]


def hold(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Keep these modules in evaluation mode, in place, whatever mode the model is in; return the model."""
    for name in names:
        module = model.get_submodule(name)
        module.train = partial(_stay, module)  # type: ignore[method-assign]
    return model


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train`: the module stays in evaluation mode."""
    for child in module.modules():
        child.training = False
    return module
