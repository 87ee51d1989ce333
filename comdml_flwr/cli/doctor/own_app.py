"""A Flower app, by default that in the working directory: whether its pyproject.toml lets a run start."""

from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.app_folder import AppFolder, app_in
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError

APP = "app"


def check_app(app: AppFolder | None = None) -> Finding | None:
    """Look at an app's dependencies and run configuration; None where there is no app."""
    app = app or app_in(Path.cwd())
    if app is None:
        return None
    facts = {"name": app.name, "folder": str(app.path)}
    try:
        parse_config(app.defaults)
    except InputError as error:
        mend = "correct it in pyproject.toml, [tool.flwr.app.config]"
        return Finding(APP, "wrong", f"{app.name}: {error}", mend, facts)
    if _installs_for_each_run(app):
        project = app.table("project")
        says = f"{app.name}: Flower's `uv sync` installs what it depends on for every run, or the run fails"
        table = f'name = "{project.get("name")}", version = "{project.get("version")}", requires-dist = []'
        mend = f"add to pyproject.toml: [[tool.uv.dependency-metadata]] with {table}"
        return Finding(APP, "warning", says, mend, facts)
    return Finding(APP, "ok", f"{app.name} in {app.path}", facts=facts)


def _installs_for_each_run(app: AppFolder) -> bool:
    """Tell whether `uv sync` looks for packages: not if the app says itself that it needs none."""
    project, listed = app.table("project"), app.table("project").get("dependencies")
    needed = {_name_of(str(text)) for text in listed} if isinstance(listed, list) else set()
    known = app.table("tool", "uv").get("dependency-metadata")
    return bool(needed - {"flwr"}) and not any(
        isinstance(table, dict)
        and canonicalize_name(str(table.get("name"))) == canonicalize_name(str(project.get("name")))
        and table.get("version") == project.get("version")
        and table.get("requires-dist") == []
        for table in (known if isinstance(known, list) else ())
    )


def _name_of(dependency: str) -> str:
    try:
        return canonicalize_name(Requirement(dependency).name)
    except InvalidRequirement:
        return dependency
