"""What is known of each operation of a model's graph, by running it on two batches of other sizes.

scalar      a size, a shape, a type or a device: where it is not at hand it is written down, the number of
samples as that of the input of a stage
free        a tensor that depends neither on data nor on weights that travel, such as a mask: each stage
that needs it makes its own
data        all else
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from comdml_flwr.learning.global_generator import global_generator, has_drawn
from comdml_flwr.learning.models.tracing import Traced
from comdml_flwr.learning.split import memory_of
from comdml_flwr.learning.structure import Nested, count_samples, flatten, take

SAMPLES = "samples"
"""Stands for the number of samples, in a scalar."""
_PLAIN = (bool, int, float, str, torch.dtype, type(None))


@dataclass(slots=True, kw_only=True)
class NodeFacts:
    """What is known of a node.

    Parameters
    ----------
    shape : tuple[int, ...] or None
        Of its tensor, for the first batch; None: it is no single tensor.
    is_activation : bool
        Whether it can go from one stage to the next: float32, (samples, ...).
    scalar : object
        As it is written down, in a tuple of one; None: it is no scalar.
    mutates, draws : bool
        Whether it writes into its inputs or into a module's buffers; whether it draws random numbers.
    is_free : bool
        Whether each stage may make its own.
    flops : int
        Of the graph's forward pass up to here.
    weights : frozenset[object]
        The weights that it uses and that travel, by memory.
    """

    shape: tuple[int, ...] | None = None
    is_activation: bool = False
    scalar: tuple[object] | None = None
    mutates: bool = False
    draws: bool = False
    is_free: bool = False
    flops: int = 0
    weights: frozenset[object] = frozenset()


class _Watch(fx.Interpreter):
    """Runs a graph and keeps of each value what is needed."""

    def __init__(self, module: fx.GraphModule, flops: FlopCounterMode) -> None:
        super().__init__(module)
        self.facts: dict[str, NodeFacts] = {}
        self.values: dict[str, object] = {}
        self._flops = flops

    def run_node(self, n: fx.Node) -> object:
        """Run a node, and look at what it does."""
        taken = [x for one in n.all_input_nodes if isinstance(x := self.env.get(one), Tensor)]
        if n.op == "call_module":
            assert isinstance(n.target, str)
            taken += list(self.module.get_submodule(n.target).buffers())
        versions = [x._version for x in taken]
        with global_generator(0):
            value = super().run_node(n)
            draws = has_drawn(0)
        fact = NodeFacts(draws=draws, mutates=[x._version for x in taken] != versions)
        fact.flops = self._flops.get_total_flops()
        if isinstance(value, Tensor):
            fact.shape = tuple(value.shape)
            fact.is_activation = value.dtype == torch.float32 and value.dim() > 1 and value.numel() > 0
        else:
            self.values[n.name] = value
        self.facts[n.name] = fact
        return value


def look_at_graph(model: nn.Module, traced: Traced, inputs: Nested) -> dict[fx.Node, NodeFacts]:
    """Run a graph on a batch and on one with another number of samples; the model's buffers change."""
    first, second = count_samples(inputs), count_samples(inputs) + 1
    rows = torch.arange(second) % first
    runs = [_run(model, traced, batch) for batch in (inputs, take(inputs, rows))]
    (facts, values), (others, other_values) = runs
    weights = _travelling(model)
    found: dict[fx.Node, NodeFacts] = {}
    for node in traced.graph.nodes:
        fact, other = facts[node.name], others[node.name]
        fact.is_activation &= bool(fact.shape and other.shape) and (fact.shape or (0,))[0] == first
        fact.is_activation &= (other.shape or (0,))[0] == second
        if node.name in values and node.op not in ("output", "placeholder"):
            fact.scalar = _written_down(values[node.name], other_values.get(node.name), (first, second))
        fact.weights = _weights_of(model, node, weights)
        fact.is_free = _is_free(node, fact, found)
        found[node] = fact
    for node in traced.graph.nodes:  # what is written into later is not made twice
        if found[node].mutates:
            for one in node.all_input_nodes:
                _bind(one, found)
    for node in reversed(traced.graph.nodes):  # what nobody uses
        if not (
            node.users or found[node].mutates or found[node].draws or node.op in ("placeholder", "output")
        ):
            traced.graph.erase_node(node)
            del found[node]
    return found


def _run(model: nn.Module, traced: Traced, inputs: Nested) -> tuple[dict[str, NodeFacts], dict[str, object]]:
    targets = {n.target for n in traced.graph.nodes if n.op in ("get_attr", "call_module")}
    root = {target: find(model, traced.constants, target) for target in targets}
    module = fx.GraphModule(root, traced.graph)
    module.train(model.training)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        watch = _Watch(module, flops)
        watch.run(*(x.clone() for x in flatten(inputs).values()))
    return watch.facts, watch.values


def find(model: nn.Module, constants: Mapping[str, Tensor], target: str) -> nn.Module | Tensor:
    """Return what a graph calls by this name: a constant, or a module or tensor of the model."""
    if target in constants:
        return constants[target]
    value: object = model
    for part in target.split("."):
        value = getattr(value, part)
    assert isinstance(value, nn.Module | Tensor)
    return value


def _travelling(model: nn.Module) -> set[object]:
    floats = (x for x in model.state_dict().values() if isinstance(x, Tensor) and x.is_floating_point())
    return {memory_of(x) for x in floats if x.numel()}


def _weights_of(model: nn.Module, node: fx.Node, travelling: set[object]) -> frozenset[object]:
    if node.op == "call_module":
        assert isinstance(node.target, str)
        state = model.get_submodule(node.target).state_dict().values()
        return frozenset(memory_of(x) for x in state if isinstance(x, Tensor)) & travelling
    used: set[object] = set()
    for one in node.all_input_nodes:
        if one.op == "get_attr" and hasattr(model, str(one.target).partition(".")[0]):
            value = find(model, {}, str(one.target))
            used |= {memory_of(value)} if isinstance(value, Tensor) else set()
    return frozenset(used) & travelling


def _written_down(value: object, other: object, sizes: tuple[int, int]) -> tuple[object] | None:
    """Return a scalar in a tuple: whole multiples of the number of samples as (SAMPLES, factor)."""
    if isinstance(value, torch.Size | tuple) and isinstance(other, torch.Size | tuple):
        if len(value) != len(other):
            return None
        parts = [_written_down(a, b, sizes) for a, b in zip(value, other, strict=True)]
        return None if None in parts else (tuple(part[0] for part in parts if part),)
    if isinstance(value, torch.device):
        return (value,)
    if not isinstance(value, _PLAIN):
        return None
    if value == other and not (isinstance(value, float) and value != value):
        return (value,)
    if type(value) is int and type(other) is int and value % sizes[0] == 0 and other % sizes[1] == 0:
        factor = value // sizes[0]
        return ((SAMPLES, factor),) if factor == other // sizes[1] else None
    return None


def _is_free(node: fx.Node, fact: NodeFacts, before: Mapping[fx.Node, NodeFacts]) -> bool:
    if node.op in ("placeholder", "output", "call_module") or fact.draws or fact.mutates or fact.weights:
        return False
    if fact.scalar is not None or node.op == "get_attr":
        return node.op == "get_attr"
    return all(before[one].is_free or before[one].scalar is not None for one in node.all_input_nodes)


def _bind(node: fx.Node, facts: Mapping[fx.Node, NodeFacts]) -> None:
    """Make a node, and all that uses it, no longer free."""
    if facts[node].is_free and node.op != "get_attr":
        facts[node].is_free = False
        for user in node.users:
            _bind(user, facts)
