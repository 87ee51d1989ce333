"""The run configuration: `[tool.flwr.app.config]` in pyproject.toml, `--run-config`, `comdml run --set`.

The flat space of kebab-case keys is composed of the settings of each subject (core/settings). A key is
declared there, once: pyproject.toml's block, docs/reference/configuration.md and `comdml run --help` are made
of the declarations (`python -m docs.generate`).

Keys of an app's own begin with `app.`, as Flower names those of the table `[tool.flwr.app.config.app]`. They
mean nothing here, and are handed on to the app's functions (`place.run_config`).
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from comdml_flwr.core.errors import LONGEST_VALUE, InputError
from comdml_flwr.core.files import is_file
from comdml_flwr.core.rules import broken_rule
from comdml_flwr.core.settings.base import Settings, kebab
from comdml_flwr.core.settings.carrier import CarrierSettings
from comdml_flwr.core.settings.checkpoints import CheckpointSettings
from comdml_flwr.core.settings.comdml import ComdmlSettings
from comdml_flwr.core.settings.data import DataSettings
from comdml_flwr.core.settings.device import DeviceSettings
from comdml_flwr.core.settings.method import MethodSettings
from comdml_flwr.core.settings.planning import PlanningSettings
from comdml_flwr.core.settings.results import ResultsSettings
from comdml_flwr.core.settings.splitfed import SplitfedSettings
from comdml_flwr.core.settings.training import TrainingSettings
from comdml_flwr.core.version import CODE_FOLDER

SUBJECTS: tuple[type[Settings], ...] = (
    MethodSettings,
    DataSettings,
    TrainingSettings,
    DeviceSettings,
    PlanningSettings,
    ComdmlSettings,
    SplitfedSettings,
    CarrierSettings,
    CheckpointSettings,
    ResultsSettings,
)


OWN = "app."
"""Keys of an app's own begin with it."""


class RunConfig(
    ResultsSettings,
    CheckpointSettings,
    CarrierSettings,
    SplitfedSettings,
    ComdmlSettings,
    PlanningSettings,
    DeviceSettings,
    TrainingSettings,
    DataSettings,
    MethodSettings,
):
    """What one run does: all settings in one flat object, in the order of `SUBJECTS`; an app's own keys."""

    model_config = ConfigDict(extra="allow")  # what is allowed, `parse_config` says
    __pydantic_extra__: dict[str, bool | int | float | str]

    def with_defaults_named(self) -> dict[str, bool | int | float | str]:
        """Return every key, kebab-case, with its value; an app's own keys as they are."""
        return self.model_dump(by_alias=True)


def keys_declared(what: str, value: str) -> frozenset[str]:
    """Return the keys that were declared so, as `keys_declared("on_resume", "may change")`."""
    fields = RunConfig.model_fields.items()
    extras = {name: field.json_schema_extra for name, field in fields}
    return frozenset(
        kebab(name) for name, extra in extras.items() if isinstance(extra, dict) and extra[what] == value
    )


def parse_config(values: Mapping[str, object]) -> RunConfig:
    """Check a run configuration.

    Parameters
    ----------
    values : Mapping[str, object]
        Kebab-case keys, as Flower's `context.run_config` has them.

    Returns
    -------
    RunConfig
        The checked configuration.

    Raises
    ------
    InputError
        An unknown key or an impossible value: one line with the key, the value and the rule.

    Examples
    --------
    >>> parse_config({"num-rounds": 3}).num_rounds
    3
    """
    known = [kebab(name) for name in RunConfig.model_fields]
    for key, value in values.items():
        if key.startswith(OWN):
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the keys are {', '.join(known)}"
            rule = f"is no key of the run configuration (an app's own begin with {OWN!r}){hint}"
            raise InputError(key[:LONGEST_VALUE], value, rule)
        if isinstance(value, bool) != (RunConfig.model_fields[key.replace("-", "_")].annotation is bool):
            raise InputError(
                key,
                value,
                "must be true or false" if not isinstance(value, bool) else "must not be true or false",
            )
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "run configuration"
        raise InputError(key, first["input"], broken_rule(first)) from None


def find_fleet(name: str) -> Path:
    """Return the path of a configuration's fleet file, or a preset's name as it is.

    An absolute path, a path inside the folder that holds this package (the checkout, or what Flower made of
    it), or else a path from the working directory. A name without a folder and a suffix may be a preset's.
    """
    if not Path(name).suffix and name == Path(name).name:
        return Path(name)
    own = CODE_FOLDER / name
    return own if is_file(own) else Path(name).absolute()
