"""Laws that hold for every method."""

from collections import Counter
from itertools import pairwise

import pytest

from comdml_flwr.agents.steps import run_steps
from comdml_flwr.methods.phases.agreement import agree
from comdml_flwr.planning.clock.clock import Clock
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.assemble import program_of
from comdml_flwr.runs.catalogue import METHODS, SERVERLESS, WITH_SERVER
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

QUICK = {"batch_size": 16, "local_epochs": 1}
EVERY = {
    "comdml": {"method": "comdml"},
    "comdml mixing": {"method": "comdml", "averaging": "mixing", "topology": "ring"},
    "allreduce": {"method": "allreduce"},
    "fedavg": {"method": "fedavg"},
    "splitfed 1": {"method": "splitfed", "cut": 2, "splitfed_version": 1},
    "splitfed 2": {"method": "splitfed", "cut": 2, "splitfed_version": 2},
    "gossip": {"method": "gossip"},
    "braintorrent": {"method": "braintorrent"},
    "dpsgd": {"method": "dpsgd", "topology": "ring"},
}
every_method = pytest.mark.parametrize("keys", EVERY.values(), ids=EVERY)


def run(keys, fleet=None, *, side_by_side=False, **more):
    config = small_config(**{**QUICK, **keys, **more})
    how = {"num_workers": 3, "reverse_replies": True} if side_by_side else {}
    return run_local(config, fleet or small_fleet(5), **how)[0]


def outcome(record):
    """Return what must not differ: all but what a stopwatch measured."""
    lines = [(r.loss, r.score, r.virtual_time_s, r.makespan_s, r.bytes_sent) for r in record.rounds]
    return record.weights_sha256, lines


def test_no_method_is_forgotten():
    assert {keys["method"] for keys in EVERY.values()} == set(METHODS)


@every_method
def test_the_table_says_of_a_method_what_its_program_says(keys):
    program = program_of(small_setup(small_config(**keys), small_fleet(2)))
    assert program.has_server == (keys["method"] in WITH_SERVER)


@every_method
def test_no_carriers_name_changes_a_methods_program(keys):
    """The phases, whom they expect mail from, and what is done again are the same for all."""

    def shape(carrier):
        config = small_config(**{**keys, "carrier": carrier, "num_chunks": 3})
        program = program_of(small_setup(config, small_fleet(3)))
        facts = program.has_server, program.models_agree, program.needs_links, program.return_point
        return facts, program.slots, [(phase.name, phase.expects, phase.again) for phase in program.phases]

    assert shape("local") == shape("grid") == shape("direct")


@pytest.mark.parametrize("method", SERVERLESS)
def test_a_serverapp_that_has_no_data_knows_the_phases_of_the_nodes(method):
    config = small_config(method=method, num_chunks=2, participation=0.7)
    of_nodes = program_of(small_setup(config, small_fleet(4)))
    assert SERVERLESS[method](config, 4).names == of_nodes.names


@every_method
def test_one_seed_has_one_outcome_however_it_is_run_and_another_seed_another(keys):
    """However: in three threads, with replies in reversed order."""
    first, again = run(keys), run(keys, side_by_side=True)
    assert outcome(first) == outcome(again)
    assert run(keys, seed=2).weights_sha256 != first.weights_sha256


@every_method
def test_the_bytes_on_the_clock_are_the_bytes_in_the_envelopes(keys, monkeypatch):
    timed, sent = Counter(), Counter()
    per_round = Counter()

    def send(clock, receiver, num_bytes):
        if receiver != clock.agent:
            timed[clock.agent, receiver, num_bytes] += 1
        return real_send(clock, receiver, num_bytes)

    def steps(agent, *rest):
        outbox, report = run_steps(agent, *rest)
        for envelope in outbox:
            if envelope.sender != envelope.receiver:
                sent[envelope.sender, envelope.receiver, envelope.num_bytes] += 1
                per_round[envelope.round] += envelope.num_bytes
        return outbox, report

    def decide(*rest):  # by simulated rounds, whose clocks send, too
        with monkeypatch.context() as uncounted:
            uncounted.setattr(Clock, "send", real_send)
            return agree(*rest)

    real_send = Clock.send
    monkeypatch.setattr(Clock, "send", send)
    monkeypatch.setattr("comdml_flwr.methods.comdml.agree", decide)
    monkeypatch.setattr("comdml_flwr.carriers.local.run_steps", steps)
    record = run(keys, participation=0.6, num_rounds=3)
    assert timed == sent
    assert [line.bytes_sent for line in record.rounds] == [per_round[line.round] for line in record.rounds]
    assert sum(per_round.values()) > 0


