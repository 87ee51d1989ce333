"""Questions on the command line: `plan --picture`, `explain`, `what-if`, as text and as JSON."""

import json
import math
import subprocess
import sys

import pytest

from comdml_flwr.comparison.ring import places, spacing
from comdml_flwr.core.units import human_bandwidth, human_bytes, human_s
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import Cut, Link, Profile
from tests.fleets import agent_tables

CUTS = """
[[cuts]]
slow_share = 0.5
fast_share = 0.5
bytes_per_batch = 1e5
[[cuts]]
slow_share = 0.1
fast_share = 0.9
bytes_per_batch = 1e5
[links]
bandwidth_mbps = 8
"""
# Alone they need 10, 2.5, 0.1 and 4 s; 0 is not linked to 2.
FOUR = (
    CUTS
    + agent_tables(4, batches_per_s=(1, 4, 10, 2), num_batches=(10, 10, 1, 8))
    + "[[link]]\nbetween = [0, 2]\nbandwidth_mbps = 0\n"
)
PLAN_KEYS = {"solver", "time_model", "makespan_s", "solo_makespan_s", "lower_bound_s", "pairs", "solo"}
HEAVY = {"torch", "torchvision", "flwr", "flwr_datasets", "datasets", "ray", "sklearn"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, with a fleet file next to it."""
    (tmp_path / "four.toml").write_text(FOUR)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def answer(comdml):
    """Return the one JSON object that a command prints; it may hold neither NaN nor infinity."""

    def ask(*words):
        status, out, err = comdml(*words, "--json")
        assert (status, err) == (0, "")
        assert len(out.splitlines()) == 1
        return json.loads(out, parse_constant=pytest.fail)

    return ask


def loaded_by(*words):
    code = """
import sys
from comdml_flwr.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
print()
print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["plan", "explain", "what-if"])
def test_help_loads_nothing_that_takes_long(command):
    loaded = loaded_by(command, "--help")
    assert "typer" in loaded
    assert not loaded & {*HEAVY, "numpy", "scipy", "pydantic", "matplotlib"}


@pytest.mark.parametrize(
    "words", [["explain", "--agent", "0"], ["what-if", "--without", "3"]], ids=lambda words: words[0]
)
def test_a_question_about_a_table_of_cuts_needs_neither_torch_nor_flower(tmp_path, words):
    (tmp_path / "four.toml").write_text(FOUR)
    assert not loaded_by(words[0], str(tmp_path / "four.toml"), *words[1:]) & {*HEAVY, "matplotlib"}


def test_a_plan_has_a_line_for_each_agent_and_tells_what_it_is_worth(comdml):
    status, out, err = comdml("plan", "../four.toml")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["0", "offloads", "to", "1", "2", "10.0", "s", "4.8", "s", "1.0", "MB", "helper"] in rows
    assert ["1", "helps", "0", "2.5", "s", "4.8", "s"] in rows
    assert ["2", "trains", "alone", "0.1", "s", "0.1", "s"] in rows
    assert (
        "straggler: pair 0 -> 1; its bottleneck is the helper, 4.8 s (slow side 1.0 s, transfer 1.0 s" in out
    )
    assert "a lower bound" in out
    assert "traffic of the pairs: 1.0 MB a round" in out


MODEL = '[model]\nname = "resnet-56"\ninput = [1, 8, 8]\nbatch_size = 32\n[links]\nbandwidth_mbps = 20\n'


def model_fleet(flops_per_s):
    speeds = [cpus * flops_per_s for cpus in (4, 2, 1, 0.5, 0.2, 0.2)]
    return MODEL + agent_tables(6, flops_per_s=speeds, num_samples=100)


def test_a_plan_for_a_model_tells_the_whole_round(answer, comdml, here):
    (here / "model.toml").write_text(model_fleet(1e9))
    found = answer("plan", "model.toml")
    assert found["makespan_s"] < found["virtual_time_s"] < found["no_offload_virtual_time_s"]
    assert found["left_out"] == []
    assert "a whole round, averaging included: " in comdml("plan", "model.toml")[1]
    changed = comdml("what-if", "model.toml", "--without", "3")[1]
    assert "a whole round" in changed
    assert "left out" not in changed


