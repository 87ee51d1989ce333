"""The tables of a comparison file (see settings.py), each checked for itself: keys, types, bounds.

What needs more than one table, or another file, is checked in settings.py.
"""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from comdml_flwr.core.app_folder import flat
from comdml_flwr.core.config import OWN, RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.rules import broken_rule, first_error
from comdml_flwr.planning.fleet.toml_tables import shown

Scalar: TypeAlias = bool | int | float | str
Keys: TypeAlias = Mapping[str, Scalar]
"""Keys of the run configuration, kebab-case, and their values."""

LONGEST_LABEL = 80  # it names a folder
NOT_HERE = {
    "seed": "is set by `seeds`",
    "carrier": "is always local in a comparison",
    "profiles": "are always those of the fleet in a comparison",
    "results-dir": "is set by --output",
    "fleet": "belongs to a case",
    "checkpoint-every": "is always 0 in a comparison, which starts again what was not finished",
    "target-metric": "is for a run by itself: `targets` say what is looked for in a comparison",
    "resume": "is for a run by itself: a comparison starts again what was not finished",
}


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


def _label(text: str) -> str:
    if not any(sign.isalnum() for sign in text) or len(text) > LONGEST_LABEL:
        raise ValueError(f"must be at most {LONGEST_LABEL} characters, a letter or a digit among them")
    return _one_line(text)


def _folder_name(text: str) -> str:
    if not text[:1].isalnum() or not all(sign.isalnum() or sign in "._-" for sign in text):
        raise ValueError(
            "must consist of letters, digits, '.', '_' and '-', and begin with one of the first two"
        )
    return _label(text)


def _all_different(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError("must be different from each other")
    return values


_Label: TypeAlias = Annotated[str, AfterValidator(_label)]
_Seeds: TypeAlias = Annotated[list[int], Field(min_length=1), AfterValidator(_all_different)]
_Target: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Targets: TypeAlias = Annotated[list[_Target], Field(min_length=1), AfterValidator(_all_different)]
_NumAgents: TypeAlias = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class _TableWithRunKeys(_Table):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _with_dots(cls, values: object) -> object:
        """Name the keys of inner tables, which are an app's own, as Flower does."""
        return flat(values) if isinstance(values, dict) else values

    def run_keys(self) -> dict[str, Scalar]:
        """Return the keys of the run configuration."""
        return dict(self.model_extra or {})


class RunTable(_TableWithRunKeys):
    """[run]: keys for all runs."""


class MethodTable(_TableWithRunKeys):
    """A method."""

    label: _Label


class CaseTable(_TableWithRunKeys):
    """A case."""

    label: _Label
    fleet: str
    num_agents: _NumAgents
    fleet_seed: int | None = Field(None, ge=0)


class SmokeTable(_TableWithRunKeys):
    """What `--smoke` replaces."""

    seeds: _Seeds | None = None
    targets: _Targets | None = None
    num_agents: _NumAgents | None = None
    cases: int | None = Field(None, ge=1)


class ComparisonFile(_Table):
    """The whole file."""

    name: Annotated[str, AfterValidator(_folder_name)]
    about: Annotated[str, AfterValidator(_one_line)] = ""
    app: str = ""
    seeds: _Seeds
    targets: _Targets
    reference: str
    run: RunTable = Field(default_factory=lambda: RunTable())
    methods: list[MethodTable] = Field(min_length=1)
    cases: list[CaseTable] = Field(min_length=1)
    smoke: SmokeTable | None = None


def read_tables(path: Path) -> ComparisonFile:
    """Read a comparison file and check each of its tables.

    Raises
    ------
    InputError
        In one line: the file, the place in it, the value and the rule that it breaks.
    """
    try:
        file = ComparisonFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise InputError("comparison", str(path), error.strerror or "cannot be read") from None
    except ValidationError as error:
        raise _input_error(path, error) from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8
        raise InputError("comparison", str(path), f"is not TOML: {error}") from None
    _check_run_keys(f"{path}: run", file.run)
    for place, tables in (("methods", file.methods), ("cases", file.cases)):
        for number, table in enumerate(tables):
            _check_run_keys(f"{path}: {place}[{number}]", table)
    if file.smoke is not None:
        _check_run_keys(f"{path}: smoke", file.smoke)
    return file


def _own_keys(table: type[_Table]) -> tuple[str, ...]:
    return tuple(name.replace("_", "-") for name in table.model_fields)


def _input_error(path: Path, error: ValidationError) -> InputError:
    first = first_error(error.errors())
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return InputError(f"{path}: {place}", None, broken_rule(first))
    if first["type"] == "extra_forbidden":
        unknown = _unknown(place, _own_keys(ComparisonFile))
        return InputError(f"{path}: {place}", shown(first["input"]), unknown)
    rule = f"must be one or more [[{place}]] tables" if place in ("methods", "cases") else broken_rule(first)
    return InputError(f"{path}: {place}", shown(first["input"]), rule)


def _unknown(key: str, keys: Sequence[str]) -> str:
    near = get_close_matches(key, keys, n=1)
    return f"is not known here; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(keys)}"


def _check_run_keys(place: str, table: _TableWithRunKeys) -> None:
    known = [name.replace("_", "-") for name in RunConfig.model_fields]
    for key, value in table.run_keys().items():
        if key in NOT_HERE:
            raise InputError(f"{place}.{key}", value, NOT_HERE[key])
        if key not in known and not key.startswith(OWN):
            free = [*_own_keys(type(table)), *(name for name in known if name not in NOT_HERE)]
            raise InputError(f"{place}.{key}", value, _unknown(key, free))
        if not isinstance(value, Scalar):
            raise InputError(f"{place}.{key}", value, "must be a number, true or false, or text")
