"""The plan of the house: floors, set-up, and what importing loads."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import comdml_flwr
from comdml_flwr.core.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent

# Imports only point down. Rooms of one floor do not import each other; files of one room may, except methods.
FLOORS = [
    {"errors", "seeds", "units", "layout", "strict_json", "rules"},
    {"user_code", "disk_errors"},
    {"answers", "messages", "config", "planning", "learning"},
    {"agent", "lock_step", "profiles", "wire", "sealing", "key_cards"},
    {"agreement", "phases", "reduction", "rounds", "checkpoint_files", "model_files", "transport"},
    {"checkpoints", "measuring", "mixing", "peers", "server", "summary"},
    {"terminal", "tracking", "trained_models", "resuming"},
    {"results"},
    {"methods", "carriers"},
    {"assemble"},
    {"model_costs"},
    {"local_run", "dry_run", "flower"},
    {"comparison", "doctor"},
    {"commands"},
    {"cli"},
    {"clients", "strategies", "experiments"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
APART = {"methods", "carriers"}  # rooms in which no file imports another


def source_files():
    packages = ("comdml_flwr", "clients", "strategies", "experiments")
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def room_of(module):
    """Return the room of a module name; None for the package itself and for what is not ours."""
    parts = module.split(".")
    if parts[0] == "comdml_flwr":
        return parts[1] if len(parts) > 1 else None
    return parts[0] if parts[0] in FLOOR_OF else None


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_has_a_room():
    rooms = {room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in source_files()}
    assert rooms - {"__init__"} == set(FLOOR_OF)


def test_imports_point_down():
    offenders = []
    for path in source_files():
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for module in imports_of(path):
            other = room_of(module)
            if own in (None, "__init__") or other is None or (own == other and own not in APART):
                continue
            if FLOOR_OF[other] >= FLOOR_OF[own]:
                offenders.append(f"{path.relative_to(ROOT)} imports {module}")
    assert offenders == []


@pytest.mark.parametrize(
    "room",
    ["planning", "messages", "config", "errors", "seeds", "wire", "transport", "sealing", "key_cards"],
)
def test_the_ground_floors_know_neither_torch_nor_flower(room):
    paths = [
        path
        for path in source_files()
        if room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) == room
    ]
    modules = {module.split(".")[0] for path in paths for module in imports_of(path)}
    assert paths
    assert not modules & {"torch", "flwr", "ray"}


def test_only_the_flower_room_imports_flower():
    for path in source_files():
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if room not in ("flower", "clients", "strategies", "experiments"):
            assert not any(module.split(".")[0] == "flwr" for module in imports_of(path)), path


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (metadata,) = project["tool"]["uv"]["dependency-metadata"]
    assert project["project"]["version"] == metadata["version"] == comdml_flwr.__version__
    assert metadata["name"] == project["project"]["name"]


def test_no_federations_table_is_shipped():
    assert "federations" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]


def test_uv_sync_works_offline_with_an_empty_cache(tmp_path):
    """Flower runs `uv sync` for every run: it must need no network and install nothing."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")
    assert uv, "uv comes with the dev extra"
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [uv, "sync", "--offline", "--cache-dir", str(tmp_path / "cache"), "--python", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / ".venv").glob("lib/python*/site-packages/*.dist-info")) == []


@pytest.mark.parametrize(
    "code",
    [
        "import comdml_flwr",
        "from typer.testing import CliRunner; from comdml_flwr.cli.main import app; "
        "assert CliRunner().invoke(app, ['plan', '--help']).exit_code == 0",
    ],
    ids=["import", "plan --help"],
)
def test_torch_and_flower_are_not_loaded_before_they_are_needed(code):
    check = "; import sys; assert not {'torch', 'flwr', 'ray', 'scipy'} & set(sys.modules), 'loaded'"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_library_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["comdml_flwr"]


def config_table():
    """Return the README's configuration table, made of the keys' own descriptions."""
    defaults = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for name, field in RunConfig.model_fields.items():
        key = name.replace("_", "-")
        rows.append(f"| `{key}` | `{json.dumps(defaults[key])}` | {field.description} |")
    return "\n".join(rows)


def test_the_readme_documents_every_key_once():
    assert config_table() in (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_line():
    readme = (ROOT / "README.md").read_text()
    assert len(re.findall(r'^pip install -e "\.\[dev\]" && pytest', readme, flags=re.MULTILINE)) == 1
