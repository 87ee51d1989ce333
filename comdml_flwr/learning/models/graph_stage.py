"""Stages that run a part of a model's graph in the user's own modules.

What such a stage holds goes by the names that it has in the model: the state of all stages of a chain,
without the stages' own names, is the model's state, and `model.load_state_dict` takes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from comdml_flwr.learning.models.graph_facts import SAMPLES, NodeFacts, find
from comdml_flwr.learning.models.tracing import Traced, pick_output
from comdml_flwr.learning.split import memory_of

_Forward = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A part of a graph, for all models of one architecture.

    Parameters
    ----------
    label : str
        What it ends with, as people know it.
    train, evaluate : Callable
        Take the stage and its inputs.
    targets : frozenset[str]
        The modules and tensors of the model that it uses, by name.
    constants : Mapping[str, Tensor]
        Further tensors that it uses.
    """

    label: str
    train: _Forward
    evaluate: _Forward
    targets: frozenset[str]
    constants: Mapping[str, Tensor]

    def __deepcopy__(self, memo: object) -> "Part":
        return self


class GraphStage(nn.Module):
    """A part of a model.

    Parameters
    ----------
    part : Part
        What it runs.
    model : nn.Module
        Whose modules it shares.
    """

    own_prefix = ""

    def __init__(self, part: Part, model: nn.Module) -> None:
        super().__init__()
        self._part = part
        for target in sorted(part.targets):
            attach(self, target, find(model, {}, target), is_persistent(model, target))
        for name, constant in part.constants.items():
            self.register_buffer(name, constant.clone(), persistent=False)

    @property
    def label(self) -> str:
        """What it ends with."""
        return self._part.label

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return what goes to the next stage, or the model's output."""
        run = self._part.train if self.training else self._part.evaluate
        return run(self, *inputs, **named)


class WholeModel(nn.Module):
    """The one stage of a model that is not cut.

    Parameters
    ----------
    model : nn.Module
        The user's.
    """

    own_prefix = "model."

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    @property
    def label(self) -> str:
        """Whose model it is."""
        return type(self.model).__name__

    def forward(self, *inputs: Tensor, **named: Tensor) -> object:
        """Return the model's one output."""
        return pick_output(self.model(*inputs, **named))


def attach(stage: nn.Module, path: str, value: nn.Module | Tensor, persistent: bool) -> None:
    """Let a stage hold a module or tensor under the name that it has in its model."""
    *outer, name = path.split(".")
    owner = stage
    for part in outer:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if name in owner._modules and isinstance(value, nn.Module):
        inside = owner._modules[name]
        if inside is not value and inside is not None:  # it holds some of the module's tensors already
            owner._modules[name] = value
    elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        if name not in owner._buffers:
            owner.register_buffer(name, value, persistent=persistent)
    elif not hasattr(owner, name):
        setattr(owner, name, value)


def is_persistent(model: nn.Module, path: str) -> bool:
    """Tell whether a tensor of a model is part of its state."""
    outer, _, name = path.rpartition(".")
    return name not in model.get_submodule(outer)._non_persistent_buffers_set


def attach_rest(stages: list[nn.Module], model: nn.Module) -> None:
    """Let the stages hold what the graph does not use, so that nothing of the model's state is lost.

    A second name of a weight goes to the stage that has the first one. What no stage uses is not trained.
    """
    held: dict[object, int] = {}
    names: set[str] = set()
    for number, stage in enumerate(stages):
        for name, x in stage.state_dict().items():
            names.add(name)
            if isinstance(x, Tensor) and x.numel():
                held.setdefault(memory_of(x), number)
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, x in tensors:
        if name in names or not is_persistent(model, name):
            continue
        number = held.get(memory_of(x), -1)
        if number < 0:
            x.requires_grad_(False)
        attach(stages[number], name, x, True)


