"""A comparison in this process: stopped anywhere and started again, it ends with the same bytes."""

import json
import re
import socket

import pytest

from comdml_flwr.comparison.compare import compare
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.core.errors import RunError, StoppedError
from comdml_flwr.runs import catalogue
from tests.comparison.small_comparison import TOML, add_small_names, without_stopwatch, write_comparison
from tests.small import few_digits


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    add_small_names(monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Listener:
    """Writes down what it hears; presses Ctrl-C after so many rounds."""

    def __init__(self, stop_after=None):
        self.heard, self.ended, self._left = [], {}, stop_after

    def comparison_begins(self, num_done, missing):
        self.num_done = num_done
        self.missing = [(run.label, run.seed) for run in missing]

    def run_begins(self, run):
        self.heard.append((run.label, run.seed))

    def round_ends(self, run, round_):
        self.heard.append(round_)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt

    def run_ends(self, run, outcome):
        self.ended[run.label, run.seed] = outcome


def perform(folder, text=TOML, stop_after=None):
    listener = Listener(stop_after)
    compare(load_comparison(write_comparison(folder, text)), folder / "out", listener)
    return listener


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the files of an undisturbed comparison."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        add_small_names(patch)
        heard = perform(folder).heard
    assert heard == [("ComDML", 1), 1, 2, ("ComDML", 2), 1, 2, ("AllReduce", 1), 1, 2, ("AllReduce", 2), 1, 2]
    return without_stopwatch(folder / "out")


@pytest.mark.parametrize("stop_after", [3, 8])
def test_stopped_and_started_again_it_ends_with_the_same_bytes(tmp_path, undisturbed, stop_after):
    num_done = (stop_after - 1) // 2
    with pytest.raises(StoppedError, match=f"{num_done} of 4 runs are done; start the same command again"):
        perform(tmp_path, stop_after=stop_after)
    assert not (tmp_path / "out" / "comparison.json").exists()
    listener = perform(tmp_path)
    assert (listener.num_done, len(listener.missing)) == (num_done, 4 - num_done)
    assert without_stopwatch(tmp_path / "out") == undisturbed


def test_what_is_done_is_not_trained_again(tmp_path, undisturbed):
    perform(tmp_path)
    again = perform(tmp_path)
    assert (again.num_done, again.heard) == (4, [])
    assert without_stopwatch(tmp_path / "out") == undisturbed


def test_only_what_a_change_concerns_is_trained_again(tmp_path):
    perform(tmp_path)
    changed = TOML.replace('method = "comdml"', 'method = "comdml"\nlocal-epochs = 1')
    assert perform(tmp_path, changed).missing == [("ComDML", 1), ("ComDML", 2)]
    assert perform(tmp_path, changed.replace("[1, 2]", "[1, 2, 3]")).missing == [
        ("AllReduce", 3),
        ("ComDML", 3),
    ]


def test_a_run_that_fails_is_one_line_and_the_others_go_on(tmp_path, monkeypatch, undisturbed):
    def broken(config):
        if config.seed == 2 and config.method == "comdml":
            raise ZeroDivisionError("no such\nluck")
        return few_digits()

    with monkeypatch.context() as patch:
        patch.setitem(catalogue.DATASETS, "few-digits", broken)
        with pytest.raises(RunError, match=r"3 of 4 runs are done, comparison\.json needs all"):
            perform(tmp_path)
    assert not (tmp_path / "out" / "comparison.json").exists()
    assert perform(tmp_path).missing == [("ComDML", 2)]
    assert without_stopwatch(tmp_path / "out") == undisturbed


def test_a_missing_data_set_is_found_before_any_training(here, comdml):
    path = write_comparison(here, TOML.replace("few-digits", "cifar-10"))
    status, out, err = comdml("compare", str(path), "--workers", "1")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "three agents: ComDML: data-dir" in err
    assert not list((here / "results/small").glob("runs"))


def test_a_cluster_that_is_not_there_is_found_before_any_training(here, comdml):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    status, out, err = comdml("compare", str(write_comparison(here)), "--ray-address", address)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"--ray-address = '{address}': no Ray cluster answers there" in err


def test_the_command_prints_a_table_and_keeps_all_in_the_comparisons_folder(here, comdml, undisturbed):
    status, out, err = comdml("compare", str(write_comparison(here)), "--workers", "1")
    assert status == 0
    found = without_stopwatch(here / "results/small")
    assert {name: found[name] for name in undisturbed} == undisturbed
    assert {"report.html", "three-agents-main.csv"} <= set(found)
    assert "three agents (3 agents of fleet.toml)" in out
    assert "all times are modelled" in out
    assert re.search(r"ComDML +0\.\d{4} ± 0\.\d{4} .* ± .* \d\.\d\dx +not in \d+\.\d m?s ", out)
    assert re.search(
        r"^ComDML reached 5 % in \d\.\d\d of AllReduce's virtual time \(.* ± .*, mean", out, re.M
    )
    assert [line[:3] for line in err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]


def test_a_failed_run_names_itself_and_ends_the_command_with_status_1(here, comdml, monkeypatch):
    def broken(config):
        if config.seed == 2:
            raise ZeroDivisionError("no such luck")
        return few_digits()

    monkeypatch.setitem(catalogue.DATASETS, "few-digits", broken)
    status, out, err = comdml("compare", str(write_comparison(here)), "--workers", "1", "-o", "there")
    assert (status, out) == (1, "")
    assert (here / "there/runs").is_dir()
    assert not (here / "results").exists()
    assert re.search(
        r"failed: three agents: ComDML, seed 2: .*test_compare\.py.*ZeroDivisionError: no such luck", err
    )
    assert err.splitlines()[-1].startswith(
        "comdml: 2 of 4 runs are done, comparison.json needs all; start the"
    )


def test_the_smoke_test_is_small_and_with_json_the_command_prints_it_and_nothing_else(here, comdml):
    status, out, _ = comdml("compare", str(write_comparison(here)), "--workers", "1", "--smoke", "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["name"], found["seeds"], found["cases"][0]["num_agents"]) == ("small-smoke", [3], 2)
    assert out.encode() == (here / "results/small-smoke/comparison.json").read_bytes()
