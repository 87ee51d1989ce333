"""The fleet file: what it means, and one line for each way to get it wrong."""

import pickle
from pathlib import Path

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent, FleetModel
from comdml_flwr.planning.fleet.fleet_file import load_fleet, parse_fleet
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.types import Cut, Link

WITH_MODEL = """
[model]
name = "resnet-56"
input = [3, 32, 32]
batch_size = 100
[links]
bandwidth_mbps = 50
latency_ms = 20
relay_bandwidth_mbps = 4
[[agents]]
id = 0
flops_per_s = 4.0e9
num_samples = 5000
[[agents]]
id = 7
flops_per_s = 2_000_000_000
num_samples = 250
[[agents]]
id = 3
flops_per_s = 1e9
num_samples = 40
[[link]]
between = [7, 0]
bandwidth_mbps = 100
[[link]]
between = [0, 3]
bandwidth_mbps = 0
latency_ms = 5
"""

WITH_CUTS = """
[[cuts]]
slow_share = 0.73
fast_share = 0.13
bytes_per_batch = 1.25e6
[[cuts]]
slow_share = 0.2
fast_share = 0.8
bytes_per_batch = 5_000_000
[links]
bandwidth_mbps = 80
[[agents]]
id = 0
batches_per_s = 4
num_batches = 10
[[agents]]
id = 1
batches_per_s = 0.5
num_batches = 12.5
"""

ONLY_SPEEDS = """
[[agents]]
id = 0
flops_per_s = 1e9
[[agents]]
id = 1
flops_per_s = 2e9
"""

TABLES = "model, cuts, time_shares, links, server, agents, link, scenario, availability"
AGENT = "[[agents]]\nid = 0\nflops_per_s = 1\n"
TWO = AGENT + "[[agents]]\nid = 1\nflops_per_s = 1\n"


