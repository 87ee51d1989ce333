"""A comparison can be run again from its report alone: its file, its fleets and its versions are there."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import pytest

from comdml_flwr.comparison.compare import compare
from comdml_flwr.comparison.page import make_page
from comdml_flwr.comparison.palette import styles_of
from comdml_flwr.comparison.reading import read_comparison
from comdml_flwr.comparison.reproduction import input_files
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.core.errors import InputError
from tests.comparison.folders import write_folder
from tests.comparison.runs import made_up_run
from tests.comparison.small_comparison import TOML, add_small_names, write_comparison

CONFIGS = Path(__file__).resolve().parents[2] / "experiments" / "configs"
SILENT = type("Silent", (), {"__getattr__": lambda self, name: lambda *heard: None})()


class Files(HTMLParser):
    """The files that a page holds: a name and a text each."""

    def __init__(self, page):
        super().__init__()
        self.found, self._tags, self._name = {}, [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._tags.append(tag)

    def handle_endtag(self, tag):
        while self._tags and self._tags.pop() != tag:
            pass

    def handle_data(self, data):
        if self._tags[-2:] == ["summary", "code"]:
            self._name = data
        if self._tags[-1:] == ["pre"]:
            self.found[self._name] = self.found.get(self._name, "") + data


def page_of(folder):
    """Return the page of a folder, without figures."""
    comparison = read_comparison(folder)
    return make_page(
        comparison, dict.fromkeys((c.name for c in comparison.cases), ()), styles_of(comparison.labels)
    )


def unpack(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "reproduce.toml"


def without_paths(comparison):
    """Return a comparison with fleets by their names, as its results call them."""
    cases = tuple(replace(case, fleet=case.fleet.rpartition("/")[2]) for case in comparison.cases)
    return replace(comparison, cases=cases)


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("name", ["main", "scaling", "sparse", "dynamic"])
def test_the_files_that_are_kept_say_the_same_as_the_comparison_file(tmp_path, name, smoke):
    comparison = load_comparison(CONFIGS / f"{name}.toml", smoke=smoke)
    again = load_comparison(unpack(input_files(comparison), tmp_path))
    assert without_paths(again) == without_paths(comparison)


ODD = """
name = "odd"
about = 'a "quoted" \\ line, ± and %'
seeds = [1]
targets = [1e-05, 1]
reference = 'M "1"'
[[methods]]
label = 'M "1"'
method = "comdml"
learning-rate = 1e-3
[[cases]]
label = "A / b"
fleet = "comdml-10"
fleet-seed = 7
num-agents = 2
data-dir = 'C:\\data "here"'
[[cases]]
label = "a preset that is not drawn"
fleet = "ten"
num-agents = 2
[[cases]]
label = "c"
fleet = "fleet.toml"
num-agents = 2
download = true
"""


def test_odd_texts_numbers_and_presets_are_kept_too(tmp_path):
    comparison = load_comparison(write_comparison(tmp_path, ODD))
    files = input_files(comparison)
    assert sorted(files) == ["fleets/c/fleet.toml", "reproduce.toml"]
    again = load_comparison(unpack(files, tmp_path / "again"))
    assert without_paths(again) == without_paths(comparison)
    assert [case.fleet for case in again.cases] == ["comdml-10, seed 7", "ten", "fleets/c/fleet.toml"]


def test_from_the_page_alone_the_comparison_is_run_again_to_the_byte(tmp_path, monkeypatch):
    add_small_names(monkeypatch)
    text = TOML.replace("num-rounds = 2", "num-rounds = 1").replace("[1, 2]", "[1]")
    compare(load_comparison(write_comparison(tmp_path, text)), tmp_path / "out", SILENT)
    page = page_of(tmp_path / "out")
    config = unpack(Files(page).found, tmp_path / "again")
    compare(load_comparison(config), tmp_path / "again" / "out", SILENT)
    for name in ("comparison.json", "runs/three-agents/comdml/seed-1/agents.json"):
        assert (tmp_path / "again" / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    for wanted in ("torch", "flwr", "numpy", "scikit-learn"):
        assert f"<code>{version(wanted).partition('+')[0]}" in page
    assert "All " in page
    assert "learning-rate = " in page, "a default that the comparison does not set"


def folder_with(tmp_path, software=()):
    """Return a comparison of two made-up runs with versions by seed."""
    runs = {seed: made_up_run(seed) for seed in (1, 2)}
    folder = write_folder(tmp_path, {"case": {"ComDML": runs}})
    for seed, versions in dict(software).items():
        (folder / f"runs/case/comdml/seed-{seed}/software.json").write_text(json.dumps(versions))
    return folder


@pytest.mark.parametrize(
    ("software", "says"),
    [
        ({}, "Versions were not kept with these runs"),
        ({1: {"torch": "2.91.7"}, 2: {"torch": "2.91.7"}}, "<code>2.91.7</code>"),
        ({1: {"torch": "2.91.7"}, 2: {"torch": "3.0"}}, "<p>1 run:</p>"),
    ],
    ids=["none", "one", "two kinds"],
)
def test_a_page_says_what_trained_the_runs(tmp_path, software, says):
    page = page_of(folder_with(tmp_path, software))
    assert says in page
    assert page.count("2.91.7") <= 1
    assert "with the file that described this comparison" in page, "these files were not kept"


def test_a_page_says_under_its_table_whose_share_was_left_out(tmp_path):
    folder = folder_with(tmp_path)
    assert "left out" not in page_of(folder)
    numbers = json.loads((folder / "comparison.json").read_text())
    numbers["cases"][0]["methods"][0]["left_out"] = {"2": {"3": 2}}
    (folder / "comparison.json").write_text(json.dumps(numbers))
    assert "ComDML, seed 2: agent 3 in 2 rounds." in page_of(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("reproduce.toml", "cases = [", "is not TOML"),
        ("reproduce.toml", '[[cases]]\nfleet = "fleets/c/fleet.toml"', "No such file"),
        ("runs/case/comdml/seed-1/software.json", "[]", "no JSON object"),
    ],
)
def test_a_file_of_these_that_is_harmed_is_named(tmp_path, name, content, said):
    folder = folder_with(tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=said):
        page_of(folder)
