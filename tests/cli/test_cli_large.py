"""Large fleets on the command line: searches that end in time, and output that can be read."""

import io
import json

import pytest
from rich.console import Console

from comdml_flwr.cli.commands import what_if
from comdml_flwr.cli.commands.picture import MOST_AGENTS
from comdml_flwr.cli.commands.searching import Search
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.questions import WhatIf
from comdml_flwr.planning.types import Pair
from tests.cli.test_cli_questions import CUTS
from tests.fleets import agent_tables
from tests.planning.fleets import generated_case

SPEEDS = (8, 4, 2, 1, 0.4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def large(here):
    """Write a fleet file of one agent more than a picture shows; return how many it has."""
    speeds = [SPEEDS[n % 5] + n / 1e4 for n in range(MOST_AGENTS + 1)]
    agents = agent_tables(MOST_AGENTS + 1, batches_per_s=speeds, num_batches=20, bandwidth_mbps=range(5, 12))
    (here / "large.toml").write_text(CUTS + agents)
    return MOST_AGENTS + 1


def test_a_fleet_too_large_for_a_picture_is_one_line_before_any_work(comdml, large, tmp_path):
    status, out, err = comdml("plan", "large.toml", "--picture", "large.svg")
    assert (status, out) == (2, "")
    assert err == (
        f"comdml: --picture = 'large.svg': can show {MOST_AGENTS} agents, not {large};"
        " --json gives the whole plan\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["large.toml"]


def test_without_time_the_integer_program_gives_the_plan_of_greedy_and_its_gap(comdml, large):
    words = ("plan", "large.toml", "--json", "--solver")
    status, out, err = comdml(*words, "integer-program", "--time-limit", "0")
    assert (status, err) == (0, "")
    found, greedy = json.loads(out), json.loads(comdml(*words, "greedy")[1])
    assert (found["pairs"], found["makespan_s"]) == (greedy["pairs"], greedy["makespan_s"])
    assert not found["proven"]
    assert found["gap"] == 1 - found["lower_bound_s"] / found["makespan_s"] > 0


def test_without_time_the_search_for_shared_helpers_gives_the_exact_plan_and_says_so(comdml, large):
    words = ("plan", "large.toml", "--solver")
    stopped = comdml(*words, "shared", "--time-limit", "0")
    assert (stopped[0], stopped[2]) == (0, "")
    assert "stopped at the time limit: a longer search may find a better plan" in stopped[1]
    found = json.loads(comdml(*words, "shared", "--time-limit", "0", "--json")[1])
    exact = json.loads(comdml(*words, "exact", "--json")[1])
    assert found["stopped"]
    assert (found["pairs"], found["makespan_s"]) == (exact["pairs"], exact["makespan_s"])


def test_a_search_hears_bounds_that_come_closer_and_whoever_hears_changes_nothing():
    for number in (0, 2, 8):
        case, heard = generated_case(number), []

        def listener(low_s, best_s, heard=heard):
            heard.append((low_s, best_s))
            return True

        ways = {"solver": "shared", "time_model": case.time_model}
        plan = pair_agents(case.profiles, case.cuts, listener=listener, **ways)
        assert plan == pair_agents(case.profiles, case.cuts, **ways)
        assert heard
        assert [best_s for _, best_s in heard] == sorted((best_s for _, best_s in heard), reverse=True)
        assert heard[-1][1] >= plan.makespan_s


@pytest.mark.parametrize("number", [0, 2, 8])
def test_a_search_that_is_stopped_at_any_step_gives_a_valid_plan_no_worse_than_exact(number):
    case, step, is_stopped = generated_case(number), 0, True
    exact_s = pair_agents(case.profiles, case.cuts, time_model=case.time_model).makespan_s
    while is_stopped:
        left = step = step + 1

        def listener(low_s, best_s):
            nonlocal left
            left -= 1
            return left > 0

        plan = pair_agents(
            case.profiles, case.cuts, solver="shared", time_model=case.time_model, listener=listener
        )
        assert is_valid_plan(plan, case.profiles, case.cuts, shared=True)
        assert plan.makespan_s <= exact_s
        is_stopped = left <= 0 and step < 40


def test_a_terminal_sees_between_which_makespans_a_search_looks(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("comdml_flwr.cli.commands.searching.time.monotonic", lambda: now[0])
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Search("shared", 20, console) as search:
        now[0] += 5
        assert search.goes_on(30.0, 0.0421)
        search._line._live.refresh()
        now[0] += 16
        assert not search.goes_on(0.03, 0.04)
    assert "shared: between 30.0 s and 42.1 ms; 5 s of at most 20 s" in screen.getvalue()
    assert search.is_stopped


def test_without_a_terminal_a_search_shows_nothing():
    screen = io.StringIO()
    with Search("shared", 20, Console(file=screen)) as search:
        search.goes_on(1, 2)
    assert screen.getvalue() == ""


def test_a_long_list_of_changed_pairs_is_cut_short():
    case = generated_case(0)
    plan = pair_agents(case.profiles, case.cuts)
    pairs = [Pair(slow=n, fast=n + 100, cut=1, finish_s=1, traffic_bytes=1) for n in range(90)]
    found = WhatIf(before=plan, after=plan, appear=tuple(pairs), vanish=(), recut=())
    lines = what_if._changes(found)
    assert len(lines) == 41
    assert lines[-1] == "... and 50 more; --json shows all"


def test_a_long_list_of_agents_without_a_link_is_cut_short(comdml, large, tmp_path):
    text = (tmp_path / "large.toml").read_text().replace("bandwidth_mbps = 8", "bandwidth_mbps = 0", 1)
    lone = text.replace("num_batches = 20\nbandwidth_mbps = 5\n", "num_batches = 20\nbandwidth_mbps = 0\n")
    (tmp_path / "lone.toml").write_text(lone)
    status, out, _ = comdml("explain", "lone.toml", "--agent", "0", "--top", "2")
    assert status == 0
    assert f"no link or no room: 1, 2, 3, 4, and {large - 5} more" in out