def message_of(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_fleet(text, "fleet.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_fleet_with_a_model() -> None:
    fleet = parse_fleet(WITH_MODEL, "f.toml")
    assert fleet == Fleet(
        source="f.toml",
        model=FleetModel(name="resnet-56", input=(3, 32, 32), batch_size=100, num_classes=10),
        cuts=None,
        agents=(
            FleetAgent(id=0, flops_per_s=4e9, batches_per_s=None, num_samples=5000, num_batches=None),
            FleetAgent(id=7, flops_per_s=2e9, batches_per_s=None, num_samples=250, num_batches=None),
            FleetAgent(id=3, flops_per_s=1e9, batches_per_s=None, num_samples=40, num_batches=None),
        ),
        default_link=Link(bytes_per_s=6.25e6, latency_s=0.02),
        overrides={
            (0, 7): Link(bytes_per_s=12.5e6, latency_s=0.02),
            (0, 3): Link(bytes_per_s=0, latency_s=0.005),
        },
        relay=Link(bytes_per_s=5e5, latency_s=0.02),
    )


def test_links_are_equal_in_both_directions() -> None:
    fleet = parse_fleet(WITH_MODEL, "f.toml")
    for i, j, bytes_per_s in ((0, 7, 12.5e6), (0, 3, 0.0), (3, 7, 6.25e6)):
        assert fleet.link(i, j) == fleet.link(j, i)
        assert fleet.link(i, j).bytes_per_s == bytes_per_s


def test_profiles_with_a_model() -> None:
    fleet = parse_fleet(WITH_MODEL, "f.toml")
    profiles = fleet.profiles(batch_flops=2e10)
    assert [(p.agent, p.batches_per_s, p.num_batches) for p in profiles] == [
        (0, 0.2, 50.0),
        (7, 0.1, 2.5),
        (3, 0.05, 0.4),
    ]
    for profile in profiles:
        others = {0, 3, 7} - {profile.agent}
        assert profile.links == {j: fleet.link(profile.agent, j) for j in others}


def test_profiles_with_cuts() -> None:
    fleet = parse_fleet(WITH_CUTS, "f.toml")
    assert fleet.cuts is not None
    assert tuple(fleet.cuts) == (
        Cut(slow_share=0.73, fast_share=0.13, bytes_per_batch=1.25e6),
        Cut(slow_share=0.2, fast_share=0.8, bytes_per_batch=5e6),
    )
    profiles = fleet.profiles()
    assert [(p.agent, p.batches_per_s, p.num_batches) for p in profiles] == [(0, 4.0, 10.0), (1, 0.5, 12.5)]
    assert profiles == fleet.profiles(batch_flops=1e9)
    plan = pair_agents(profiles, fleet.cuts, time_model="overlap")
    assert [(pair.slow, pair.fast, pair.cut) for pair in plan.pairs] == [(1, 0, 2)]
    assert is_valid_plan(plan, profiles, fleet.cuts)


def test_a_fleet_for_runs_only_needs_speeds() -> None:
    fleet = parse_fleet(ONLY_SPEEDS, "f.toml")
    assert (fleet.model, fleet.cuts) == (None, None)
    assert fleet.link(0, 1) == Link(bytes_per_s=0)
    assert fleet.relay == Link(bytes_per_s=1.25e6)


def test_a_fleet_can_be_sent_to_another_process() -> None:
    fleet = parse_fleet(WITH_MODEL, "f.toml")
    assert pickle.loads(pickle.dumps(fleet)) == fleet


def test_load_fleet_reads_the_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(WITH_MODEL, encoding="utf-8")
    assert load_fleet(path) == parse_fleet(WITH_MODEL, str(path))
    assert load_fleet(str(path)).source == str(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "No such file or directory"),
        (b"[[agents]\n", "is not TOML: "),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"id = " + b"9" * 5000, "is not TOML: "),
        (b"a = " + b"[" * 100_000, "is not TOML: "),
    ],
    ids=["missing", "broken", "binary", "endless number", "endless nesting"],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, rule: str) -> None:
    path = tmp_path / "fleet.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_fleet(path)
    assert str(caught.value).startswith(f"fleet = {str(path)!r}: {rule}")
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_a_fleet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        load_fleet(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "agents = None: must be one or more [[agents]] tables"),
        ("agents = []", "agents = []: must be one or more [[agents]] tables"),
        ("[agents]\nid = 0", "agents = 'a table': must be one or more [[agents]] tables"),
        ("agents = [3]", "agents[0] = 3: must be a table"),
        (AGENT + "[[agent]]\nid = 1", "agent = 'an array': is not known here; did you mean agents?"),
        (
            WITH_CUTS + "[[time_shares]]\nslow_share = 1\nfast_share = 1\n",
            "time_shares = 'an array': must be left out with [[cuts]], which has shares of its own",
        ),
        (
            AGENT + "[zebra]",
            f"zebra = 'a table': is not known here; known are {TABLES}",
        ),
        (TWO + "flop_per_s = 2", "agents[1].flop_per_s = 2: is not known here; did you mean flops_per_s?"),
        (AGENT + "[links]\nlatency = 2", "links.latency = 2: is not known here; did you mean latency_ms?"),
        ('"a\\r\\nb" = 1', f"'a\\r\\nb' = 1: is not known here; known are {TABLES}"),
        ("[[agents]]\nflops_per_s = 1", "agents[0].id = None: must be a whole number >= 0, at most 1e+18"),
        ("[[agents]]\nid = -1", "agents[0].id = -1: must be a whole number >= 0, at most 1e+18"),
        ("[[agents]]\nid = 1.0", "agents[0].id = 1.0: must be a whole number >= 0, at most 1e+18"),
        ("[[agents]]\nid = true", "agents[0].id = True: must be a whole number >= 0, at most 1e+18"),
        (TWO + AGENT, "agents[2].id = 0: must be different for each agent"),
        (
            "[[agents]]\nid = 0",
            "agents[0].flops_per_s = None: give flops_per_s, or batches_per_s with [[cuts]]",
        ),
        (AGENT + "num_samples = 0", "agents[0].num_samples = 0: must be a whole number >= 1, at most 1e+18"),
        (
            AGENT + "num_samples = 2.5",
            "agents[0].num_samples = 2.5: must be a whole number >= 1, at most 1e+18",
        ),
        (AGENT + "num_batches = 0", "agents[0].num_batches = 0: must be a number > 0, at most 1e+18"),
        (AGENT + "[links]", "links.bandwidth_mbps = None: must be a number >= 0, at most 1e+18"),
        ("links = 5\n" + AGENT, "links = 5: must be a table"),
        (AGENT + "[[link]]", "link[0].between = None: must be two agent ids"),
        (AGENT + "[link]", "link = 'a table': must be one or more [[link]] tables"),
        (TWO + "[[link]]\nbetween = [0]", "link[0].between = [0]: must be two agent ids"),
        (TWO + "[[link]]\nbetween = [0, 1, 1]", "link[0].between = [0, 1, 1]: must be two agent ids"),
        (TWO + "[[link]]\nbetween = [false, 1]", "link[0].between = [False, 1]: must be two agent ids"),
        (TWO + "[[link]]\nbetween = '01'", "link[0].between = '01': must be two agent ids"),
        (TWO + "[[link]]\nbetween = [1, 1]", "link[0].between = [1, 1]: must be two different agents"),
        (
            TWO + "[[link]]\nbetween = [0, 2]",
            "link[0].between = [0, 2]: must be ids of [[agents]]; there is no agent 2",
        ),
        (
            TWO + 2 * "[[link]]\nbetween = [0, 1]\nbandwidth_mbps = 1\n",
            "link[1].between = [0, 1]: must appear once (a link holds for both directions)",
        ),
        (
            TWO + "".join(f"[[link]]\nbetween = {pair}\nbandwidth_mbps = 1\n" for pair in ([0, 1], [1, 0])),
            "link[1].between = [1, 0]: must appear once (a link holds for both directions)",
        ),
        (
            TWO + "[[link]]\nbetween = [0, 1]",
            "link[0].bandwidth_mbps = None: must be a number >= 0, at most 1e+18",
        ),
        (WITH_CUTS + "[model]\nname = 'm'", "cuts = 'an array': give either [model] or [[cuts]]"),
        ("cuts = []\n" + AGENT, "cuts = []: must be one or more [[cuts]] tables"),
        (
            AGENT + "[[cuts]]\nslow_share = 1",
            "cuts[0].fast_share = None: must be a number >= 0, at most 1e+18",
        ),
    ],
)
def test_bad_input_is_one_line(text: str, message: str) -> None:
    assert message_of(text) == f"fleet.toml: {message}"


