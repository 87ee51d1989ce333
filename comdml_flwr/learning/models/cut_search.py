"""The legal cuts of a traced model, and which of them are worth planning with.

A cut lies behind an operation. It is legal where the one tensor that is used on both sides is that
operation's output, float32 and (samples, ...), where each side has weights, and no weight is used on both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import fx

from comdml_flwr.learning.models.graph_facts import NodeFacts

MOST_CUTS = 16
"""That are kept of a model: more would not give a planner much choice, but a profile and a head each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCut:
    """A legal cut.

    Parameters
    ----------
    node : fx.Node
        Whose output goes from side to side.
    ends : tuple[str, ...]
        The modules that end with it, outermost first; empty where it lies inside of one.
    depth : int
        How deep in the model the outermost of these is; one more than that of a module there where none ends.
    flops : int
        Of the slow side's forward pass.
    numbers : int
        Of the activation of the batch.
    """

    node: fx.Node
    ends: tuple[str, ...]
    depth: int
    flops: int
    numbers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What came of looking for cuts.

    Parameters
    ----------
    cuts : tuple[FoundCut, ...]
        In the order of the graph.
    obstacles : Mapping[str, str]
        Where a module ends that no legal cut ends with: why, by its name.
    reason : str
        What forbids most of the places that would be cuts; empty where there is none.
    """

    cuts: tuple[FoundCut, ...]
    obstacles: Mapping[str, str]
    reason: str


def search_cuts(
    graph: fx.Graph,
    facts: Mapping[fx.Node, NodeFacts],
    stacks: Mapping[str, tuple[str, ...]],
    names: Mapping[object, str],
) -> Search:
    """Find all legal cuts of a graph.

    Parameters
    ----------
    graph : fx.Graph
        Its operations in the order in which they run.
    facts : Mapping[fx.Node, NodeFacts]
        Of each.
    stacks : Mapping[str, tuple[str, ...]]
        The modules in whose forward each runs.
    names : Mapping[object, str]
        Of the weights, by memory.
    """
    nodes = list(graph.nodes)
    steps = [n for n in nodes if not (facts[n].is_free or facts[n].scalar is not None or n.op == "output")]
    place = {node: number for number, node in enumerate(steps)}
    last_use = {node: _last_use(node, place, facts) for node in steps}
    spans: dict[object, tuple[int, int]] = {}
    for number, node in enumerate(steps):
        for weight in facts[node].weights:
            spans[weight] = (spans.get(weight, (number, 0))[0], number)
    cuts, obstacles, reasons = [], dict[str, str](), list[str]()
    begin = min((first for first, _ in spans.values()), default=0)
    end = max((last for _, last in spans.values()), default=0)
    for number, (node, following) in enumerate(pairwise(steps)):
        if not begin <= number < end:
            continue
        ends, depth = _ends(stacks.get(node.name, ()), stacks.get(following.name, ()))
        shared = [weight for weight, (first, last) in spans.items() if first <= number < last]
        crossing = [one for one in steps[: number + 1] if last_use[one] > number]
        why = ""
        if crossing != [node]:
            why = f"{len(crossing)} values go on: {', '.join(one.name for one in crossing[:4])}"
        elif not facts[node].is_activation:
            why = f"{node.name} is no float32 tensor of (samples, ...)"
        elif shared:
            why = f"both sides use {names.get(shared[0], 'a weight')}"
        if why:
            reasons.append(why)
            obstacles.update(dict.fromkeys(ends, why))
            continue
        numbers = prod(facts[node].shape or ())
        cuts.append(FoundCut(node=node, ends=ends, depth=depth, flops=facts[node].flops, numbers=numbers))
    reason = max(reasons, key=lambda one: (one.startswith("both"), reasons.count(one)), default="")
    return Search(cuts=tuple(cuts), obstacles=obstacles, reason=reason)


def thin(cuts: Sequence[FoundCut], most: int = MOST_CUTS) -> list[FoundCut]:
    """Keep the cuts that a planner has a use for, at most so many.

    The cuts are in the order of the graph. Of those that leave a slow side the same work, the one with the
    smallest activation is kept, unless another ends a module farther out; of equal ones the last. Beyond
    `most`, those deepest inside of modules go first, and of these the one whose neighbours are closest in
    work.
    """
    kept = [
        cut
        for number, cut in enumerate(cuts)
        if not any(_dominates(other, cut, is_later=place > number) for place, other in enumerate(cuts))
    ]
    while len(kept) > most:
        deepest = max(cut.depth for cut in kept)
        edges = [0, *(cut.flops for cut in kept), max(cut.flops for cut in kept) + 1]
        inner = [number for number, cut in enumerate(kept) if cut.depth == deepest]
        del kept[min(inner, key=lambda number: edges[number + 2] - edges[number])]
    return kept


def _dominates(one: FoundCut, other: FoundCut, *, is_later: bool) -> bool:
    if one.flops != other.flops or one.numbers > other.numbers or one.depth > other.depth:
        return False
    return is_later or (one.numbers, one.depth) != (other.numbers, other.depth)


def _last_use(node: fx.Node, place: Mapping[fx.Node, int], facts: Mapping[fx.Node, NodeFacts]) -> int:
    """Return the last step that uses a node's output itself, and not only its size."""
    uses = [-1]
    for user in node.users:
        if user.op == "output":
            uses.append(len(place))
        elif facts[user].scalar is None:
            uses.append(place[user])
    return max(uses)


def _ends(stack: tuple[str, ...], following: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Return the modules that end between two steps, and how deep the outermost of them is."""
    ends = tuple(path for path in stack if path not in following)
    return ends, stack.index(ends[0]) + 1 if ends else len(stack) + 2
