"""An agent that dies costs its share of the round and no more, peer to peer over real sockets."""

import time

import pytest

from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.direct import driver as direct
from comdml_flwr.carriers.direct import peers as links
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.methods import comdml
from comdml_flwr.methods.phases import reduction
from comdml_flwr.runs.assemble import program_of
from tests.carriers.direct_runs import run_direct_with
from tests.carriers.test_faults import CONFIG, FLEET, NUM_AGENTS, places, roles
from tests.faults import FailAt, run_local_with
from tests.small import small_setup

DIRECT = CONFIG.model_copy(update={"carrier": "direct"})


def phase_of(place):
    """Return the phase as the direct carrier cuts the program: one for each batch."""
    setup = small_setup(DIRECT, FLEET)
    return places(DIRECT, program_of(setup).cut_into(setup.most_batches))[place]


@pytest.fixture(autouse=True)
def _short_deadlines(monkeypatch):
    monkeypatch.setattr(deadlines, "SHORTEST_S", 3.0)
    monkeypatch.setattr(links, "LOOK_S", 0.1)
    monkeypatch.setattr(direct, "LINGER_S", 0.1)


@pytest.mark.parametrize("place", list(places(CONFIG)))
@pytest.mark.parametrize(
    "role",
    ["helper", pytest.param("slow", marks=pytest.mark.slow), pytest.param("other", marks=pytest.mark.slow)],
)
def test_the_others_go_on_with_the_weights_of_the_local_carrier(role, place):
    agent = roles(CONFIG)[role]
    fault = FailAt(agent, phase_of(place), round=2)
    reports, digests, _ = run_direct_with(DIRECT, FLEET, [fault])
    assert sorted(reports) == [1, 2, 3]
    assert agent not in digests
    assert len(digests) == NUM_AGENTS - 1
    assert len({*digests.values()}) == 1
    assert all(reports[3][other]["gone"] == [agent] for other in digests)
    if place != "adopt":  # who dies before its mark that it has the model has no share in the round here
        _, agents = run_local_with(CONFIG, FLEET, [FailAt(agent, places(CONFIG)[place], round=2)])
        survivor = min(digests)
        assert digests[survivor] == agents[survivor].weights_sha256()


def test_one_who_is_back_is_let_in_with_the_next_message():
    """It has lost all that it had; a neighbour gives it the model, and it takes part in the next round."""
    config = DIRECT.model_copy(update={"num_rounds": 4})
    agent = roles(CONFIG)["helper"]
    fault = FailAt(agent, phase_of("gather"), round=1, back_in=3)
    reports, digests, _ = run_direct_with(config, FLEET, [fault], rounds_per_message=2)
    assert [sorted({*range(NUM_AGENTS)} - reports[r].keys()) for r in range(1, 5)] == [[agent]] * 3 + [[]]
    assert len(digests) == NUM_AGENTS
    assert len({*digests.values()}) == 1


def test_two_die_at_two_places_of_one_round():
    pair = roles(CONFIG)
    faults = [
        FailAt(pair["helper"], phase_of("during the offload"), round=1),
        FailAt(pair["other"], phase_of("gather"), round=1),
    ]
    reports, digests, _ = run_direct_with(DIRECT, FLEET, faults)
    gone = sorted([pair["helper"], pair["other"]])
    assert all(report["gone"] == gone for report in reports[1].values())
    assert reports[1][pair["slow"]]["taken_back"] == [pair["slow"]]
    assert len(digests) == NUM_AGENTS - 2
    assert len({*digests.values()}) == 1


@pytest.mark.slow
def test_one_who_is_slow_beyond_the_forecast_is_given_up_and_let_in_again(monkeypatch):
    """It sleeps through the gathering, finds that the others went on, and gets their model."""
    agent, real = roles(CONFIG)["other"], reduction.gather

    def sleeps(one, inbox):
        time.sleep(8.0 if one.id == agent and one.round == 2 else 0.4)
        return real(one, inbox)

    monkeypatch.setattr(comdml, "gather", sleeps)
    config = DIRECT.model_copy(update={"num_rounds": 9})
    reports, digests, _ = run_direct_with(config, FLEET, [])
    assert agent not in reports[2]
    assert all(report["gone"] == [agent] for report in reports[2].values())
    assert agent in reports[9], "it takes part again"
    assert len({*digests.values()}) == 1


@pytest.mark.parametrize("is_late", [False, True], ids=["", "one hears of the end before the last mark"])
def test_models_that_differ_are_not_committed_and_the_previous_weights_stay(is_late, monkeypatch):
    """As a bit that flips in one agent's memory would make them."""
    real, real_send = reduction.adopt, Transport.send

    def flips(agent, inbox):
        outbox = real(agent, inbox)
        if agent.id == 0 and agent.round == 2:
            agent.tensors["weights"] = agent.tensors["weights"] + 1
        return outbox

    def send(transport, envelope, timeout_s):
        if (
            is_late
            and (envelope.sender, envelope.receiver) == (0, NUM_AGENTS - 1)
            and "digest" in envelope.about
        ):
            time.sleep(1.5)  # the others have all marks by then, and part
        real_send(transport, envelope, timeout_s)

    monkeypatch.setattr(comdml, "adopt", flips)
    monkeypatch.setattr(Transport, "send", send)
    reports, digests, _ = run_direct_with(DIRECT.model_copy(update={"num_rounds": 2}), FLEET, [])
    assert all(report["not_committed"] == [agent] for agent, report in reports[2].items())
    assert {*digests.values()} == {report["weights_sha256"] for report in reports[1].values()}
