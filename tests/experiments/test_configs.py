"""The comparison files: what they name is there, and their smoke variants are small."""

import re
import tomllib

import pytest

from comdml_flwr.planning.fleet.fleet_file import load_fleet, parse_fleet
from comdml_flwr.planning.fleet.presets import FLEET_NAMES, preset_text
from experiments.command import CONFIGS

NAMES = ("scaling", "sparse", "dynamic")


def file_of(name):
    return tomllib.loads((CONFIGS / f"{name}.toml").read_text())


def fleet_of(case):
    if case["fleet"] in FLEET_NAMES:
        return parse_fleet(preset_text(case["fleet"]), case["fleet"])
    return load_fleet(CONFIGS / case["fleet"])


@pytest.mark.parametrize("name", NAMES)
def test_labels_differ_and_the_reference_is_one_of_them(name):
    file = file_of(name)
    assert file["name"] == name
    labels = [method["label"] for method in file["methods"]]
    assert len(set(labels)) == len(labels)
    assert file["reference"] in labels


@pytest.mark.parametrize("name", NAMES)
def test_every_fleet_has_the_agents_of_its_case(name):
    for case in file_of(name)["cases"]:
        assert len(fleet_of(case).agents) == case["num-agents"]


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_variant_is_one_seed_and_one_case_of_few_rounds(name):
    smoke = file_of(name)["smoke"]
    assert (len(smoke["seeds"]), smoke["cases"]) == (1, 1)
    assert smoke["num-rounds"] <= 2


def test_the_dynamic_fleet_changes_during_its_run():
    file = file_of("dynamic")
    scenario = fleet_of(file["cases"][0]).scenario
    assert scenario.share > 0
    assert scenario.speed_noise > 0
    assert scenario.every < file["run"]["num-rounds"]
    assert {method.get("hysteresis", 0) > 0 for method in file["methods"]} == {False, True}


def test_a_fifth_of_the_agents_and_of_the_links():
    assert file_of("scaling")["run"]["participation"] == 0.2
    assert file_of("sparse")["run"]["topology-probability"] == 0.2


def test_the_results_page_and_the_main_comparison_say_one_time():
    page = CONFIGS.parents[1] / "docs" / "results" / "main.md"
    texts = ((CONFIGS / "main.toml").read_text(), page.read_text())
    comparison, results = (re.findall(r"(\d+ minutes)\s+on two busy cores", text) for text in texts)
    assert comparison == results
    assert len(results) == 1
