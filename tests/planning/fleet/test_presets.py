"""Published fleets: what is in them, that they load and plan, and what 0 Mbps does to the result."""

import json
import sys
from collections import Counter
from dataclasses import replace
from statistics import mean

import pytest

from comdml_flwr.cli import main as cli
from comdml_flwr.core.config import find_fleet, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import load_fleet, parse_fleet, self_contained_text
from comdml_flwr.planning.fleet.presets import FLEET_NAMES, LINK_MBPS, PRESETS, preset_text
from comdml_flwr.planning.fleet.topology import topology_of_links
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.types import Cut

CUTS = (
    Cut(slow_share=0.7, fast_share=0.3, bytes_per_batch=13e6),
    Cut(slow_share=0.4, fast_share=0.6, bytes_per_batch=26e6),
    Cut(slow_share=0.05, fast_share=0.95, bytes_per_batch=6.5e6),
)
BATCH_FLOPS = 2.6e9


def fleet_of(name, **keys):
    return parse_fleet(preset_text(name, **keys), name)


@pytest.mark.parametrize("zero_mbps", ["per-link", "per-agent"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_plans(name, zero_mbps):
    fleet = fleet_of(name, zero_mbps=zero_mbps)
    profiles = fleet.profiles(batch_flops=BATCH_FLOPS)
    plan = pair_agents(profiles, CUTS)
    assert is_valid_plan(plan, profiles, CUTS)
    assert len(profiles) == PRESETS[name].num_agents
    assert sum(agent.num_samples for agent in fleet.agents) == 50_000


def test_the_hundred_have_a_fifth_of_each_device_and_of_each_speed():
    fleet = fleet_of("comdml-100")
    assert Counter(agent.flops_per_s for agent in fleet.agents) == dict.fromkeys(
        [4e9, 2e9, 1e9, 5e8, 2e8], 20
    )
    speeds = Counter(
        link.bytes_per_s / 125_000 for own in fleet.links_by_agent().values() for link in own.values()
    )
    assert speeds.keys() == set(LINK_MBPS)
    assert all(count == pytest.approx(9900 / 5, rel=0.1) for count in speeds.values())
    assert (fleet.scenario.share, fleet.scenario.every) == (0.2, 100)


def test_dtfl_fleets_are_its_two_cases():
    one, two = fleet_of("dtfl-case-1"), fleet_of("dtfl-case-2")
    assert {(a.flops_per_s, a.bytes_per_s) for a in one.agents} == {
        (cpus * 1e9, 30 * 125_000) for cpus in (2, 1, 0.2)
    }
    assert {(a.flops_per_s, a.bytes_per_s) for a in two.agents} == {
        (4e9, 100 * 125_000),
        (1e9, 30 * 125_000),
        (0.1e9, 10 * 125_000),
    }
    assert two.link(0, 2).bytes_per_s == 10 * 125_000
    assert (two.scenario.share, two.scenario.every) == (0.3, 50)


def test_same_seed_same_text_another_seed_another():
    texts = [preset_text("comdml-20", seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_what_zero_mbps_belongs_to_decides_the_result():
    """In presets.py: 5.0 per link and 1.2 per agent, at 50 agents."""

    def gains(zero_mbps):
        for seed in range(5):
            fleet = fleet_of("comdml-50", seed=seed, zero_mbps=zero_mbps)
            plan = pair_agents(fleet.profiles(batch_flops=BATCH_FLOPS), CUTS)
            yield plan.solo_makespan_s / plan.makespan_s

    assert mean(gains("per-link")) > 4
    assert mean(gains("per-agent")) < 1.6


def test_a_large_fleet_is_connected_per_link_and_not_per_agent():
    per_link, per_agent = (
        fleet_of("comdml-50", zero_mbps=way).profiles(batch_flops=1.0) for way in ("per-link", "per-agent")
    )
    assert topology_of_links(per_link).number_of_nodes() == 50
    with pytest.raises(InputError, match="do not connect all agents"):
        topology_of_links(per_agent)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "comdml-30"}, "preset = 'comdml-30': must be one of ten, comdml-10, comdml-20"),
        (
            {"name": "comdml-10", "zero_mbps": "never"},
            "zero-mbps = 'never': must be one of per-link",
        ),
    ],
)
def test_what_is_not_there_is_one_line(keys, message):
    with pytest.raises(InputError) as caught:
        preset_text(**keys)
    assert str(caught.value).startswith(message)


@pytest.fixture
def comdml(monkeypatch, capsys, tmp_path):
    """Run `comdml` with these words in an empty folder; return exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["comdml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_the_command_writes_what_it_prints(comdml, tmp_path):
    status, out, err = comdml("fleet", "new", "comdml-10", "--seed", 7)
    assert (status, err, out) == (0, "", preset_text("comdml-10", seed=7))
    status, out, err = comdml("fleet", "new", "comdml-10", "--seed", 7, "--output", "f.toml", "--json")
    assert (status, err) == (0, "")
    assert (tmp_path / "f.toml").read_text() == preset_text("comdml-10", seed=7)
    facts = json.loads(out)
    assert (facts["preset"], facts["seed"], facts["num_agents"]) == ("comdml-10", 7, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["f.toml"]


def test_the_command_never_overwrites(comdml, tmp_path):
    (tmp_path / "f.toml").write_text("mine")
    status, out, err = comdml("fleet", "new", "comdml-10", "--output", "f.toml")
    assert (status, out) == (2, "")
    assert err == "comdml: --output = 'f.toml': cannot be written: File exists\n"
    assert (tmp_path / "f.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["f.toml"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["comdml-11"], "preset = 'comdml-11'"),
        ([], "PRESET"),
        (["comdml-10", "--seed", "-1"], "--seed"),
        (
            ["comdml-10", "--output", "none/f.toml"],
            "--output = 'none/f.toml': cannot be written",
        ),
        (["comdml-10", "--json"], "--json = True: needs --output"),
        (["comdml-10", "--zero-mbps", "x"], "zero-mbps = 'x'"),
    ],
)
def test_bad_words_are_one_line(comdml, tmp_path, words, named):
    status, out, err = comdml("fleet", "new", *words)
    assert (status, out) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_a_presets_name_stands_for_its_fleet_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fleet.toml"
    file.write_text(preset_text(name))
    by_name, by_file = load_fleet(find_fleet(name)), load_fleet(file)
    assert by_name.source == name
    assert replace(by_name, source="") == replace(by_file, source="")
    assert self_contained_text(find_fleet(name)) == preset_text(name)


def test_the_default_fleet_is_a_preset():
    """Flower's bundle holds no links and a wheel no experiments: the name alone is there everywhere."""
    assert parse_config({}).fleet == "ten"
    assert len(load_fleet("ten").agents) == 10


@pytest.mark.parametrize(
    ("name", "hint"),
    [("comdml-11", "did you mean 'comdml-10'?"), ("mine", "presets are ten, comdml-10, comdml-20")],
)
def test_a_name_that_is_neither_a_file_nor_a_preset_is_told_what_there_is(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^fleet = '{name}': No such file or directory; {hint}"):
        load_fleet(find_fleet(name))
