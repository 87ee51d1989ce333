"""What a check finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from comdml_flwr.core.typed_json import Json

State: TypeAlias = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    Parameters
    ----------
    check : str
        What was looked at, in a word or two.
    state : State
        "ok"; "warning": a run may go on, but somebody should know; "wrong": a run would fail or be unsafe.
    says : str
        One sentence.
    mend : str
        The command or setting that mends it; empty where the state is "ok".
    facts : Mapping[str, Json]
        The same in numbers, for scripts; units end the names.
    """

    check: str
    state: State
    says: str
    mend: str = ""
    facts: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.state == "ok") == (not self.mend), f"{self.check}: who is not ok must be told what mends"

    def as_json(self) -> dict[str, Json]:
        """Return it as scripts read it."""
        return {
            "check": self.check,
            "state": self.state,
            "says": self.says,
            "mend": self.mend,
            "facts": dict(self.facts),
        }
