"""Apps that stand outside the checkout, with this package installed from its wheel.

Two of them have the same name and equal modules, so that nothing but their folders tells them apart.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comdml_flwr.runs.local_run import run_locally
from comdml_flwr.runs.own_app import load_app
from tests.flower.engine import Engine
from tests.flower.installed import comdml, install_wheel
from tests.flower.loop_grid import quiet_terminal

pytestmark = pytest.mark.slow
NUM_ROUNDS, NUM_NODES = 2, 2


class Apps:
    """Two apps, made by `comdml init`; the local SuperLink is started in the folder of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        python = install_wheel(folder)
        self.first, self.second = (folder / name / "my-app" for name in ("first", "second"))
        for app in (self.first, self.second):
            app.parent.mkdir()
            said = comdml(python, "init", app.name, cwd=app.parent)
            assert "next: cd my-app && flwr run . --stream" in said
        client = self.second / "my_app" / "client_app.py"
        text = client.read_text()
        client.write_text(
            text.replace("16", "8").replace("* 4 // 5", "* 3 // 5")
        )  # another model, other data
        (self.home / ".flwr").mkdir(parents=True)
        environment = {"HOME": str(self.home), "PYTHONPATH": ""}
        self.engine = Engine(self.home / ".flwr", python=python, environment=environment)

    def run(self, app: Path) -> str:
        """Run an app as a user does and return the log."""
        words = ("run", ".", "--stream", "--run-config", f"num-rounds={NUM_ROUNDS}")
        done = self.engine.flwr(*words, cwd=app)
        return done.stdout + done.stderr

    def expected(self, app: Path) -> str:
        """Return the digest of the weights that the app's own code gives on its own data."""
        own, results = load_app(app), str(self.folder / "local")
        values = {**own.defaults, "num-rounds": NUM_ROUNDS, "results-dir": results}
        quiet = quiet_terminal(NUM_ROUNDS)
        record = run_locally(values, num_agents=NUM_NODES, catalogue=own.catalogue, terminal=quiet)
        return record.weights_sha256


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """The apps, after the first has run alone."""
    folder = tmp_path_factory.mktemp("apps")
    apps = Apps(folder)
    try:
        apps.log = apps.run(apps.first)
        yield apps
    finally:
        apps.engine.stop()
        shutil.rmtree(folder)


def results_of(log):
    """Return the run's folder and the digest of its weights."""
    found = re.search("^files: (.*)$", log, re.MULTILINE)
    assert found, log
    return Path(found[1]), json.loads((Path(found[1]) / "summary.json").read_text())["weights_sha256"]


def test_a_new_app_runs_at_once(apps):
    folder, digest = results_of(apps.log)
    assert folder.parent == apps.first / "results"
    assert digest == apps.expected(apps.first)
    assert apps.engine.last_status() == "finished:completed"


def test_a_second_app_on_the_same_superlink_runs_its_own_code_on_its_own_data(apps):
    log = apps.run(apps.second)
    folder, digest = results_of(log)
    assert digest == apps.expected(apps.second) != apps.expected(apps.first)
    assert folder.parent == apps.home / "comdml" / "me.my-app" / "results"
    assert f"relative paths count from {apps.home}/comdml/me.my-app" in log
    assert len(list((apps.first / "results").iterdir())) == 1


def test_two_apps_at_the_same_time_run_each_its_own_code(apps):
    with ThreadPoolExecutor() as pool:
        logs = list(pool.map(apps.run, (apps.first, apps.second)))
    for app, log in zip((apps.first, apps.second), logs, strict=True):
        assert results_of(log)[1] == apps.expected(app)


def test_an_error_of_the_second_app_is_its_own(apps):
    client, before = apps.second / "my_app" / "client_app.py", sorted((apps.first / "results").iterdir())
    text = client.read_text()
    line = text[: text.index("    pixels, digits")].count("\n") + 1
    client.write_text(
        text.replace("    pixels, digits", "    raise RuntimeError('no such sensor')\n    pixels, digits")
    )
    try:
        log = apps.run(apps.second)
    finally:
        client.write_text(text)
    assert f"my_app/client_app.py, line {line}, in load_data: RuntimeError: no such sensor" in log
    assert apps.engine.last_status() == "finished:failed"
    assert sorted((apps.first / "results").iterdir()) == before
