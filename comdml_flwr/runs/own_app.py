"""An app of the user's own, read from its folder for a run in this process: its model, task and data.

`clientapp` in `[tool.flwr.app.components]` of its pyproject.toml names what `peer_client_app` has returned,
which knows them. It is imported with the app's folder in front of `sys.path`, where Flower puts it as well.
The folder stays there, since the app's functions may import modules of the app when they are called.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from comdml_flwr.core.app_config import defaults_here, find_app
from comdml_flwr.core.app_folder import SETTINGS, AppFolder, places_of
from comdml_flwr.core.code_digest import digest_files
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.user_code import naming_user_code
from comdml_flwr.runs.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnApp:
    """An app that a run in this process can use.

    Parameters
    ----------
    folder : AppFolder
        Where it is, and its pyproject.toml.
    catalogue : Catalogue
        Its models and data.
    """

    folder: AppFolder
    catalogue: Catalogue

    @property
    def defaults(self) -> dict[str, object]:
        """The values of `[tool.flwr.app.config]`, as they are for a run in this process."""
        return defaults_here(self.folder)

    def over_defaults(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return keys of the run configuration with these values, and the app's own for all others.

        Raises
        ------
        InputError
            A model or data set is named where the app has one of its own.
        """
        for key, own in (("model", self.catalogue.own_model), ("dataset", self.catalogue.own_data)):
            if own is not None and key in given:
                raise InputError(key, given[key], f"must be left out: {self.folder.name} has one of its own")
        return {**self.defaults, **given}

    @property
    def version(self) -> str:
        """Its name, and the digest of all its code: what a run's result depends on."""
        digest = digest_files(self.folder.path, self.folder.code_files())
        return f"{self.folder.name}, code {digest[:16]}"


def load_app(folder: Path | str) -> OwnApp:
    """Read an app of the user's own from its folder, for `run_locally`.

    Parameters
    ----------
    folder : Path or str
        Holds the app's pyproject.toml; its code is imported.

    Returns
    -------
    OwnApp
        With `catalogue` and `defaults`: `run_locally({**app.defaults, "seed": 2}, num_agents=10,
        catalogue=app.catalogue)`.

    Raises
    ------
    InputError
        There is no app, its configuration is wrong, or its ClientApp is not made by `peer_client_app`.
    RunError
        The app's code fails when it is imported: with its file and line.
    """
    return import_app(find_app(Path(folder)))


def import_app(app: AppFolder) -> OwnApp:
    """Import an app's ClientApp; errors are those of `load_app`."""
    module, _, attributes = app.client.partition(":")
    if not module or not attributes:
        raise _wrong_client(app, "must be MODULE:ATTRIBUTE, in [tool.flwr.app.components]")
    found: object = _import(app, module)
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise _wrong_client(app, f"{module} has no {attributes}")
        found = getattr(found, name)
    catalogue = getattr(found, "catalogue", None)
    if not isinstance(catalogue, Catalogue):
        kind = type(found)
        what = f"a {kind.__name__} of {kind.__module__.partition('.')[0]}"
        raise _wrong_client(app, f"must be what peer_client_app returns, and is {what}")
    return OwnApp(folder=app, catalogue=catalogue)


def _wrong_client(app: AppFolder, rule: str) -> InputError:
    return InputError(f"{app.path / SETTINGS}: clientapp", app.client, rule)


def _import(app: AppFolder, name: str) -> ModuleType:
    """Import a module from the app's folder, even if another app's of the same name has been."""
    folder, top = str(app.path), name.partition(".")[0]
    if PathFinder.find_spec(top, [folder]) is None:
        raise _wrong_client(app, f"there is no {top} in {folder}")
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    if not _is_in(sys.modules.get(top), app.path) and top not in sys.stdlib_module_names:
        for other in [other for other in sys.modules if other.partition(".")[0] == top]:
            del sys.modules[other]
    importlib.invalidate_caches()
    try:
        with naming_user_code():
            module = importlib.import_module(name)
    except RunError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
            raise _wrong_client(app, f"there is no {cause.name} in {folder}") from None
        raise
    if not _is_in(module, app.path):
        where = ", ".join(places_of(module)) or "Python itself"
        raise _wrong_client(app, f"must be imported from {folder}, and is from {where}")
    return module


def _is_in(module: ModuleType | None, folder: Path) -> bool:
    return any(Path(place).is_relative_to(folder) for place in places_of(module))
