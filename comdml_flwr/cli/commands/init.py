"""`comdml init`: a whole Flower app to begin one's own from."""

import json
import keyword
import re
import shlex
import sys
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import write_files
from comdml_flwr.core.version import __version__

TEMPLATES = "comdml_flwr.cli.commands", "new_app"
IN_PACKAGE = ("__init__.py", "client_app.py", "server_app.py")
IN_FOLDER = ("LICENSE", "README.md", "fleet.toml", "pyproject.toml")
OF_APP = {"num-rounds": 5, "fleet": "fleet.toml", "carrier": "auto"}
FLOWER, TARGET = "flwr[simulation]>=1.41,<2", "1.42.0"  # as in this package's own pyproject.toml
LONGEST_NAME = 32  # characters, a rule of Flower's


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the app, which is called as its last part is.")],
) -> None:
    """Write a whole Flower app of your own: it runs at once, and then you change it.

    FOLDER is made, or must be empty. `client_app.py` has a small CNN, its task, and `load_data(place)`,
    which gives each agent the data of its node: here a part of scikit-learn's handwritten digits, later what
    lies on your devices. Beside it there are a server app, four devices (`fleet.toml`), and a
    `pyproject.toml` with the keys of a run, their defaults and their meanings.

    Example: comdml init my-app && cd my-app && flwr run . --stream

    The same without Flower's engine, and what can be asked before anything is trained:

    Example: comdml run --app my-app

    Example: comdml doctor --app my-app

    Example: comdml plan --app my-app
    """
    name = folder.absolute().name if folder.name else folder.resolve().name
    package = _package(name)
    _check_empty(folder)
    texts = _texts(name, package)
    try:
        write_files({folder / path: text.encode() for path, text in texts.items()})
    except OSError as error:
        for left in (folder / package, folder):  # or the next try would find it taken
            with suppress(OSError):
                left.rmdir()
        raise InputError("FOLDER", str(folder), f"must be a folder to write in ({error.strerror})") from None
    typer.echo(f"{folder}: a Flower app that runs as it is")
    about = {
        f"{package}/client_app.py": "the model, the task and the data: begin here",
        "fleet.toml": "the devices and their links",
        "pyproject.toml": "the keys of a run",
    }
    for path, what in about.items():
        typer.echo(f"  {path:{max(map(len, about))}}  {what}")
    is_here = folder.resolve() == Path.cwd()
    there = shlex.quote("." if is_here else str(folder))
    typer.echo(f"next: {'' if is_here else f'cd {there} && '}flwr run . --stream")
    typer.echo(f"  or: comdml run --app {there}")


def _package(name: str) -> str:
    """Return the name of the app's Python package."""
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9-]{{0,{LONGEST_NAME - 1}}}", name):
        rule = f"must begin with a letter and have letters, digits and hyphens only, at most {LONGEST_NAME}"
        raise InputError("FOLDER", name, f"{rule}: it is the app's name")
    package = name.lower().replace("-", "_")
    if keyword.iskeyword(package):
        raise InputError("FOLDER", name, "is a word of Python's own: no package can be called so")
    if package in sys.stdlib_module_names or find_spec(package):
        raise InputError("FOLDER", name, f"would hide the installed package {package}: take another name")
    return package


def _check_empty(folder: Path) -> None:
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError("FOLDER", str(folder), "is not empty; nothing is ever overwritten")
    except OSError as error:
        raise InputError("FOLDER", str(folder), f"must be a folder ({error.strerror})") from None


def _texts(name: str, package: str) -> dict[str, str]:
    """Return the app's files: their texts by their paths."""
    values = {
        "name": name,
        "package": package,
        "library": __version__,
        "flower": FLOWER,
        "target": TARGET,
        "config": _config_lines(),
    }
    places = {
        **{path: path for path in IN_FOLDER},
        ".gitignore": "gitignore",
        **{f"{package}/{path}": path for path in IN_PACKAGE},
    }
    templates = files(TEMPLATES[0]) / TEMPLATES[1]
    return {
        place: Template((templates / f"{source}.template").read_text("utf-8")).substitute(values)
        for place, source in places.items()
    }


def _config_lines() -> str:
    """Return a line for each key that the app has: its value or else the default, and what it means.

    The keys of models and data sets by name are not among them.
    """
    from comdml_flwr.core.config import RunConfig, parse_config  # pydantic
    from comdml_flwr.core.settings.base import kebab
    from comdml_flwr.core.settings.data import DataSettings

    by_name = {"model", *map(kebab, DataSettings.model_fields)}
    defaults = parse_config({}).with_defaults_named()
    values = {key: OF_APP.get(key, default) for key, default in defaults.items() if key not in by_name}
    meanings = {name.replace("_", "-"): field.description for name, field in RunConfig.model_fields.items()}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    width = max(map(len, lines))
    return "\n".join(
        f"{line:{width}}  # {str(meanings[key]).replace('`', '')}"
        for line, key in zip(lines, values, strict=True)
    )