NUMBERS = [
    ("flops_per_s", AGENT.replace("= 1", "= @"), "agents[0]", True),
    ("batches_per_s", "[[agents]]\nid = 0\nbatches_per_s = @", "agents[0]", True),
    ("num_batches", AGENT + "num_batches = @", "agents[0]", True),
    ("bandwidth_mbps", AGENT + "[links]\nbandwidth_mbps = @", "links", False),
    ("latency_ms", AGENT + "[links]\nbandwidth_mbps = 1\nlatency_ms = @", "links", False),
    ("relay_bandwidth_mbps", AGENT + "[links]\nbandwidth_mbps = 1\nrelay_bandwidth_mbps = @", "links", True),
    ("bandwidth_mbps", TWO + "[[link]]\nbetween = [0, 1]\nbandwidth_mbps = @", "link[0]", False),
    ("latency_ms", TWO + "[[link]]\nbetween = [0, 1]\nbandwidth_mbps = 1\nlatency_ms = @", "link[0]", False),
    ("slow_share", WITH_CUTS.replace("0.73", "@"), "cuts[0]", False),
    ("fast_share", AGENT + "[[time_shares]]\nslow_share = 1\nfast_share = @\n", "time_shares[0]", True),
    ("fast_share", WITH_CUTS.replace("0.8", "@", 1), "cuts[1]", False),
    ("bytes_per_batch", WITH_CUTS.replace("1.25e6", "@"), "cuts[0]", False),
]


