"""An app that a command is told the folder of: its configuration, for a run in this process."""

import tomllib
from pathlib import Path

from comdml_flwr.core.app_folder import SETTINGS, AppFolder, app_in
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError

_HERE = {"carrier": "local", "profiles": "auto"}
"""Keys that say how nodes work together, with what holds in this process."""
_PATHS = ("fleet", "data-dir")


def find_app(folder: Path) -> AppFolder:
    """Return the app in a folder, whose configuration can be read.

    Raises
    ------
    InputError
        There is none, or its configuration is wrong.
    """
    app = app_in(folder.resolve())
    if app is None:
        raise InputError("app", str(folder), f"must be the folder of a Flower app: {_lack(folder)}")
    try:
        parse_config(app.defaults)
    except InputError as error:
        raise InputError(f"{app.path / SETTINGS}: {error.what}", error.value, error.rule) from None
    return app


def defaults_here(app: AppFolder) -> dict[str, object]:
    """Return the values of an app's `[tool.flwr.app.config]`, as they are for a run in this process.

    A fleet file or a data folder that is in the app's folder has its full path.
    """
    given = dict(app.defaults)
    inside = {key: app.path / str(given[key]) for key in _PATHS if given.get(key)}
    return {**given, **{key: str(path) for key, path in inside.items() if path.exists()}, **_HERE}


def _lack(folder: Path) -> str:
    """Say why there is no app in a folder."""
    path = folder / SETTINGS
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return f"it has no {SETTINGS}" if folder.is_dir() else "there is no such folder"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    except ValueError as error:
        return f"its {SETTINGS} is not TOML ({error})"
    has_app = isinstance(settings.get("tool"), dict) and "flwr" in settings["tool"]
    table = "[tool.flwr.app.components]" if has_app else "[tool.flwr.app]"
    return f"its {SETTINGS} has no {table}"
