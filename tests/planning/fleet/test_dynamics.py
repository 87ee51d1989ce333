"""Fleets that change: pure functions of (fleet, seed, round), and pairs that stay while good enough."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.dynamics import fleet_at, unchanged_since
from comdml_flwr.planning.fleet.fleet_file import load_fleet, parse_fleet, self_contained_text
from comdml_flwr.planning.hysteresis import (
    Pairing,
    keep_or_replace,
    latest_pairing,
    num_new_pairs,
    pairing_of,
)
from comdml_flwr.planning.measured import SpeedEstimate
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents, price_pairs
from comdml_flwr.planning.participation import draw_participants
from comdml_flwr.planning.types import Cut, Link, Profile
from tests.fleets import agent_tables

CUTS = (
    Cut(slow_share=0.7, fast_share=0.3, bytes_per_batch=1e5),
    Cut(slow_share=0.2, fast_share=0.8, bytes_per_batch=2e5),
)


def fleet_of(num_agents, tables="", source="f.toml"):
    ids, batches = range(0, 3 * num_agents, 3), range(1, num_agents + 1)
    agents = agent_tables(ids, batches_per_s=(4, 2, 1, 0.5, 0.2), num_batches=batches)
    links = "".join(
        f"[[link]]\nbetween = [{3 * i}, {3 * j}]\nbandwidth_mbps = {10 * i + j}\n"
        for i, j in combinations(range(num_agents), 2)
    )
    cuts = "[[cuts]]\nslow_share = 0.5\nfast_share = 0.5\nbytes_per_batch = 1e3\n"
    return parse_fleet(cuts + agents + links + tables, source)


SCENARIO = "[scenario]\nshare = 0.2\nevery = 100\n"


def speeds(fleet):
    return [agent.batches_per_s for agent in fleet.agents]


def test_without_a_scenario_the_fleet_is_the_same_object():
    fleet = fleet_of(4)
    assert fleet_at(fleet, 1, 500) is fleet


@pytest.mark.parametrize("links", ["false", "true"])
def test_a_fifth_of_the_devices_changes_every_hundred_rounds(links):
    fleet = fleet_of(50, f"{SCENARIO}links = {links}\n")
    rounds = {round_: fleet_at(fleet, 1, round_) for round_ in (1, 100, 101, 200, 201)}
    assert speeds(rounds[1]) == speeds(rounds[100]) == speeds(fleet)
    assert rounds[101] == rounds[200]
    for before, after in ((100, 101), (200, 201)):
        changed = sum(a != b for a, b in zip(speeds(rounds[before]), speeds(rounds[after]), strict=True))
        assert 1 <= changed <= 10
    assert set(speeds(rounds[201])) <= set(speeds(fleet))
    work = [[agent.num_batches for agent in fleet.agents] for fleet in rounds.values()]
    assert all(batches == work[0] for batches in work)
    same_links = rounds[101].overrides == rounds[1].overrides
    assert same_links == (links == "false")
    assert set(rounds[101].overrides.values()) <= set(fleet.overrides.values())


@settings(max_examples=30)
@given(seed=st.integers(0, 2**63 - 1), round_=st.integers(1, 1000), every=st.integers(1, 300), data=st.data())
def test_a_rounds_fleet_depends_on_fleet_seed_and_round_alone(seed, round_, every, data):
    fleet = fleet_of(7, f"[scenario]\nshare = 0.4\nevery = {every}\nlinks = true\nspeed_noise = 0.1\n")
    now = fleet_at(fleet, seed, round_)
    assert now == fleet_at(fleet, seed, round_)
    shuffled = data.draw(st.permutations(fleet.agents))
    again = fleet_at(parse_with(fleet, tuple(shuffled)), seed, round_)
    assert {agent.id: agent for agent in again.agents} == {agent.id: agent for agent in now.agents}
    assert again.overrides == now.overrides


def parse_with(fleet, agents):
    from dataclasses import replace

    return replace(fleet, agents=agents)


@given(round_=st.integers(1, 500), every=st.integers(1, 60))
def test_the_fleet_is_what_it_was_since_it_changed(round_, every):
    fleet = fleet_of(5, f"[scenario]\nshare = 0.5\nevery = {every}\n")
    since = unchanged_since(fleet, round_)
    assert round_ - every < since <= round_
    assert fleet_at(fleet, 3, since) == fleet_at(fleet, 3, round_)


def test_noise_stays_within_its_bounds_and_does_not_add_up():
    fleet = fleet_of(20, "[scenario]\nspeed_noise = 0.1\n")
    drawn = [speeds(fleet_at(fleet, 1, round_)) for round_ in (1, 2, 1000)]
    assert drawn[0] != drawn[1]
    for noisy in drawn:
        assert all(0.9 <= a / b <= 1.1 for a, b in zip(noisy, speeds(fleet), strict=True))


def test_a_bandwidth_of_its_own_goes_with_the_device():
    text = agent_tables(10, flops_per_s=range(1, 11), bandwidth_mbps=range(100, 90, -1))
    fleet = parse_fleet(f"[links]\nbandwidth_mbps = 5\n[scenario]\nshare = 1\nevery = 1\n{text}", "f.toml")
    assert fleet.link(2, 7).bytes_per_s == 93 * 125_000
    for agent in fleet_at(fleet, 1, 2).agents:
        assert agent.bytes_per_s == (101 - agent.flops_per_s) * 125_000


TRACE = """
[[availability]]
round = 3
agent = 0
present = false
[[availability]]
round = 5
agent = 0
present = true
[[availability]]
round = 1
agent = 6
present = false
"""


def test_a_row_of_the_trace_holds_until_the_agents_next_one():
    fleet = fleet_of(4, TRACE)
    there = {r: draw_participants((0, 3, 6, 9), 1.0, 1, r, fleet.availability) for r in range(1, 8)}
    assert there == {r: (3, 9) if r in (3, 4) else (0, 3, 9) for r in range(1, 8)}


def test_participation_is_a_share_of_those_who_are_there():
    fleet = fleet_of(4, TRACE)
    for round_ in range(1, 50):
        drawn = draw_participants((0, 3, 6, 9), 0.6, 1, round_, fleet.availability)
        assert len(drawn) == (1 if round_ in (3, 4) else 2)
        assert 6 not in drawn


def test_a_round_in_which_nobody_is_there_is_one_line():
    fleet = fleet_of(4, TRACE)
    with pytest.raises(InputError) as caught:
        draw_participants((0,), 1.0, 1, 3, fleet.availability)
    assert str(caught.value) == "availability = 'nobody in round 3': must leave one agent in each round"


CSV = "round, agent, present\n3,0,false\n5,0,TRUE\n\n1,6,0\n"


@pytest.fixture
def with_csv(tmp_path):
    """Write a fleet file that names a trace; return its path."""
    (tmp_path / "trace.csv").write_text(CSV)
    text = "[availability]\nfile = 'trace.csv'\n" + agent_tables((0, 3, 6, 9), flops_per_s=1)
    (tmp_path / "f.toml").write_text(text)
    return tmp_path / "f.toml"


def test_a_csv_file_says_the_same_as_rows(with_csv):
    assert load_fleet(with_csv).availability.changes == fleet_of(4, TRACE).availability.changes


def test_a_text_that_travels_holds_the_rows(with_csv):
    text = self_contained_text(with_csv)
    assert "trace.csv" not in text
    assert parse_fleet(text, "elsewhere").availability == fleet_of(4, TRACE).availability
    with_csv.write_text("availability.file = 'trace.csv'\n" + text.split("false\n", 3)[-1])
    with pytest.raises(InputError, match="must stand as two lines"):
        self_contained_text(with_csv)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("agent,round,present\n", "trace.csv: line 1 = 'agent,round,present': must be round,agent,present"),
        (CSV + "7,0\n", "trace.csv: row 5 = '7,0': must be a round, an agent, and true or false"),
        (CSV + "7,0,maybe\n", "trace.csv: row 5 = '7,0,maybe': must be a round, an agent, and true or"),
        (CSV + "0,0,1\n", "trace.csv: row 5: round = '0': must be a whole number >= 1"),
        (CSV + "1e3,0,1\n", "trace.csv: row 5: round = '1e3': must be a whole number >= 1"),
        (CSV + "1,1,1\n", "trace.csv: row 5: agent = '1': must be the id of one of [[agents]]"),
        (CSV + "3,0,1\n", "f.toml: availability = 'round 3, agent 0': must appear once"),
        ("", "trace.csv: line 1 = '': must be round,agent,present"),
    ],
)
def test_a_bad_trace_is_one_line(with_csv, line, message):
    (with_csv.parent / "trace.csv").write_text(line)
    with pytest.raises(InputError) as caught:
        load_fleet(with_csv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("[scenario]\nshare = 1.5\nevery = 1", "scenario.share = 1.5: must be a number in [0, 1]"),
        ("[scenario]\nshare = nan\nevery = 1", "scenario.share = nan: must be a number in [0, 1]"),
        ("[scenario]\nshare = 0.5", "scenario.every = None: must be a whole number >= 1, at most 1e+18"),
        ("[scenario]\nevery = 0.5", "scenario.every = 0.5: must be a whole number >= 1, at most 1e+18"),
        ("[scenario]\nspeed_noise = 1", "scenario.speed_noise = 1: must be a number in [0, 1)"),
        ("[scenario]\nlinks = 1", "scenario.links = 1: must be true or false"),
        ("[scenario]\nevry = 1", "scenario.evry = 1: is not known here; did you mean every?"),
        ("[[scenario]]\nevery = 1", "scenario = 'an array': must be a table"),
        ("[availability]\n", "availability.file = None: must be the name of a .csv file next to"),
        ("[availability]\nfile = '../t.csv'", "availability.file = '../t.csv': must be the name of a .csv"),
        ("[availability]\nfile = 'none.csv'", "availability.file = 'none.csv': cannot be read: No such file"),
        ('[availability]\nfile = "\\u0000.csv"', "availability.file = '\\x00.csv': is not CSV: embedded"),
        ("[[availability]]\nround = 0", "availability[0].round = 0: must be a whole number >= 1"),
        ("[[availability]]\nround = 1\nagent = 1", "availability[0].agent = 1: must be the id of one of"),
        ("[[availability]]\nround = 1\nagent = 0", "availability[0].present = None: must be true or false"),
        (2 * "[[availability]]\nround = 1\nagent = 0\npresent = true\n", "availability = 'round 1, agent 0'"),
    ],
)
def test_a_bad_table_is_one_line(tables, message):
    with pytest.raises(InputError) as caught:
        fleet_of(2, tables)
    assert str(caught.value).startswith(f"f.toml: {message}")


def test_an_estimate_follows_what_is_observed_at_any_cut():
    estimate = SpeedEstimate(weight=0.25)
    for _ in range(60):
        estimate = estimate.observe(30.0, num_batches=20, cut=CUTS[1])
    assert estimate.slow_side_s(CUTS[1]) == pytest.approx(1.5)
    assert estimate.slow_side_s(CUTS[0]) == pytest.approx(1.5 * 0.7 / 0.2)
    assert estimate.fast_side_s(CUTS[0]) == pytest.approx(1.5 * 0.3 / 0.2)
    assert estimate.batches_per_s == pytest.approx(0.2 / 1.5)


def test_one_bad_observation_moves_an_estimate_by_its_weight():
    estimate = SpeedEstimate(weight=0.25).observe(1.0, num_batches=1).observe(5.0, num_batches=1)
    assert estimate.batch_s == 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SpeedEstimate(weight=0),
        lambda: SpeedEstimate().observe(0, num_batches=1),
        lambda: SpeedEstimate().observe(1, num_batches=-1),
        lambda: SpeedEstimate().observe(
            1, num_batches=1, cut=Cut(slow_share=0, fast_share=1, bytes_per_batch=1)
        ),
        lambda: SpeedEstimate().batches_per_s,
    ],
)
def test_an_estimate_of_nothing_is_one_line(wrong):
    with pytest.raises(InputError):
        wrong()


def profiles_of(*speeds, bytes_per_s=1e9):
    link = Link(bytes_per_s=bytes_per_s)
    ids = range(len(speeds))
    return [
        Profile(agent=i, batches_per_s=speed, num_batches=10, links={j: link for j in ids if j != i})
        for i, speed in enumerate(speeds)
    ]


BEFORE = profiles_of(1, 10, 8)
AFTER = profiles_of(1, 8, 10)  # now agent 2 is the better helper, by a little


def test_a_pairing_is_replaced_only_where_that_gains_enough():
    first = pairing_of(pair_agents(BEFORE, CUTS), 1)
    best = pair_agents(AFTER, CUTS)
    kept = price_pairs(AFTER, CUTS, first.pairs)
    gain = 1 - best.makespan_s / kept.makespan_s
    assert 0 <= gain < 0.3
    assert keep_or_replace(first, best, AFTER, CUTS, threshold=0) is best
    assert keep_or_replace(first, best, AFTER, CUTS, threshold=gain + 1e-9) == kept
    if gain:
        assert keep_or_replace(first, best, AFTER, CUTS, threshold=gain / 2) is best
    assert num_new_pairs(pairing_of(kept, 2), first) == 0


def test_before_the_first_plan_there_is_nothing_to_keep():
    best = pair_agents(BEFORE, CUTS)
    assert keep_or_replace(Pairing(), best, BEFORE, CUTS, threshold=0.9) is best


@settings(max_examples=60)
@given(
    old=st.lists(st.floats(0.1, 10), min_size=4, max_size=8),
    new=st.lists(st.floats(0.1, 10), min_size=8, max_size=8),
    absent=st.sets(st.integers(0, 7)),
    threshold=st.floats(0, 0.9),
)
def test_what_is_kept_is_a_valid_plan_within_the_threshold_of_the_best(old, new, absent, threshold):
    first = pairing_of(pair_agents(profiles_of(*old), CUTS), 1)
    now = [p for p in profiles_of(*new[: len(old)]) if p.agent not in absent] or profiles_of(1.0)
    best = pair_agents(now, CUTS)
    plan = keep_or_replace(first, best, now, CUTS, threshold=threshold)
    assert is_valid_plan(plan, now, CUTS)
    assert best.makespan_s <= plan.makespan_s <= best.makespan_s / (1 - threshold) * (1 + 1e-12)
    assert keep_or_replace(first, best, now[::-1], CUTS, threshold=threshold) == plan


def test_pairs_that_no_longer_are_possible_fall_away():
    pairs = [(0, 1, 2), (2, 3, 1), (4, 9, 1)]
    now = profiles_of(1, 10, 10, 1, 1)
    kept = price_pairs(now, CUTS, pairs)
    assert [(pair.slow, pair.fast, pair.cut) for pair in kept.pairs] == [(0, 1, 2)]
    assert price_pairs(profiles_of(1, 10, bytes_per_s=0), CUTS, pairs).pairs == ()
    assert price_pairs(now, CUTS[:1], pairs).pairs == ()


def test_the_latest_pairing_counts():
    one, two = Pairing(round=3, pairs=((0, 1, 1),)), Pairing(round=4)
    assert latest_pairing([one, two, Pairing()]) == two
    assert latest_pairing([]) == Pairing()


@pytest.mark.parametrize("threshold", [-0.1, 1, float("nan")])
def test_an_impossible_threshold_is_one_line(threshold):
    with pytest.raises(InputError, match=r"hysteresis = .*: must be in \[0, 1\)"):
        keep_or_replace(Pairing(), pair_agents(BEFORE, CUTS), BEFORE, CUTS, threshold=threshold)