@pytest.mark.parametrize(
    ("key", "text", "place", "positive"), NUMBERS, ids=[f"{n[2]}.{n[0]}" for n in NUMBERS]
)
def test_numbers_obey_their_rule(key: str, text: str, place: str, positive: bool) -> None:
    bad = ["-1", "nan", "inf", "-inf", "1.1e18", "9" * 400, "true", "'50'", "[1]", "1979-05-27"]
    for value in bad + ["0", "-0.0"] * positive:
        message = message_of(text.replace("@", value))
        assert message.startswith(f"fleet.toml: {place}.{key} = ")
        assert message.endswith(f": must be a number {'>' if positive else '>='} 0, at most 1e+18")
    for value in ["1", "0.5", "1e18"] + ["0"] * (not positive):
        parse_fleet(text.replace("@", value), "fleet.toml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name = ''", "model.name = '': must be the name of a model"),
        ("name = 5", "model.name = 5: must be the name of a model"),
        ("input = []", "model.input = []: must be the shape of a sample: whole numbers >= 1"),
        ("input = [3, 0]", "model.input = [3, 0]: must be the shape of a sample: whole numbers >= 1"),
        ("input = 3", "model.input = 3: must be the shape of a sample: whole numbers >= 1"),
        ("batch_size = 0", "model.batch_size = 0: must be a whole number >= 1, at most 1e+18"),
        ("batch_size = true", "model.batch_size = True: must be a whole number >= 1, at most 1e+18"),
        ("num_classes = 1", "model.num_classes = 1: must be a whole number >= 2, at most 1e+18"),
        ("batchsize = 1", "model.batchsize = 1: is not known here; did you mean batch_size?"),
    ],
)
def test_a_bad_model_is_one_line(line: str, message: str) -> None:
    lines = {"name": "name = 'm'", "input": "input = [1]", "batch_size": "batch_size = 8"}
    lines[line.split(" ", 1)[0]] = line
    text = "[model]\n" + "\n".join(lines.values()) + "\n" + AGENT
    assert message_of(text) == f"fleet.toml: {message}"


@pytest.mark.parametrize(
    ("text", "batch_flops", "message"),
    [
        (ONLY_SPEEDS, 1e9, "f.toml: model = None: give [model] or [[cuts]] to plan"),
        (WITH_MODEL, None, "batch_flops = None: must be a number > 0 with [model]"),
        (WITH_MODEL, 0.0, "batch_flops = 0.0: must be a number > 0 with [model]"),
        (
            WITH_MODEL.replace("num_samples = 250", ""),
            1e9,
            "f.toml: agents[1].num_samples = None: is needed to plan with [model]",
        ),
        (
            WITH_MODEL.replace("flops_per_s = 1e9", "batches_per_s = 1"),
            1e9,
            "f.toml: agents[2].flops_per_s = None: is needed to plan with [model]",
        ),
        (
            WITH_CUTS.replace("batches_per_s = 0.5", "flops_per_s = 1"),
            None,
            "f.toml: agents[1].batches_per_s = None: is needed to plan with [[cuts]]",
        ),
        (
            WITH_CUTS.replace("num_batches = 10", ""),
            None,
            "f.toml: agents[0].num_batches = None: is needed to plan with [[cuts]]",
        ),
    ],
)
def test_planning_says_what_is_missing(text: str, batch_flops: float | None, message: str) -> None:
    fleet = parse_fleet(text, "f.toml")
    with pytest.raises(InputError) as caught:
        fleet.profiles(batch_flops=batch_flops)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("i", "j", "message"),
    [
        (0, 12, "f.toml: agent = 12: is not in the fleet"),
        (5, 0, "f.toml: agent = 5: is not in the fleet"),
        (3, 3, "f.toml: agent = 3: has no link with itself"),
    ],
)
def test_only_two_agents_of_the_fleet_have_a_link(i: int, j: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_fleet(WITH_MODEL, "f.toml").link(i, j)
    assert str(caught.value) == message
