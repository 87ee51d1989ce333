"""The Flower app that this process runs: its folder, its settings, its code.

Flower unpacks an app's bundle (FAB) to `~/.flwr/apps/<publisher>.<name>.<version>.<hash>` on every machine
and puts that folder in front of `sys.path`: it is the first entry that holds a Flower app. Nobody tells a
process where the app's source is that the bundle was made of.
"""

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec, all_suffixes
from pathlib import Path
from types import ModuleType

SETTINGS = "pyproject.toml"
_APP = "tool", "flwr", "app"
CODE = tuple(all_suffixes())


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFolder:
    """A folder with a Flower app in it.

    Parameters
    ----------
    path : Path
        The folder.
    settings : Mapping
        Its pyproject.toml.
    """

    path: Path
    settings: Mapping[str, object]

    @property
    def name(self) -> str:
        """The app's name, as Flower knows it: PUBLISHER.NAME."""
        publisher, name = self.table(*_APP).get("publisher"), self.table("project").get("name")
        return f"{publisher}.{name}"

    @property
    def client(self) -> str:
        """Where Flower finds the ClientApp: MODULE:ATTRIBUTE."""
        return str(self.table(*_APP, "components").get("clientapp", ""))

    @property
    def defaults(self) -> Mapping[str, object]:
        """The values that the app gives to keys of the run configuration; inner tables' keys have dots."""
        return flat(self.table(*_APP, "config"))

    def code_files(self) -> Iterator[Path]:
        """Yield the files that Python could import, sorted."""
        for folder, inner, names in os.walk(self.path):
            inner[:] = sorted(name for name in inner if not _is_apart(Path(folder, name)))
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(CODE))

    def is_copy_of(self, other: "AppFolder") -> bool:
        """Tell whether this bundle was made of the other folder: the same settings and code, file by file."""
        return self.settings == other.settings and all(
            _same(path, other.path / path.relative_to(self.path)) for path in self.code_files()
        )

    def table(self, *names: str) -> Mapping[str, object]:
        """Return a table of the settings; an empty one where there is none."""
        table: object = self.settings
        for name in names:
            table = table.get(name) if isinstance(table, dict) else None
        return table if isinstance(table, dict) else {}


def running_app() -> AppFolder | None:
    """Return the app that this process runs; None if Flower runs none here."""
    found = (app_in(Path(entry)) for entry in sys.path if entry)
    return next((app for app in found if app), None)


def app_in(folder: Path) -> AppFolder | None:
    """Return the Flower app whose pyproject.toml is in a folder; None if there is none."""
    try:
        text = (folder / SETTINGS).read_text("utf-8")
    except (OSError, ValueError):
        return None
    settings = _parsed(text)
    return AppFolder(path=folder.absolute(), settings=settings) if settings else None


def app_around(folder: Path) -> AppFolder | None:
    """Return the Flower app that a folder belongs to; None if there is none."""
    found = map(app_in, (folder, *folder.parents))
    return next((app for app in found if app), None)


def places_of(module: ModuleType | None) -> tuple[str, ...]:
    """Return the files or folders that an imported module is made of; none if it is built in."""
    return places_in(getattr(module, "__spec__", None))


def places_in(spec: ModuleSpec | None) -> tuple[str, ...]:
    """Return the files or folders that a module would be made of; none if it is built in."""
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(spec.submodule_search_locations)
    return (spec.origin,) if spec.has_location and spec.origin else ()


@lru_cache(maxsize=8)
def _parsed(text: str) -> Mapping[str, object]:
    """Return a pyproject.toml's tables; none if it is not that of a Flower app."""
    try:
        settings = tomllib.loads(text)
        flwr = settings["tool"]["flwr"]
        flwr.pop("federations", None)  # is not bundled
        return settings if "components" in flwr["app"] else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def flat(table: Mapping[str, object]) -> dict[str, object]:
    """Return keys and values as Flower names them in a run configuration: those of inner tables have dots.

    Examples
    --------
    >>> flat({"seed": 1, "app": {"crop": 28}})
    {'seed': 1, 'app.crop': 28}
    """
    found: dict[str, object] = {}
    for key, value in table.items():
        inner = flat(value) if isinstance(value, dict) else {}
        found |= {f"{key}.{name}": x for name, x in inner.items()} or {key: value}
    return found


def _is_apart(folder: Path) -> bool:
    """Tell whether Python's or other tools' files are kept there, or another Python."""
    return folder.name.startswith((".", "__pycache__")) or (folder / "pyvenv.cfg").exists()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False