def test_pairs_that_make_the_whole_round_longer_are_left_out_and_named(answer, comdml, here):
    (here / "fast.toml").write_text(model_fleet(2e10))
    found = answer("plan", "fast.toml", "--solver", "greedy")
    assert found["virtual_time_s"] == found["no_offload_virtual_time_s"]
    assert found["pairs"] == []
    first, *_ = found["left_out"]
    named = f"left out, as the whole round would take longer with them: {first['slow']} -> {first['fast']}"
    for words in (["explain", "--agent", "5"], ["what-if", "--without", "3"]):
        assert named in comdml(words[0], "fast.toml", *words[1:], "--solver", "greedy")[1]


def test_of_measured_cuts_and_of_shared_helpers_the_whole_round_is_not_known(answer, here):
    (here / "model.toml").write_text(model_fleet(1e9))
    for words in (["../four.toml"], ["model.toml", "--solver", "shared"]):
        found = answer("plan", *words)
        assert (found["virtual_time_s"], found["no_offload_virtual_time_s"]) == (None, None)
        assert found["left_out"] == []


def test_an_explanation_shows_the_alternatives_and_why_they_were_not_taken(comdml):
    status, out, err = comdml("explain", "../four.toml", "--agent", "0")
    assert (status, err) == (0, "")
    assert "agent 0 offloads to 1: 4.8 s instead of 10.0 s alone" in out
    assert "10.0 s if 0 neither offloaded nor helped" in out
    assert "no link or no room: 2" in out
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert any(line.startswith("0 -> 1 2 ") and line.endswith("taken") for line in lines)
    assert any(line.startswith("0 -> 3 ") and line.endswith("too late") for line in lines)


@pytest.mark.parametrize(("agent", "role"), [(0, "slow"), (1, "fast"), (2, "alone")])
def test_an_explanation_as_json(answer, agent, role):
    found = answer("explain", "../four.toml", "--agent", str(agent))
    assert (found["agent"], found["role"]) == (agent, role)
    assert found["plan"].keys() == PLAN_KEYS
    plan = answer("plan", "../four.toml")
    assert found["plan"] == {key: plan[key] for key in PLAN_KEYS}
    keys = {"slow", "fast", "cut", "finish_s", "slow_s", "transfer_s", "helper_s", "wait_s", "makespan_s"}
    for option in (*found["taken"], *found["others"], *found["other_cuts"]):
        assert option.keys() == keys | {"reason", "needed_by", "bottleneck"}
    assert len(found["taken"]) == (role != "alone")


def test_explain_looks_at_as_many_alternatives_as_asked_for(answer, comdml):
    found = answer("explain", "../four.toml", "--agent", "3", "--top", "1")
    assert (len(found["others"]), found["num_left_out"]) == (1, 2)
    assert (
        "... and 2 that end later; see them with --top"
        in comdml("explain", "../four.toml", "--agent", "3", "--top", "1")[1]
    )


def test_what_if_shows_the_plan_before_and_after(answer, comdml):
    words = ["what-if", "../four.toml", "--agent", "0", "bandwidth_mbps=0.8"]
    found = answer(*words)
    assert found["before"].keys() == found["after"].keys() == PLAN_KEYS
    assert (found["agents"], found["changes"], found["without"]) == ([0], {"bandwidth_mbps": 0.8}, [])
    difference = found["difference"]
    assert difference.keys() == {"makespan_s", "bytes", "appear", "vanish", "recut"}
    assert difference["makespan_s"] == found["after"]["makespan_s"] - found["before"]["makespan_s"] >= 0
    assert found["before"]["makespan_s"] == answer("plan", "../four.toml")["makespan_s"]
    status, out, err = comdml(*words)
    assert (status, err) == (0, "")
    assert "if agent 0 had bandwidth_mbps = 0.8 (all times modelled)" in out


def test_what_if_without_an_agent_is_the_plan_of_the_smaller_fleet(answer, comdml, here):
    smaller = FOUR.replace("[[agents]]\nid = 1\nbatches_per_s = 4\nnum_batches = 10\n", "")
    (here.parent / "smaller.toml").write_text(smaller)
    plan = answer("plan", "../smaller.toml")
    found = answer("what-if", "../four.toml", "--without", "1")
    assert found["after"] == {key: plan[key] for key in PLAN_KEYS}
    out = comdml("what-if", "../four.toml", "--without", "1")[1]
    assert "if agent 1 were not there" in out
    assert "vanishes  0 -> 1 at cut 2" in out