@every_method
def test_every_timeline_is_in_order_and_ends_with_its_round(keys):
    (line,) = run(keys, num_rounds=1, num_chunks=2).rounds
    assert len(line.agents) == 5 + (keys["method"] in WITH_SERVER)
    for agent in line.agents:
        spans = agent["timeline"]
        assert spans
        assert all(0 <= span["start_s"] < span["end_s"] <= line.virtual_time_s for span in spans)
        assert all(one["start_s"] <= other["start_s"] for one, other in pairwise(spans))
        if agent["agent"] != SERVER:  # which has a lane for each agent
            busy = [span for span in spans if span["what"] in ("compute", "wait")]
            assert all(one["end_s"] <= other["start_s"] for one, other in pairwise(busy))
            uplink = [span for span in spans if span["what"] == "send"]
            assert all(one["end_s"] <= other["start_s"] for one, other in pairwise(uplink))


def compute_s(agent):
    spans = (span for span in agent["timeline"] if span["what"] == "compute")
    return sum(span["end_s"] - span["start_s"] for span in spans)


def own_and_helped(agent):
    """Return for how long an agent trained its own layers, and whose layers it trained besides."""
    spans = [span for span in agent["timeline"] if span["what"] == "compute"]
    own_s = sum(span["end_s"] - span["start_s"] for span in spans if span["peer"] is None)
    return own_s, {span["peer"] for span in spans} - {None}


def test_a_timeline_tells_an_agents_own_layers_from_its_partners():
    (line,) = run({"method": "comdml"}, num_rounds=1).rounds
    partner = {pair["fast"]: {pair["slow"]} for pair in line.plan["pairs"]}
    assert partner
    for agent in line.agents:
        own_s, helped = own_and_helped(agent)
        assert helped == partner.get(agent["agent"], set())
        if helped:
            num_batches = agent["num_samples"] / QUICK["batch_size"]
            assert own_s == pytest.approx(num_batches / agent["batches_per_s"], rel=1e-9)


@pytest.mark.parametrize("version", [1, 2])
def test_a_server_trains_upper_layers_of_all_and_none_of_its_own(version):
    (line,) = run(EVERY[f"splitfed {version}"], num_rounds=1).rounds
    server, *agents = line.agents
    assert own_and_helped(server) == (0, {agent["agent"] for agent in agents})
    assert all(own_and_helped(agent)[1] == set() for agent in agents)


@pytest.mark.parametrize("name", ["allreduce", "fedavg", "gossip", "dpsgd"])
def test_who_trains_alone_computes_for_its_batches_over_its_speed(name):
    (line,) = run(EVERY[name], num_rounds=1, local_epochs=2).rounds
    for agent in line.agents:
        num_batches = agent["num_samples"] * 2 / QUICK["batch_size"]
        assert compute_s(agent) == pytest.approx(num_batches / agent["batches_per_s"], rel=1e-9)


@every_method
def test_the_loss_falls(keys):
    record = run(keys, num_rounds=3, local_epochs=2, learning_rate=0.02)
    losses = [line.loss for line in record.rounds]
    assert losses[-1] < losses[0] - 0.1


CHANGES = """
[scenario]
share = 0.6
every = 1
speed_noise = 0.1
[[availability]]
round = 2
agent = 4
present = false
[[availability]]
round = 4
agent = 4
present = true
"""


@every_method
def test_a_changing_fleet_of_which_some_take_part_runs_through(keys):
    fleet = parse_fleet(fleet_text(5) + CHANGES, "test fleet")
    record = run(keys, fleet, num_rounds=5, participation=0.8)
    assert [line.num_agents for line in record.rounds] == [4, 3, 3, 4, 4]
    assert len({line.virtual_time_s for line in record.rounds}) == 5
    assert record.rounds[-1].loss < record.rounds[0].loss
