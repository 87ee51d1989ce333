"""What a node's owner lets it take part in: keys of its `--node-config`, or of a file that `policy` names.

The keys are those of `Policy`, kebab-case; a list is a text with blanks or commas, in the file also an array:

    policy = "/etc/comdml/policy.toml"      # in the node configuration

    allowed-methods = ["comdml", "allreduce"]      # in the file
    min-members = 3

A node reads its policy with each message, so that what its owner writes holds from the next one on. What is
against it is refused in a line before any training, and later at the price of this node's share.

It binds the code of this package. Whoever may send other code to a node (see Flower's `--trusted-entities`)
may send it code that reads no policy.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError

from comdml_flwr.carriers.sealed.revoked import NOBODY_REVOKED, Revoked, read_revoked
from comdml_flwr.core.errors import LONGEST_VALUE, InputError
from comdml_flwr.core.rules import broken_rule, first_error
from comdml_flwr.core.settings.base import Settings, kebab

NodeConfig: TypeAlias = Mapping[str, bool | int | float | str]
POLICY = "policy"


def _parts(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_parts)]


class _Keys(Settings, title="Policy of a node"):
    """The keys, as they are given."""

    allowed_methods: _Names = ()
    allowed_data: _Names = ()
    sealed_only: bool = Field(False, strict=True)
    min_members: int = Field(1, ge=1, strict=True)
    revoked: str = ""


KEYS = tuple(kebab(name) for name in _Keys.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a node takes part in; without any key, in everything.

    Parameters
    ----------
    allowed_methods, allowed_data : tuple[str, ...]
        Names as the run configuration has them in `method` and `dataset`; empty: all.
    sealed_only : bool
        Whether mail must be readable by its receiver alone: sealed, or direct with certificates.
    min_members : int
        How many agents, this one among them, must take part in a round.
    revoked : Revoked
        Whose certificates and keys count no more.
    place : str
        Where the keys stand, for messages.
    """

    allowed_methods: tuple[str, ...] = ()
    allowed_data: tuple[str, ...] = ()
    sealed_only: bool = False
    min_members: int = 1
    revoked: Revoked = NOBODY_REVOKED
    place: str = "--node-config"

    def check_method(self, method: str) -> None:
        """Refuse a method that this node takes no part in. Raises InputError."""
        self._check_among("method", method, "allowed-methods", self.allowed_methods)
        if method == "fedavg" and self.sealed_only:
            rule = f"sends the model to the server in the open ({self._only_sealed})"
            raise InputError("method", method, rule)

    def check_data(self, dataset: str) -> None:
        """Refuse to train on data that this node does not give. Raises InputError."""
        self._check_among("dataset", dataset, "allowed-data", self.allowed_data)

    def check_members(self, num_members: int, round_: int) -> None:
        """Refuse to train among too few. Raises InputError."""
        if num_members < self.min_members:
            rule = f"must be at least {self.min_members} (min-members of {self.place})"
            raise InputError(f"agents in round {round_}", num_members, rule)

    def check_revoked(self, agents: Collection[int]) -> None:
        """Refuse to go on with agents that are revoked and take part all the same. Raises InputError."""
        if agents:
            rule = f"takes part, and its certificate or key is revoked ({self.revoked.place})"
            raise InputError("agent", min(agents), rule)

    def _check_among(self, key: str, value: str, name: str, allowed: Collection[str]) -> None:
        if allowed and value not in allowed:
            raise InputError(key, value, f"must be one of {', '.join(allowed)} ({name} of {self.place})")

    def check_direct(self, *, has_certificates: bool) -> None:
        """Refuse mail from peer to peer that anybody on its way could read. Raises InputError."""
        if self.sealed_only and not has_certificates:
            rule = f"must be given for mail from peer to peer ({self._only_sealed})"
            raise InputError("--node-config p2p-certificates", None, rule)

    @property
    def _only_sealed(self) -> str:
        return f"sealed-only of {self.place}"


def policy_of(node_config: NodeConfig) -> Policy:
    """Read a node's policy.

    Raises
    ------
    InputError
        A key or the file is not as it must be, in a line that names it.
    """
    given: dict[str, object] = {key: node_config[key] for key in KEYS if key in node_config}
    place = "--node-config"
    if POLICY in node_config:
        path = _path(f"{place} {POLICY}", node_config[POLICY])
        in_file = _read(path)
        if twice := sorted(given.keys() & in_file.keys()):
            raise InputError(f"{place} {twice[0]}", given[twice[0]], f"is also in {path}: give it once")
        given, place = {**given, **in_file}, f"{path}" if not given else f"{path} and {place}"
    try:
        keys = _Keys.model_validate(given)
    except ValidationError as error:
        first = first_error(error.errors())
        key = str(first["loc"][0])
        raise InputError(f"{place} {key}", first["input"], broken_rule(first)) from None
    what = f"{place} revoked"
    return Policy(
        allowed_methods=keys.allowed_methods,
        allowed_data=keys.allowed_data,
        sealed_only=keys.sealed_only,
        min_members=keys.min_members,
        revoked=read_revoked(_path(what, keys.revoked), what) if keys.revoked else NOBODY_REVOKED,
        place=place,
    )


def keys_in(node_config: NodeConfig) -> Collection[str]:
    """Return which keys of a policy a node configuration has itself."""
    return [key for key in (POLICY, *KEYS) if key in node_config]


def _path(what: str, value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError(what, value, "must be a path")
    return Path(value).expanduser()


def _read(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(POLICY, str(path), f"must be a file that can be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # tomllib's own error is one, and what is no text, too
        raise InputError(POLICY, str(path), f"must be TOML ({error})") from None
    for key in values:
        if key not in KEYS:
            rule = f"is no key of a policy; they are {', '.join(KEYS)}"
            raise InputError(f"{path} {key[:LONGEST_VALUE]}", values[key], rule)
    return values
