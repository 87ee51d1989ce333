"""The graph of a model: which operation uses which value, found without the user's help.

A model is traced with torch.fx, which runs its forward with stand-ins for tensors. Where that fails (keyword
arguments, sizes that decide what runs), torch.export runs it on the batch instead. Where that fails too, the
modules that cannot be traced are taken as one operation each, and what is around them is traced. Control flow
that depends on data in the model's own forward cannot be traced at all.

What dropout or BatchNorm do in training and in evaluation may be part of a graph, so there is one for each.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import torch
from torch import Tensor, fx, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.user_code import describe_error, is_of_user
from comdml_flwr.learning.structure import Nested, flatten

OUTPUTS = ("logits", "out")
"""What is taken of a model that returns several things: Hugging Face's and torchvision's names."""
_MOST_OPAQUE = 64  # modules that are taken as one operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A graph, whose `get_attr` and `call_module` targets are the model's own names.

    Parameters
    ----------
    graph : fx.Graph
        It returns one value.
    constants : Mapping[str, Tensor]
        Tensors that the graph uses and the model does not have, by target.
    stacks : Mapping[str, tuple[str, ...]]
        By a node's name, the modules in whose forward it runs, outermost first.
    """

    graph: fx.Graph
    constants: Mapping[str, Tensor]
    stacks: Mapping[str, tuple[str, ...]]


def pick_output(output: object) -> object:
    """Return a model's one output: of a dict or a named tuple, its "logits" or "out"."""
    if isinstance(output, Tensor | fx.Proxy):
        return output
    for name in OUTPUTS:
        if isinstance(output, Mapping) and name in output:
            return output[name]
        if hasattr(output, name):
            return getattr(output, name)
    rule = f"must return one tensor, or what has {' or '.join(OUTPUTS)}"
    raise InputError("model", f"returns {type(output).__name__}", rule)


def trace(model: nn.Module, inputs: Nested) -> Traced:
    """Trace a model in the mode that it is in.

    Parameters
    ----------
    model : nn.Module
        As it is called: on a tensor, on a tuple of tensors, or on a dict of them by name.
    inputs : Nested
        A batch.

    Raises
    ------
    InputError
        It cannot be traced.
    """
    names, by_name = _arguments(inputs)
    try:
        return _symbolic(model, names, by_name, set())
    except Exception as error:
        first = error
    try:
        return _exported(model, names, by_name, inputs)
    except Exception:  # of any kind: torch.export runs the user's code in modes that it may not stand
        return _around_opaque(model, names, by_name, first)


def _arguments(inputs: Nested) -> tuple[list[str], bool]:
    """Return names for a model's arguments, and whether they are given by name."""
    if isinstance(inputs, Tensor):
        return ["x"], False
    parts = inputs.values() if isinstance(inputs, dict) else inputs
    if not all(isinstance(part, Tensor) for part in parts):
        raise InputError("model", "nested inputs", "must be a tensor, or a tuple or dict of tensors")
    if isinstance(inputs, dict):
        return list(inputs), True
    return [f"x{place}" for place in range(len(inputs))], False


