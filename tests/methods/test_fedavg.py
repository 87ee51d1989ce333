"""The laws of FedAvg: what it shares with ComDML and AllReduce, and its server on the clock."""

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, SERVER
from tests.fleets import agent_tables
from tests.methods.stepping import walk
from tests.small import run_local, small_config, small_fleet, small_setup

NO_LINKS = small_fleet(5, bandwidth_mbps=0)
EQUAL = small_fleet(4, equal=True)
SGD = {"optimizer": "sgd", "learning_rate": 0.05}
QUICK = {"batch_size": 16, "local_epochs": 1}


@pytest.mark.parametrize(
    ("fleet", "keys"),
    [
        (NO_LINKS, {"partition": "iid", **SGD}),
        (NO_LINKS, {"partition": "dirichlet", "optimizer": "adam"}),
        (NO_LINKS, {"partition": "dirichlet", **SGD, "participation": 0.4, "num_rounds": 4}),
        (EQUAL, {"partition": "iid", "optimizer": "adam"}),
        (EQUAL, {"partition": "iid", **SGD, "participation": 0.5, "num_rounds": 4}),
    ],
    ids=["iid, sgd", "dirichlet, adam", "dirichlet, some", "equal agents, adam", "equal agents, some"],
)
def test_without_offload_comdml_allreduce_and_fedavg_are_equal_to_the_bit(fleet, keys):
    config = {**QUICK, **keys}
    comdml, allreduce, fedavg = (
        run_local(small_config(method=method, **config), fleet)[0]
        for method in ("comdml", "allreduce", "fedavg")
    )
    assert all(line.plan["pairs"] == [] for line in comdml.rounds)
    assert comdml.weights_sha256 == allreduce.weights_sha256 == fedavg.weights_sha256
    for lines in zip(comdml.rounds, allreduce.rounds, fedavg.rounds, strict=True):
        assert len({(line.score, line.loss, line.num_agents) for line in lines}) == 1


def test_with_offload_the_weights_differ():
    config = QUICK | {"num_rounds": 1}
    comdml, fedavg = (
        run_local(small_config(method=m, **config), small_fleet(5))[0] for m in ("comdml", "fedavg")
    )
    assert comdml.rounds[0].plan["pairs"]
    assert comdml.weights_sha256 != fedavg.weights_sha256


def test_the_server_has_no_samples_and_is_in_no_plan():
    record, agents = run_local(small_config(method="fedavg", **QUICK), small_fleet(3))
    assert [agent.id for agent in agents] == [SERVER, 0, 1, 2]
    by_id = {line["agent"]: line for line in record.rounds[0].agents}
    assert by_id[SERVER]["num_samples"] == 0
    assert by_id[SERVER]["label_counts"] == []
    assert sum(line["num_samples"] for line in by_id.values()) == 200
    assert not any(span["what"] == "compute" for span in by_id[SERVER]["timeline"])
    for line in record.rounds:
        assert line.plan == {"pairs": [], "solo": [0, 1, 2]}
        assert line.num_agents == 3


def test_who_was_absent_has_the_model_when_it_takes_part_again():
    config = small_config(method="fedavg", participation=0.4, num_rounds=5, **QUICK)
    record, agents = run_local(config, small_fleet(5))
    server, setup = agents[0], agents[0].setup
    newcomers = [setup.newcomers(round_) for round_ in range(1, 6)]
    assert any(newcomers)
    last = [agent for agent in agents if agent.id in setup.present(5)]
    assert {agent.weights_sha256() for agent in last} == {server.weights_sha256()}
    model_bytes = 4 * len(setup.initial_weights_P)
    for line, new in zip(record.rounds, newcomers, strict=True):
        assert line.bytes_sent == (2 * line.num_agents + len(new)) * model_bytes


# Four agents of 50 samples, one batch of 50 each. The model takes 1 s over a link of the server, which adds
# 0.25 s; agent 3's own network takes 2 s.
MODEL_BYTES = 15304
MBPS = MODEL_BYTES / BYTES_PER_S_PER_MBPS
BY_HAND = f"""
[links]
bandwidth_mbps = 100
latency_ms = 250
[server]
bandwidth_mbps = {MBPS}
[[agents]]
id = 0
batches_per_s = 1
[[agents]]
id = 1
batches_per_s = 0.5
[[agents]]
id = 2
batches_per_s = 0.25
[[agents]]
id = 3
batches_per_s = 0.5
bandwidth_mbps = {MBPS / 2}
"""


