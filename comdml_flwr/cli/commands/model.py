"""`comdml model`: what a run has left of its training, whether it is whole, and how it is loaded."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comdml_flwr.cli.commands.options import App, read_app
from comdml_flwr.core.errors import LONGEST_VALUE, InputError, RunError
from comdml_flwr.core.files import is_file
from comdml_flwr.core.strict_json import from_json, read_json_file
from comdml_flwr.core.typed_json import read_ints

if TYPE_CHECKING:
    from comdml_flwr.runs.model_files import ModelFile
    from comdml_flwr.runs.own_app import OwnApp

OURS = ("resnet-56", "resnet-110")  # the keys of catalogue.MODELS, which would load torch
LOAD = """\
import safetensors.torch, torch
{builder}
model = {build}({shape}, {classes}, torch.Generator())
model.load_state_dict(safetensors.torch.load_file({path!r}))
model.eval()"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A model's file, and the digest that it must have; None where only the file itself says it."""

    path: Path
    weights_sha256: str | None = None
    node: int | None = None


def model(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, a node's folder of models, or a file.")
    ],
    app: App = None,
) -> None:
    """Say where a run's trained models are and how they are loaded; check that they are whole.

    With --app, the lines that load a model of this app take its builder from there.

    Exit status 1: a file does not hold the weights that the run has left.

    Example: comdml model results/20261125-211259-comdml-digits-seed1
    """
    from comdml_flwr.runs.model_files import read_model

    listed = _list_models(run)
    here = [entry for entry in listed if entry.node is None or is_file(entry.path)]
    found = [_checked(read_model(entry.path), entry) for entry in here]
    for file in found:
        typer.echo(
            f"{_shown(file.path, run)}: round {file.round}, {file.metric} {_score(file.score)},"
            f" weights sha256 {file.weights_sha256}"
        )
    for entry in listed:
        if entry not in here:
            typer.echo(f"on the node of agent {entry.node}: {entry.path}")
    if found:
        typer.echo(f"\n{how_to_load(found[0], read_app(app))}")


def _score(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.4f}"


def how_to_load(file: "ModelFile", app: "OwnApp | None" = None) -> str:
    """Return five lines of Python that load a model; `app` is the user's own that it is of."""
    try:
        name, shape = file.facts.get("model", ""), read_ints(from_json(file.facts.get("input_shape", "[]")))
    except (TypeError, ValueError) as error:
        raise InputError("model", str(file.path), f"has no input_shape: {error}") from None
    builder, build = _builder(name, app)
    return LOAD.format(
        builder=builder,
        build=build,
        shape=shape,
        classes=file.facts.get("num_classes") or file.facts.get("num_outputs", "?"),
        path=str(file.path.absolute()),
    )


def _builder(name: str, app: "OwnApp | None") -> tuple[str, str]:
    """Return a line that imports a model's builder, and what it is called by then."""
    if app is not None:
        catalogue = app.catalogue
        build = catalogue.own_model or catalogue.models.get(name)
        module, function = getattr(build, "__module__", None), getattr(build, "__name__", "")
        if module and getattr(sys.modules.get(module), function, None) is build:
            return f"from {module} import {function}  # in {app.folder.path}", function
    if name in OURS:
        return "from comdml_flwr.runs.catalogue import MODELS", f"MODELS[{name!r}]"
    return f"from my_app import build  # what your app calls {name!r}", "build"


def _list_models(run: Path) -> list[_Listed]:
    """Return what a run says that it has left, or what is there. Raises InputError where there is nothing."""
    if run.is_file():
        return [_Listed(path=run)]
    if not run.is_dir():
        raise InputError("RUN", str(run), "must be a run's folder, or a model's file")
    summary = _summary(run)
    if summary is not None and "models" in summary:
        listed = [_listed(run, entry) for entry in summary["models"]]
    else:
        places = ("model*.safetensors", "models*/agent-*.safetensors")
        listed = [_Listed(path=path) for place in places for path in sorted(run.glob(place))]
    if listed:
        return listed
    if (run / "config.json").is_file():
        why = "it has not ended yet, it failed, or it is of a version that left none"
        raise InputError("RUN", str(run), f"is a run without a model: {why}")
    raise InputError("RUN", str(run), "must be a run's folder: there is no config.json, and no model")


def _summary(run: Path) -> Mapping[str, list[object]] | None:
    try:
        summary: Any = read_json_file(run / "summary.json")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("RUN", str(run), f"has a summary.json that cannot be read: {reason}") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("models", []), list):
        raise InputError("RUN", str(run), "has a summary.json that no run has written")
    return summary


def _listed(run: Path, entry: object) -> _Listed:
    names, node = ("file", "weights_sha256"), None
    if isinstance(entry, Mapping) and all(isinstance(entry.get(name), str) for name in names):
        node = entry.get("node")
        if "\0" not in entry["file"] and isinstance(node, int | None):
            return _Listed(path=run / entry["file"], weights_sha256=entry["weights_sha256"], node=node)
    shown = repr(entry)[:LONGEST_VALUE]
    raise InputError("RUN", str(run), f"has a summary.json with a model {shown}")


def _checked(file: "ModelFile", entry: _Listed) -> "ModelFile":
    """Return the file. Raises RunError where it does not hold the weights that the run has left."""
    for who, digest in (("summary.json", entry.weights_sha256), ("the file", file.facts["weights_sha256"])):
        if digest is not None and digest != file.weights_sha256:
            short, other = file.weights_sha256[:16], digest[:16]
            raise RunError(f"{file.path}: its weights have sha256 {short}..., {who} says {other}...")
    return file


def _shown(path: Path, run: Path) -> str:
    return str(path.relative_to(run)) if path != run and path.is_relative_to(run) else str(path)