class _Tracer(fx.Tracer):
    """Traces a forward of any signature; takes some modules as one operation; notes where it failed."""

    def __init__(self, names: list[str], by_name: bool, opaque: set[str]) -> None:
        super().__init__()
        self._names, self._by_name, self._opaque = names, by_name, opaque
        self.failed_in = ""

    def create_args_for_root(
        self, root_fn: Callable[..., object], is_module: bool, concrete_args: object = None
    ) -> tuple[Callable[..., object], list[object]]:
        """Return the forward with its output picked, and its arguments."""
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in self._names]

        def forward(root, *values):  # type: ignore[no-untyped-def]  # an annotation would get into the graph
            if self._by_name:
                return pick_output(root_fn(root, **dict(zip(self._names, values, strict=True))))
            return pick_output(root_fn(root, *values))

        return forward, [self.root, *proxies]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module is one operation."""
        return module_qualified_name in self._opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Trace a module; note the innermost one that fails."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.path_of_module(m)
            raise


def _symbolic(model: nn.Module, names: list[str], by_name: bool, opaque: set[str]) -> Traced:
    tracer = _Tracer(names, by_name, opaque)
    before = set(model.__dict__)
    try:
        graph = tracer.trace(model)
    except Exception as error:
        error.failed_in = tracer.failed_in  # type: ignore[attr-defined]
        raise
    finally:
        made = {name: model.__dict__.pop(name) for name in set(model.__dict__) - before}
    constants = {name: value for name, value in made.items() if isinstance(value, Tensor)}
    return Traced(graph=graph, constants=constants, stacks={n.name: _stack(n, "") for n in graph.nodes})


def _around_opaque(model: nn.Module, names: list[str], by_name: bool, first: Exception) -> Traced:
    """Trace a model, with the modules that fail as one operation each."""
    opaque: set[str] = set()
    error: Exception = first
    for _ in range(_MOST_OPAQUE):
        failed_in = getattr(error, "failed_in", "")
        if not failed_in or failed_in in opaque:
            break
        opaque.add(failed_in)
        try:
            return _symbolic(model, names, by_name, opaque)
        except Exception as another:
            error = another
    if isinstance(error, InputError):
        raise error
    told = describe_error(error) if is_of_user(error) else f"{type(error).__name__}: {error}"
    told = " ".join(told.split())
    rule = f"must not depend on the data, or lie in a module of its own: {told}"
    raise InputError("model", f"control flow in {type(model).__name__}.forward", rule) from error


class _Picks(nn.Module):
    """A model with its arguments in order and its output picked."""

    def __init__(self, model: nn.Module, names: list[str], by_name: bool) -> None:
        super().__init__()
        self.model, self._names, self._by_name = model, names, by_name
        self.training = model.training

    def forward(self, *inputs: Tensor) -> object:
        """Return the one output."""
        if self._by_name:
            return pick_output(self.model(**dict(zip(self._names, inputs, strict=True))))
        return pick_output(self.model(*inputs))


def _exported(model: nn.Module, names: list[str], by_name: bool, inputs: Nested) -> Traced:
    """Trace a model with torch.export; the number of samples is free."""
    tensors = tuple(flatten(inputs).values())
    samples = tuple({0: torch.export.Dim.DYNAMIC} for _ in tensors)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it prints the whole graph where it fails
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            program = torch.export.export(
                _Picks(model, names, by_name), tensors, dynamic_shapes={"inputs": samples}, strict=False
            )
    finally:
        logging.disable(level)
    exported = program.module()
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    constants: dict[str, Tensor] = {}
    stacks: dict[str, tuple[str, ...]] = {}
    own = {*model.state_dict(), *(name for name, _ in model.named_buffers())}
    rest = iter(names)
    for node in exported.graph.nodes:
        if node.name == "_guards_fn" or "_assert" in str(node.target):
            continue  # they check what holds for the batch
        if node.op == "placeholder":
            env[node] = graph.placeholder(next(rest))
        elif node.op == "get_attr":
            target = node.target.removeprefix("model.")
            if target not in own:
                target = f"exported_{node.name}"
                constants[target] = _resolve(exported, node.target).detach()
            env[node] = graph.create_node("get_attr", target, name=node.name)
        elif node.op == "output":
            (value,) = node.args[0] if isinstance(node.args[0], tuple | list) else node.args
            graph.output(env[value])
        else:
            env[node] = graph.node_copy(node, lambda one: env[one])
            stacks[env[node].name] = _stack(node, "model.")
    return Traced(graph=graph, constants=constants, stacks=stacks)


def _resolve(root: object, target: str) -> Tensor:
    for part in target.split("."):
        root = getattr(root, part)
    if not isinstance(root, Tensor):
        raise TypeError(f"{target} is no tensor")
    return root


def _stack(node: fx.Node, prefix: str) -> tuple[str, ...]:
    """Return the modules in whose forward a node runs, without the model itself."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    inner = [path for path in paths if path.startswith(prefix) and not path.startswith("_empty")]
    return tuple(path.removeprefix(prefix) for path in inner if path.removeprefix(prefix))