def test_the_clock_of_a_round_by_hand():
    config = small_config(method="fedavg", num_rounds=1, batch_size=50, local_epochs=1)
    record, agents = run_local(config, parse_fleet(BY_HAND, "by hand"))
    line = record.rounds[0]
    #           trained    on the link    at the server
    # agent 0   1          1 .. 2         2.25
    # agent 1   2          2 .. 3         3.25
    # agent 2   4          4 .. 5         5.25  (the slowest: the server averages)
    # agent 3   2          2 .. 4         4.25
    # down      side by side from 5.25 on: agents 0, 1, 2 have it at 6.25 + 0.25, agent 3 at 7.25 + 0.25
    assert line.makespan_s == pytest.approx(4)
    assert [agent.clock.now_s for agent in agents[1:]] == pytest.approx([6.5, 6.5, 6.5, 7.5])
    assert line.virtual_time_s == pytest.approx(7.5)
    assert agents[0].clock.now_s == pytest.approx(5.25)
    # bytes: each model once up and once down
    assert line.bytes_sent == 2 * 4 * MODEL_BYTES
    assert [agent.bytes_sent for agent in agents] == [4 * MODEL_BYTES] + 4 * [MODEL_BYTES]


def test_the_server_sees_one_upload_an_agent_and_sends_one_model_back():
    config = small_config(method="fedavg", num_rounds=1, **QUICK)
    _, mail = walk(small_setup(config, small_fleet(3)))
    routes = [(letter.kind, letter.sender, letter.receiver) for letter in mail]
    up = [("upload", agent, SERVER) for agent in range(3)]
    assert routes == up + [("model", SERVER, agent) for agent in range(3)]


AGENTS = agent_tables(2, batches_per_s=(2, 8))
LINKS = "[links]\nbandwidth_mbps = 100\nlatency_ms = 20\nrelay_bandwidth_mbps = 4\n"


def server_link(text, agent=0):
    fleet = parse_fleet(text, "test fleet")
    link = fleet.server_link(next(a for a in fleet.agents if a.id == agent))
    return link.bytes_per_s / BYTES_PER_S_PER_MBPS, link.latency_s


@pytest.mark.parametrize(
    ("server", "link"),
    [
        ("", (4, 0.02)),
        ("[server]\n", (4, 0.02)),
        ("[server]\nbandwidth_mbps = 60\n", (60, 0.02)),
        ("[server]\nlatency_ms = 7\n", (4, 0.007)),
        ("[server]\nbandwidth_mbps = 60\nlatency_ms = 0\n", (60, 0.0)),
    ],
    ids=["no [server]", "empty [server]", "bandwidth", "latency", "both"],
)
def test_the_servers_link_is_the_relays_but_for_what_the_file_says(server, link):
    assert server_link(LINKS + server + AGENTS) == link


def test_without_links_the_server_is_at_the_end_of_the_default_relay():
    assert server_link(AGENTS) == (10, 0.0)


@pytest.mark.parametrize(("own_mbps", "found"), [(1, 1), (60, 60), (500, 60)])
def test_an_agent_with_a_slower_network_of_its_own_has_that(own_mbps, found):
    text = LINKS + "[server]\nbandwidth_mbps = 60\n" + AGENTS + f"bandwidth_mbps = {own_mbps}\n"
    assert server_link(text, agent=1) == (found, 0.02)
    assert server_link(text, agent=0) == (60, 0.02)


@pytest.mark.parametrize(
    ("server", "batches_per_s"), [("", 8), ("[server]\n", 8), ("[server]\nbatches_per_s = 3\n", 3)]
)
def test_the_servers_speed_is_that_of_the_fastest_agent_but_for_what_the_file_says(server, batches_per_s):
    setup = small_setup(small_config(method="fedavg"), parse_fleet(server + AGENTS, "test fleet"))
    profile = setup.profiles_at(1)[SERVER]
    assert (profile.batches_per_s, profile.num_batches) == (batches_per_s, 0)
    assert sorted(profile.links) == [0, 1]


def test_a_serverless_method_has_no_server():
    setup = small_setup(small_config(method="allreduce"), parse_fleet(AGENTS, "test fleet"))
    assert SERVER not in setup.profiles_at(1)
    assert all(SERVER not in profile.links for profile in setup.profiles_at(1).values())


@pytest.mark.parametrize("line", ["bandwidth_mbps = 0", "latency_ms = -1", "flops_per_s = 0", "speed = 1"])
def test_an_impossible_server_is_refused_in_one_line(line):
    with pytest.raises(InputError, match=r"^[^\n]*server[^\n]*$"):
        parse_fleet(f"[server]\n{line}\n{AGENTS}", "test fleet")
