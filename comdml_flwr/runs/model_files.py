"""A trained model as a file, and how it is found to be whole.

It is a safetensors file with the model's own names, float32 as trained, so that any PyTorch reads it:

    model.load_state_dict(safetensors.torch.load_file("model.safetensors"))

Its metadata (all strings) say where it comes from: `run`, `round`, `metric` and its value, `config_sha256`
(of the run's `config.json`), `model`, `dataset`, `input_shape`, `num_classes`, and `agent` where each agent
has a model of its own. `weights_sha256` is the digest that the agents reported in that round: of the floats,
in the order that `floats` gives. The same model of the same run is the same file to the byte, whoever writes
it: so the layout is written here (wire.py), as the library puts metadata into another order each time.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from comdml_flwr.core.errors import LONGEST_VALUE, InputError
from comdml_flwr.core.files import make_folder, read_file, write_file
from comdml_flwr.core.strict_json import from_json
from comdml_flwr.core.typed_json import read_texts
from comdml_flwr.core.wire import layout_parts

if TYPE_CHECKING:
    from comdml_flwr.learning.state_layout import StateLayout

LAST, BEST = "last", "best"
_OF_ONE = {LAST: "model.safetensors", BEST: "model-best.safetensors"}
_OF_EACH = {LAST: "models", BEST: "models-best"}


def file_name(kind: str, agent: int | None = None) -> str:
    """Return the name of a model's file in its folder: of the common model, or of an agent's own.

    Examples
    --------
    >>> file_name(LAST), file_name(BEST, 3)
    ('model.safetensors', 'models-best/agent-3.safetensors')
    """
    return _OF_ONE[kind] if agent is None else f"{_OF_EACH[kind]}/agent-{agent}.safetensors"


def config_sha256(values: Mapping[str, object]) -> str:
    """Return the digest of a run's configuration: of `config.json` with its keys sorted."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_model(
    path: Path, layout: "StateLayout", weights_P: NDArray[np.float32], facts: Mapping[str, str]
) -> str:
    """Write a model's file, whole or not at all; return the digest of its floats.

    Parameters
    ----------
    path : Path
        Of the file.
    layout : StateLayout
        Of the model.
    weights_P : ndarray
        All its floats, float32, shape (P,).
    facts : Mapping[str, str]
        Metadata besides the digest and the floats' order.
    """
    digest = hashlib.sha256(weights_P.data).hexdigest()
    about = {"format": "pt", **facts, "weights_sha256": digest, "floats": json.dumps(list(layout.shapes))}
    parts = layout_parts(layout.unflatten(weights_P), dict(sorted(about.items())))
    write_file(path, b"".join(parts), sync=True)
    return digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """What a model's file says of itself, and what is found in it.

    Parameters
    ----------
    path : Path
        Of the file.
    facts : Mapping[str, str]
        Its metadata.
    weights_sha256 : str
        Digest of the floats that are in it now.
    """

    path: Path
    facts: Mapping[str, str]
    weights_sha256: str

    @property
    def round(self) -> int:
        """After which round it was written."""
        return int(self.facts["round"])

    @property
    def metric(self) -> str:
        """Name of the task's metric that counts."""
        return self.facts["metric"]

    @property
    def score(self) -> float:
        """That metric, of the run in that round; NaN: not known, or not finite."""
        return float(self.facts[self.metric])


def read_model(path: Path) -> ModelFile:
    """Read a model's file.

    Raises
    ------
    InputError
        It is not there, damaged, or no model that a run has left.
    """
    digest = hashlib.sha256()
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            _check_facts(path, facts)
            for name in read_texts(from_json(facts["floats"])):
                digest.update(np.ascontiguousarray(file.get_tensor(name), np.float32).data)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:LONGEST_VALUE]
        raise InputError("model", str(path), f"cannot be read: {reason}") from None
    return ModelFile(path=path, facts=facts, weights_sha256=digest.hexdigest())


def _check_facts(path: Path, facts: Mapping[str, str]) -> None:
    """Refuse a file whose metadata are not those of a model that a run has left."""
    needed = ("weights_sha256", "floats", "round", "metric")
    if any(name not in facts for name in needed) or facts["metric"] not in facts:
        raise InputError("model", str(path), "is no model that a run has left: its metadata lack that")
    for name, read in (("round", int), ("agent", int), (facts["metric"], float)):
        try:
            read(facts.get(name, "0"))
        except ValueError:
            raise InputError("model", str(path), f"has {name} = {facts[name]!r}: is no number") from None


def files_of_best(folder: Path) -> list[Path]:
    """Return the files of the best round in a folder, in ascending id of the agents."""
    common = folder / _OF_ONE[BEST]
    own = (folder / _OF_EACH[BEST]).glob("agent-*.safetensors")
    return [path for path in [common] if path.is_file()] + sorted(
        own, key=lambda path: (len(path.name), path)
    )


def keep_only_best(folder: Path, names: Collection[str]) -> None:
    """Remove what a folder holds of a round that was the best one before."""
    for path in files_of_best(folder):
        if str(path.relative_to(folder)) not in names:
            path.unlink()


def carry_best(source: Path, target: Path) -> None:
    """Let a folder hold what another one does of the best round, and nothing else of it.

    As links: a file is never written into, only replaced. Where there are no links, as copies.
    """
    keep_only_best(target, ())
    for path in files_of_best(source):
        copy = target / path.relative_to(source)
        make_folder(copy.parent)
        try:
            os.link(path, copy)
        except OSError:
            write_file(copy, bytes(read_file(path)))
