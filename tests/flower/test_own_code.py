"""Two apps with equal names: an actor runs the one that it is asked to run."""

import os
import subprocess
import sys
import textwrap

import pytest

SETTINGS = """
[project]
name = "{name}"
version = "1.0.0"
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
clientapp = "{package}.client_app:app"
serverapp = "{package}.server_app:app"
"""
CLIENT = """
from comdml_flwr.flower.own_code import OwnCodeApp
from {package} import task
import helpers

app = OwnCodeApp()
app.who = (task.WHO, helpers.WHO)
"""
DRIVER = """
import pickle, sys
sys.path.insert(0, {bundle!r})
import {package}.client_app as client
with open({pickled!r}, "wb") as file:
    pickle.dump({sent}, file)
from comdml_flwr.flower.code_version import app_digest
print(app_digest())
"""
ACTOR = """
import sys
sys.path.insert(0, {started_in!r})
import pickle
for _ in range(2):
    with open({pickled!r}, "rb") as file:
        app = pickle.load(file)
from comdml_flwr.flower.code_version import app_digest, difference, code_digest
print(getattr(app, "who", None))
print(difference(code_digest(), {app!r}))
print({started_in!r} in sys.path)
"""


def write_app(folder, who, *, package="my_package", name="app"):
    (folder / package).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(SETTINGS.format(package=package, name=name))
    (folder / "helpers.py").write_text(f"WHO = {who!r}\n")
    (folder / package / "client_app.py").write_text(CLIENT.format(package=package))
    # Without an __init__.py, Python would join the folders of both apps to one package.
    (folder / package / "task.py").write_text(f"WHO = {who!r}\ndef f(): pass\n")
    return folder


def python(code, cwd, path):
    """Run code as Flower's console scripts do: the working directory is not on `sys.path`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_second(tmp_path, *, sent="client.app", package="my_package", first_package="my_package"):
    """Let an actor run app B where A started the SuperLink; return: who ran, what is wrong, is A on path."""
    first = write_app(tmp_path / "A", "A", package=first_package)
    bundle = write_app(tmp_path / "apps" / "tests.app.1.0.0.0123", "B", package=package)
    pickled = str(tmp_path / "pickled")
    names = {"bundle": str(bundle), "pickled": pickled, "started_in": str(first), "package": package}
    (app,) = python(DRIVER.format(sent=sent, **names), first, [])
    return python(ACTOR.format(app=app, **names), first, [str(bundle)])


@pytest.mark.parametrize("package", ["my_package", "other"])
def test_an_actor_runs_the_app_it_is_sent_not_that_of_the_folder_it_starts_in(tmp_path, package):
    who, trouble, is_path_foreign = run_second(tmp_path, package=package)
    assert who == "('B', 'B')"  # and not helpers.py of A
    assert trouble == ""
    assert is_path_foreign == "False"  # whatever it imports later


def test_an_app_whose_client_does_not_bring_its_code_is_refused_in_one_line(tmp_path):
    """A ClientApp inside another object is pickled by name: the actor imports the first app's functions."""
    who, trouble, _ = run_second(tmp_path, sent="(client.app.__class__, client.task.f)")
    assert who == "None"
    assert trouble.startswith(f"this node runs other code: the app in {tmp_path}/A; if another app started")


def test_a_module_that_came_from_elsewhere_is_refused_in_one_line(tmp_path):
    first, bundle = write_app(tmp_path / "A", "A"), write_app(tmp_path / "apps" / "B", "B")
    code = """
        import sys
        sys.path.insert(0, {first!r})
        import helpers
        sys.path.remove({first!r})
        from comdml_flwr.flower.code_version import app_digest, difference, code_digest
        print(difference(code_digest(), app_digest()))
    """
    (trouble,) = python(textwrap.dedent(code).format(first=str(first)), first, [str(bundle)])
    assert trouble.startswith(
        f"this node runs other code: the app's helpers was imported from {first}/helpers.py"
    )
