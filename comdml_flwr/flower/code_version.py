"""Which code a process runs: by its digests the ServerApp sees that all nodes run what it runs.

Two digests: of this package, which every machine has installed for itself, and of the whole app, as Flower
bundled it. An app's data and the results of earlier runs are no part of them. own_code.py sees to it that an
actor imports the right app; what it cannot mend is refused here, in one line.
"""

import sys
from functools import cache
from pathlib import Path

from comdml_flwr.core.app_folder import CODE, AppFolder, places_of, running_app
from comdml_flwr.core.code_digest import code_digest, digest_files
from comdml_flwr.core.version import CODE_FOLDER, __version__

MEND = "if another app started the local SuperLink, end it (`pkill -f flower-superlink`) and try again"


def app_digest() -> str:
    """Return the digest of all files that Python could import from the app; empty where there is no app."""
    app = running_app()
    return _digest_of_app(app.path) if app else ""


def difference(code: str, app: str) -> str:
    """Say in one line what this process runs that the ServerApp, with these digests, does not; or nothing."""
    here, strange = running_app(), ""
    if code != code_digest():
        version = f"comdml-flwr {__version__} in {CODE_FOLDER}"
        strange = f"{version}, which must be the same everywhere"
    elif app != app_digest():
        strange = f"the app in {here.path}" if here else "no app"
    elif here:
        strange = _module_from_elsewhere(here)
    return f"this node runs other code: {strange}; {MEND}" if strange else ""


@cache
def _digest_of_app(folder: Path) -> str:
    return digest_files(folder, AppFolder(path=folder, settings={}).code_files())


def _module_from_elsewhere(app: AppFolder) -> str:
    """Name a module of the app's that was imported from a folder that is not the app's; or nothing.

    A file of the app's that is called like a module of Python or of an installed package is not meant.
    """
    for path in sorted(app.path.iterdir()):
        if path.is_dir() or path.name.endswith(CODE):
            name = path.name.partition(".")[0]
            for place in map(Path, places_of(sys.modules.get(name))):
                if not (place.is_relative_to(app.path) or _is_installed(place)):
                    return f"the app's {name} was imported from {place}"
    return ""


def _is_installed(place: Path) -> bool:
    return "site-packages" in place.parts or any(map(place.is_relative_to, (sys.prefix, sys.base_prefix)))
