"""The ClientApp of this app, from the code that this run was started with.

Flower's simulation actors put the directory in which the local SuperLink was started in front of sys.path,
so after a run in one checkout a run in another would import this module from the first. If this run's own
copy of the app (Flower unpacks it to `apps/<publisher>.comdml-flwr.<version>.<hash>`) is on the path and
this file is not in it, start again from there. The ServerApp compares digests of the code all the same.
"""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from flwr.clientapp import ClientApp

OURS = ("comdml_flwr", "clients", "strategies")


def _unpacked_app() -> str | None:
    return next((entry for entry in sys.path if re.search(r"apps/[^/]*\.comdml-flwr\.[^/]*/?$", entry)), None)


class _ByName(ClientApp):
    """A ClientApp that travels to an actor as its name, so that the actor imports it by way of this file."""

    def __init__(self, app: ClientApp) -> None:
        self.__dict__.update(app.__dict__)

    def __reduce__(self) -> tuple[Callable[[], ClientApp], tuple[()]]:
        return this_app, ()


def this_app() -> ClientApp:
    """Return the app of this process."""
    return app


def _load() -> ClientApp:
    folder = _unpacked_app()
    if folder is not None and not Path(__file__).is_relative_to(folder):
        sys.path.remove(folder)
        sys.path.insert(0, folder)
        for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
            del sys.modules[name]
        loaded: ClientApp = importlib.import_module("clients.client_app").app
        return loaded
    from clients.fedavg import add_fedavg  # here, because they must come from `folder`
    from comdml_flwr.flower.peer_client_app import peer_client_app

    return _ByName(add_fedavg(peer_client_app()))


app = _load()