def test_what_if_says_that_nothing_changes(comdml):
    out = comdml("what-if", "../four.toml", "--agent", "1", "batches_per_s=4")[1]
    assert "all pairs and cuts stay as they are" in out


def test_changes_hold_for_all_agents_that_are_named(answer):
    found = answer(
        "what-if", "../four.toml", "--agent", "0", "--agent", "3", "num_batches=1", "--without", "2"
    )
    assert (found["agents"], found["without"]) == ([0, 3], [2])
    assert found["after"]["solo_makespan_s"] == 2.5


@pytest.mark.parametrize("command", ["explain", "what-if"])
@pytest.mark.parametrize("words", [["--solver", "greedy"], ["--time-model", "overlap"]], ids=" ".join)
def test_solver_and_time_model_reach_the_plan(answer, command, words):
    rest = ["--agent", "0"] if command == "explain" else ["--without", "2"]
    found = answer(command, "../four.toml", *rest, *words)
    plan = found["plan"] if command == "explain" else found["after"]
    assert plan[words[0].lstrip("-").replace("-", "_")] == words[1]


def assert_one_line(outcome, here, *named):
    """Bad input: exit status 2, one line that names these things, and nothing left behind."""
    status, out, err = outcome
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert all(name in err for name in ("comdml: ", *named)), err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["explain"], ["--agent"]),
        (["explain", "--agent", "7"], ["agent = 7", "is not in the fleet"]),
        (["explain", "--agent", "-1"], ["agent = -1", "is not in the fleet"]),
        (["explain", "--agent", "few"], ["--agent", "few"]),
        (["explain", "--agent", "0", "--top", "0"], ["--top", "0"]),
        (["explain", "--agent", "0", "--solver", "magic"], ["solver = 'magic'"]),
        (["explain", "--agent", "0", "--time-model", "sundial"], ["'sundial'"]),
        (["what-if"], ["no change", "--without"]),
        (["what-if", "--agent", "0"], ["--agent and KEY=VALUE together"]),
        (["what-if", "num_batches=3"], ["num_batches=3", "--agent and KEY=VALUE together"]),
        (["what-if", "--agent", "7", "num_batches=3"], ["agent = 7", "four.toml"]),
        (["what-if", "--without", "7"], ["agent = 7", "four.toml"]),
        (["what-if", *(word for agent in "0123" for word in ("--without", agent))], ["at least one agent"]),
        (["what-if", "--agent", "0", "num_batches"], ["'num_batches'", "must be KEY=VALUE"]),
        (["what-if", "--agent", "0", "num_batches=many"], ["num_batches = 'many'", "must be a number"]),
        (["what-if", "--agent", "0", "num_batches="], ["num_batches = ''", "must be a number"]),
        (["what-if", "--agent", "0", "num_batches=-3"], ["num_batches = -3", "> 0"]),
        (["what-if", "--agent", "0", "num_batches=nan"], ["num_batches = nan", "> 0"]),
        (["what-if", "--agent", "0", "bandwidth_mbps=-3"], ["bandwidth_mbps = -3", ">= 0"]),
        (["what-if", "--agent", "0", "bandwidth_mbps=1e999"], ["bandwidth_mbps = inf", "at most"]),
        (["what-if", "--agent", "0", "bandwith_mbps=3"], ["bandwith_mbps", "did you mean bandwidth_mbps?"]),
        (["what-if", "--agent", "0", "flops_per_s=3"], ["flops_per_s = 3", "change batches_per_s"]),
        (["what-if", "--agent", "0", "num_batches=3", "num_batches=4"], ["num_batches", "given once"]),
        (["plan", "--picture", "fleet.gif"], ["--picture = 'fleet.gif'", ".svg or .png"]),
        (["plan", "--picture", "fleet"], ["--picture = 'fleet'", ".svg or .png"]),
        (["plan", "--picture", "none/fleet.svg"], ["--picture = 'none/fleet.svg'", "no folder none"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_a_bad_question_is_one_line_and_status_2(comdml, here, words, named):
    assert_one_line(comdml(words[0], "../four.toml", *words[1:]), here, *named)


def test_a_picture_without_matplotlib_is_one_line_and_status_2(comdml, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = comdml("plan", "../four.toml", "--picture", "fleet.svg")
    assert_one_line(outcome, here, "--picture = 'fleet.svg'", "pip install matplotlib")


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(comdml, here):
    (here.parent / "taken.svg").mkdir()
    outcome = comdml("plan", "../four.toml", "--picture", "../taken.svg")
    assert_one_line(outcome, here, "--picture = '../taken.svg'", "directory")
    assert sorted(path.name for path in here.parent.iterdir()) == ["four.toml", "here", "taken.svg"]


@pytest.mark.parametrize(("name", "begins"), [("fleet.svg", b"<?xml"), ("FLEET.PNG", b"\x89PNG")])
def test_a_picture_is_drawn_beside_the_plan(comdml, here, name, begins):
    status, out, err = comdml("plan", "../four.toml", "--picture", name, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["pairs"]
    assert [path.name for path in here.iterdir()] == [name]
    assert (here / name).read_bytes().startswith(begins)


def test_the_same_plan_gives_the_same_picture_to_the_byte(comdml, here):
    for name in ("one.svg", "other.svg"):
        assert comdml("plan", "../four.toml", "--picture", name)[0] == 0
    assert (here / "one.svg").read_bytes() == (here / "other.svg").read_bytes()


@pytest.mark.parametrize("agents", [[0], [0, 1]], ids=["one agent", "no link"])
def test_the_smallest_fleets_can_be_drawn(comdml, here, agents):
    rows = agent_tables(agents, batches_per_s=1, num_batches=1)
    (here.parent / "small.toml").write_text(CUTS.replace("mbps = 8", "mbps = 0") + rows)
    assert comdml("plan", "../small.toml", "--picture", "small.svg")[::2] == (0, "")


@pytest.mark.parametrize("num_agents", [2, 10, 50, 100])
def test_no_two_agents_of_a_picture_stand_in_one_place(num_agents):
    agents = range(num_agents)
    profiles = [
        Profile(
            agent=agent,
            batches_per_s=1.0 + agent % 5,
            num_batches=10,
            links={peer: Link(bytes_per_s=1e6) for peer in agents if peer != agent},
        )
        for agent in agents
    ]
    plan = pair_agents(profiles, (Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=1.0),))
    found = places([(pair.slow, pair.fast) for pair in plan.pairs], plan.solo)
    assert sorted(found) == list(agents)
    spots = [(place.x, place.y) for place in found.values()]
    gaps = [math.dist(one, other) for index, one in enumerate(spots) for other in spots[:index]]
    assert min(gaps) >= spacing(found) - 1e-9 > 0


def test_a_helper_of_several_stands_in_front_of_them():
    found = places([(1, 9), (2, 9), (3, 9)], (4, 5, 6))
    nearest = min(found.keys() - {9}, key=lambda agent: abs(found[agent].angle - found[9].angle))
    assert nearest == 2


def test_units_for_people():
    assert [human_s(seconds) for seconds in (0, 0.0042, 4.71, 700, 9000, math.inf)] == [
        "0.0 s", "4.2 ms", "4.7 s", "11.7 min", "2.5 h", "never",
    ]  # fmt: skip
    assert [human_bytes(size) for size in (0, 12, 2.4e6, 3.05e9)] == ["0 B", "12 B", "2.4 MB", "3.0 GB"]
    assert [human_bandwidth(rate) for rate in (2.5e6, 1.25e8, 1e3)] == ["20 Mbps", "1 Gbps", "0.008 Mbps"]


def test_a_plan_by_integer_program_says_whether_it_is_proven(comdml):
    words = ("plan", "../four.toml", "--solver", "integer-program")
    status, out, _ = comdml(*words, "--json")
    found = json.loads(out)
    assert (status, found["proven"], found["gap"]) == (0, True, 0.0)
    assert found["solved_by"] in ("HiGHS", "CBC")
    assert ": proven optimal" in comdml(*words)[1]
