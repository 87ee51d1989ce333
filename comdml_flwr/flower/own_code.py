"""A ClientApp that brings its own code: whichever process unpickles it imports it from the app's own folder.

Flower's simulation pickles the ClientApp for its actors, and pickle writes functions down by name. An actor
looks for names in the directory in which the local SuperLink was started before it looks in the app that it
is to run (Ray puts the driver's working directory in front of `sys.path`). So a second app that has equal
names would run the first one's code, on the first one's data, and succeed.

Here the ClientApp is written down as the folder that Flower unpacked the app to, the app's own name of its
ClientApp (`tool.flwr.app.components.clientapp`) and the `sys.path` of the process that Flower loaded it in.
An actor first takes over that path, drops the modules that the foreign directory gave it, and imports. What
this does not reach (an app that wraps its ClientApp in another object) is refused by code_version.py.

This file may itself come from the foreign directory, in another version of this package: it imports nothing
of ours but app_folder.py, and the parameters of `import_client` stay as they are.
"""

import importlib
import sys
from pathlib import Path
from typing import Any, SupportsIndex

from flwr.clientapp import ClientApp

from comdml_flwr.core.app_folder import places_in, places_of, running_app


class OwnCodeApp(ClientApp):
    """A ClientApp that is pickled as the place it is imported from.

    Attributes
    ----------
    catalogue : object
        The `Catalogue` of the app's own models and data: how runs/own_app.py knows them.
    """

    catalogue: object = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        app = running_app()
        if app and _loaded(app.client) is self:
            return import_client, (str(app.path), app.client, tuple(sys.path), str(Path.cwd()))
        return super().__reduce_ex__(protocol)


def import_client(folder: str, component: str, path: tuple[str, ...], started_in: str) -> ClientApp:
    """Import an app's ClientApp from the app's own folder.

    Parameters
    ----------
    folder : str
        Where Flower unpacked the app.
    component : str
        MODULE:ATTRIBUTE.
    path : tuple[str, ...]
        `sys.path` of the process that Flower loaded the app in.
    started_in : str
        That process's working directory.

    Raises
    ------
    ImportError
        The app is not in that folder on this machine.
    """
    _take_path(path, started_in)
    module = importlib.import_module(component.partition(":")[0])
    if not Path(module.__file__ or "").is_relative_to(folder):
        raise ImportError(f"{component} of this app should be in {folder}, and is in {module.__file__}")
    loaded: ClientApp = _loaded(component)
    return loaded


def _loaded(component: str) -> Any:
    """Return what a MODULE:ATTRIBUTE names in this process; None if it is not imported."""
    module, _, attributes = component.partition(":")
    found: object = sys.modules.get(module)
    for name in attributes.split("."):
        found = getattr(found, name, None)
    return found


def _take_path(path: tuple[str, ...], started_in: str) -> None:
    """Import from where the process with that path does, and from nowhere that was put in front of it."""
    foreign = {"", started_in} - set(path)
    wanted = [*path, *(entry for entry in sys.path if entry not in {*path, *foreign})]
    if sys.path == wanted:
        return
    before = {name: places_of(module) for name, module in sys.modules.items() if "." not in name}
    sys.path[:] = wanted
    importlib.invalidate_caches()
    for top, places in before.items():
        if any(Path(place).is_relative_to(started_in) for place in places) and places != _places_now(top):
            for name in [name for name in sys.modules if name.partition(".")[0] == top]:
                del sys.modules[name]


def _places_now(top: str) -> tuple[str, ...]:
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    return places_in(next((spec for spec in found if spec), None))
