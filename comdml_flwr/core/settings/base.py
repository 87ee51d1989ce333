"""What a group of settings is, and what is declared with each key."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

T = TypeVar("T")


def kebab(name: str) -> str:
    """Return the key of a field: kebab-case outside, snake_case in code."""
    return name.replace("_", "-")


class Settings(BaseModel):
    """Frozen settings of one subject; `title` heads their table in the reference."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True, allow_inf_nan=False
    )


def setting(
    default: T,
    *,
    description: str,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    on_resume: Literal["must be equal", "may change", "not compared"] = "must be equal",
    dry_run: Literal["read", "of the fleet"] = "read",
) -> T:
    """Declare a key: all that is to be known of it stands here.

    Parameters
    ----------
    default : bool, int, float or str
        Its value where none is given.
    description : str
        One line for the reference and `comdml run --help`.
    gt, ge, lt, le : float, optional
        Bounds of a number.
    on_resume : str
        What a run that goes on may be told: what it had, something else, or something that is not looked at.
    dry_run : str
        "of the fleet" where `comdml run --dry-run` refuses the key because the fleet file says it.
    """
    declared: dict[str, JsonValue] = {"on_resume": on_resume, "dry_run": dry_run}
    return Field(default, description=description, gt=gt, ge=ge, lt=lt, le=le, json_schema_extra=declared)
