"""A comparison's folder in which anything was changed: it is read, run again, or one line is told."""

import json
import random
import shutil
from itertools import cycle, islice

import pytest

from comdml_flwr.comparison.compare import compare
from comdml_flwr.comparison.reading import read_comparison
from comdml_flwr.comparison.report import write_report
from comdml_flwr.comparison.schedule import plan_runs, read_done
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.comparison.statistics import compare_runs, elapsed
from comdml_flwr.core.errors import InputError, RunError
from tests.comparison.folders import real_folder
from tests.comparison.small_comparison import add_small_names, write_comparison
from tests.mutations import changed_bytes, changed_value, text_of, went_well_or_one_line


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return real_folder(tmp_path_factory.mktemp("real") / "small")


class Silent:
    """A watcher that hears nothing."""

    def comparison_begins(self, num_done, missing):
        pass

    def run_begins(self, run):
        pass

    def round_ends(self, run, round_):
        pass

    def run_ends(self, run, outcome):
        pass


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The runs of a comparison that is done, and its folder."""
    place = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        add_small_names(patch)
        comparison = load_comparison(write_comparison(place))
        compare(comparison, place / "out", Silent())
    return comparison, place / "out"


@pytest.fixture
def folder(real, tmp_path):
    return shutil.copytree(real, tmp_path / "small")


def change(path, rng):
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        number = rng.randrange(len(lines))
        lines[number] = json.dumps(changed_value(json.loads(lines[number]), rng))
        path.write_text("\n".join(lines))
    elif path.suffix == ".json" and rng.random() < 0.8:
        path.write_text(text_of(changed_value(json.loads(path.read_text()), rng)))
    else:
        path.write_bytes(changed_bytes(path.read_bytes(), rng))


def outcomes(folder, call, count):
    """Change one file after another, and put it back; return how often the call went well."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".toml"))
    went_well = 0
    for seed, path in enumerate(islice(cycle(files), count)):
        whole = path.read_bytes()
        change(path, random.Random(f"{path.relative_to(folder)} {seed}"))
        went_well += went_well_or_one_line(call)
        path.write_bytes(whole)
    return went_well


def test_whatever_is_changed_is_read_or_told_in_one_line(folder):
    assert 0 < outcomes(folder, lambda: read_comparison(folder), 150) < 150


def test_a_run_that_was_changed_is_run_again_or_counts_as_it_is(compared):
    comparison, folder = compared
    runs = plan_runs(comparison)

    def go_on():
        done = [files for run in runs if (files := read_done(folder, run)) is not None]
        if len(done) < len(runs):
            raise RunError("it would be run again")
        json.dumps([compare_runs(comparison, done), elapsed(done)])

    assert 0 < outcomes(folder, go_on, 120) < 120


def test_a_changed_round_is_named(compared):
    comparison, folder = compared
    path = next(folder.glob("runs/*/*/*/rounds.jsonl"))
    whole = path.read_text()
    path.write_text(whole.replace('"virtual_time_s": ', '"virtual_time_s": 1', 1))
    with pytest.raises(InputError, match=r"rounds\.jsonl': line 1 is not as it was written$"):
        read_comparison(folder)
    assert sum(read_done(folder, run) is None for run in plan_runs(comparison)) == 1
    path.write_text(whole)


@pytest.mark.slow
def test_of_whatever_is_changed_there_is_a_report_or_one_line(folder):
    assert 0 < outcomes(folder, lambda: write_report(folder), 40) < 40