def make_part(
    label: str,
    graphs: tuple[tuple[Traced, Mapping[fx.Node, NodeFacts]], tuple[Traced, Mapping[fx.Node, NodeFacts]]],
    begins: tuple[fx.Node | None, fx.Node | None],
    ends: tuple[fx.Node | None, fx.Node | None],
) -> Part:
    """Make a part of the graphs of training and of evaluation, from behind one node up to another.

    `begins` is None for the first part, and `ends` for the last.
    """
    targets: set[str] = set()
    constants: dict[str, Tensor] = {}
    forwards = []
    for mode, (traced, facts), begin, end in zip("te", graphs, begins, ends, strict=True):
        graph = _Copy(traced, facts, mode).part(begin, end)
        for node in graph.nodes:
            if node.op not in ("get_attr", "call_module"):
                continue
            assert isinstance(node.target, str)
            constant = traced.constants.get(node.target.removeprefix(f"{mode}_"))
            if constant is None:
                targets.add(node.target)
            else:
                constants[node.target] = constant
        forwards.append(_compiled(graph))
    return Part(
        label=label,
        train=forwards[0],
        evaluate=forwards[1],
        targets=frozenset(targets),
        constants=constants,
    )


class _Copy:
    """Copies a part of a graph into a graph of its own."""

    def __init__(self, traced: Traced, facts: Mapping[fx.Node, NodeFacts], mode: str) -> None:
        self._traced, self._facts, self._mode = traced, facts, mode
        self._graph = fx.Graph()
        self._env: dict[fx.Node, fx.Node] = {}
        self._input: fx.Node | None = None
        self._scalars: dict[object, fx.Node] = {}

    def part(self, begin: fx.Node | None, end: fx.Node | None) -> fx.Graph:
        nodes = list(self._traced.graph.nodes)
        if begin is None:
            start = 0
        else:
            start = nodes.index(begin) + 1
            self._env[begin] = self._input = self._graph.placeholder("x")
        output = nodes[-1].args[0]
        last = end if end is not None else output
        assert isinstance(last, fx.Node)
        for node in nodes[start : len(nodes) - 1 if end is None else nodes.index(end) + 1]:
            if node.op == "placeholder":
                self._env[node] = self._graph.placeholder(str(node.target))
                self._input = self._input or self._env[node]
            elif not self._facts[node].is_free and self._facts[node].scalar is None:
                self._emit(node)
        self._graph.output(self._get(last))  # type: ignore[arg-type]
        return self._graph

    def _get(self, node: fx.Node) -> object:
        if node in self._env:
            return self._env[node]
        scalar = self._facts[node].scalar
        if scalar is not None and not all(one in self._env for one in node.all_input_nodes):
            return self._written(scalar[0])
        return self._emit(node)

    def _emit(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr":
            is_constant = node.target in self._traced.constants
            target = f"{self._mode}_{node.target}" if is_constant else node.target
            self._env[node] = self._graph.create_node("get_attr", target)
            return self._env[node]
        args, kwargs = self._taken(node.args), self._taken(node.kwargs)
        self._env[node] = self._graph.create_node(
            node.op,
            node.target,
            args,  # type: ignore[arg-type]
            kwargs,  # type: ignore[arg-type]
            name=node.name,
        )
        return self._env[node]

    def _taken(self, value: object) -> object:
        """Return arguments in the new graph, on the device of the input."""
        if isinstance(value, fx.Node):
            return self._get(value)
        if isinstance(value, torch.device):
            return self._written(value)
        if isinstance(value, tuple | list):
            parts = list(map(self._taken, value))
            return tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, dict):
            return {key: self._taken(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._taken, (value.start, value.stop, value.step)))
        return value

    def _written(self, scalar: object) -> object:
        if isinstance(scalar, torch.device):
            return self._call("device", getattr, (self._input, "device"))
        if isinstance(scalar, tuple) and len(scalar) == 2 and scalar[0] == SAMPLES:
            size = self._call(SAMPLES, len, (self._input,))
            return size if scalar[1] == 1 else self._call(scalar, _times, (size, scalar[1]))
        return tuple(map(self._written, scalar)) if isinstance(scalar, tuple) else scalar

    def _call(self, key: object, function: Callable[..., object], args: tuple[object, ...]) -> fx.Node:
        if key not in self._scalars:
            self._scalars[key] = self._graph.call_function(function, args)  # type: ignore[arg-type]
        return self._scalars[key]


def _times(size: int, factor: int) -> int:
    return size * factor


def _compiled(graph: fx.Graph) -> _Forward:
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<a part of the model>", "exec"), scope)
    forward: _Forward = scope["forward"]
    return forward
