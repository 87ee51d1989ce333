"""The plan of the house: floors, set-up, and what importing loads."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import networkx as nx
import pytest

import comdml_flwr

ROOT = Path(__file__).resolve().parent.parent

# Seven floors, ten rooms. Imports only point down, and rooms of one floor do not import each other.
FLOORS = [
    {"core"},
    {"planning", "learning"},
    {"agents"},
    {"methods", "carriers"},
    {"runs"},
    {"flower", "comparison"},
    {"cli", "clients", "strategies", "experiments"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOT_ENTRIES = {room for rooms in FLOORS[:-1] for room in rooms} | {"cli", "__init__.py", "py.typed"}
LONGEST_FILE = 350  # lines


def source_files():
    packages = ("comdml_flwr", "clients", "strategies", "experiments")
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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


def import_graph():
    """Return our modules, with an edge from each to those that it imports when it is loaded or called."""
    modules = {module_of(path): path for path in source_files()}
    graph = nx.DiGraph()
    graph.add_nodes_from(modules)
    for name, path in modules.items():
        for imported in imports_of(path):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name and target != "comdml_flwr":
                graph.add_edge(name, target)
    return graph


def test_every_file_has_a_room():
    assert {room_of(module_of(path)) for path in source_files()} - {None} == set(FLOOR_OF)
    entries = {path.name for path in (ROOT / "comdml_flwr").iterdir() if path.name != "__pycache__"}
    assert entries == ROOT_ENTRIES


def test_imports_point_down():
    rooms = [(own, other, room_of(own), room_of(other)) for own, other in import_graph().edges]
    up = [
        f"{own} imports {other}"
        for own, other, room, below in rooms
        if room and below and room != below and FLOOR_OF[below] >= FLOOR_OF[room]
    ]
    assert up == []


def test_nobody_inside_imports_the_public_face():
    inside = [path for path in source_files() if path.is_relative_to(ROOT / "comdml_flwr")]
    found = {module_of(path): {*imports_of(path)} for path in inside}
    assert {name for name, imported in found.items() if "comdml_flwr" in imported} == set()


def test_no_file_imports_itself_by_a_detour():
    assert list(nx.simple_cycles(import_graph())) == []


def test_methods_and_carriers_do_not_know_each_other():
    """Neither one method another one, nor one carrier another one; what they share lies in folders below."""
    for room, shared in (("methods", {"phases"}), ("carriers", {"transport", "sealed", "direct"})):
        for own, other in import_graph().edges:
            if room_of(own) == room_of(other) == room:
                mine, below = own.split(".")[2], other.split(".")[2]
                assert mine == below or below in shared, f"{own} imports {other}"


@pytest.mark.parametrize("folder", ["core", "planning", "carriers/transport", "carriers/sealed"])
def test_what_plans_and_moves_mail_knows_neither_torch_nor_flower(folder):
    paths = list((ROOT / "comdml_flwr" / folder).rglob("*.py"))
    assert paths
    assert not {module.split(".")[0] for path in paths for module in imports_of(path)} & {
        "torch",
        "flwr",
        "ray",
    }


def test_no_file_is_long():
    long = {
        module_of(path): lines
        for path in source_files()
        if (lines := path.read_text().count("\n")) > LONGEST_FILE
    }
    assert long == {}


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


def test_each_command_that_ci_takes_from_a_page_is_there_once():
    for page, line in (
        ("README.md", r'^pip install -e "\.\[dev\]" && pytest'),
        ("README.md", r"`pytest -m hunt --hunt-seconds=\d+`"),
        ("CONTRIBUTING.md", r"`pytest -m examples`"),
        ("CONTRIBUTING.md", r'^pip install -e "\.\[docs\]" && mkdocs build --strict$'),
    ):
        assert len(re.findall(line, (ROOT / page).read_text(), flags=re.MULTILINE)) == 1
