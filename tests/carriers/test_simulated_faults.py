"""An agent that fails costs its share of the round and no more, peer to peer in virtual time."""

import pytest

from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.simulated.history import History, Stall
from comdml_flwr.core.program import Step
from comdml_flwr.runs.assemble import program_of
from tests.carriers.simulation import run_hooked, run_simulated_with, simulate, tiny_setup
from tests.carriers.test_direct_faults import DIRECT, phase_of
from tests.carriers.test_faults import CONFIG, FLEET, NUM_AGENTS, PLACES, places, roles, run_with
from tests.faults import FailAt
from tests.small import small_setup


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("role", ["slow", "helper", "other"])
def test_the_others_go_on_with_the_weights_of_the_local_carrier(role, place):
    agent = roles(CONFIG)[role]
    reports, digests = run_simulated_with(CONFIG, FLEET, [FailAt(agent, phase_of(place), round=2)])
    assert sorted(reports) == [1, 2, 3]
    assert sorted({*range(NUM_AGENTS)} - digests.keys()) == [agent]
    assert len({*digests.values()}) == 1
    assert all(reports[3][other]["gone"] == [agent] for other in digests)
    if place != "adopt":  # who dies before its mark that it has the model has no share in the round here
        _, agents = run_with(FailAt(agent, places(CONFIG)[place], round=2))
        survivor = min(digests)
        assert digests[survivor] == agents[survivor].weights_sha256()


def test_one_who_is_back_takes_part_from_the_next_message_on():
    """It has lost all that it had, and asks a neighbour for the model before the message's first round."""
    config, agent = CONFIG.model_copy(update={"num_rounds": 4}), roles(CONFIG)["helper"]
    fault = FailAt(agent, phase_of("gather"), round=1, back_in=3)
    reports, digests = run_simulated_with(config, FLEET, [fault], rounds_per_message=2)
    assert [sorted({*range(NUM_AGENTS)} - reports[r].keys()) for r in range(1, 5)] == [[agent]] * 2 + [[]] * 2
    assert len(digests) == NUM_AGENTS
    assert len({*digests.values()}) == 1


def test_two_die_at_two_places_of_one_round():
    pair = roles(CONFIG)
    faults = [
        FailAt(pair["helper"], phase_of("during the offload"), round=1),
        FailAt(pair["other"], phase_of("gather"), round=1),
    ]
    reports, digests = run_simulated_with(CONFIG, FLEET, faults)
    gone = sorted([pair["helper"], pair["other"]])
    assert all(report["gone"] == gone for report in reports[1].values())
    assert reports[1][pair["slow"]]["taken_back"] == [pair["slow"]]
    assert len(digests) == NUM_AGENTS - 2
    assert len({*digests.values()}) == 1


@pytest.mark.parametrize("action", [60, 80, 100])
def test_one_that_hangs_is_given_up_and_takes_part_again(action):
    """It finds that the others went on, and gets their model."""
    setup, agent = tiny_setup(num_rounds=20), 3
    carrier, parts = simulate(setup, History(seed=action, faults=(Stall(agent, action, 15.0),)))
    assert any(report["gone"] == [agent] for report in parts[0].reports.values())
    assert 20 in parts[agent].reports
    assert len({one.weights_sha256() for one in carrier.agents.values()}) == 1


def flipping(agents, last):
    """Return a run of steps in which a bit flips in some agents' memories at the end of round 2."""

    def run(agent, program, steps, inbox, absence):
        done = run_steps(agent, program, steps, inbox, absence)
        if agent.id in agents and steps[-1] == Step(2, last):
            agent.tensors["weights"] = agent.tensors["weights"] + 1 + agent.id
        return done

    return run


def last_phase():
    setup = small_setup(DIRECT, FLEET)
    return program_of(setup).cut_into(setup.most_batches).last


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_differs_from_all_others_is_replaced_by_theirs(seed):
    """Some hear of the end before the last mark; nobody loses the round."""
    config = CONFIG.model_copy(update={"num_rounds": 2})
    history = History(seed=seed, latency_s=(0.001, 1.5))
    reports, digests = run_hooked(config, FLEET, flipping([0], last_phase()), history=history)
    _, undisturbed = run_hooked(config, FLEET, run_steps)
    assert not any("not_committed" in report for report in reports[2].values())
    assert digests == undisturbed
    assert len({report["weights_sha256"] for report in reports[2].values()}) == 1


@pytest.mark.parametrize("seed", range(4))
def test_models_that_all_differ_are_not_committed_and_the_previous_weights_stay(seed):
    config = CONFIG.model_copy(update={"num_rounds": 2})
    history = History(seed=seed, latency_s=(0.001, 1.5))
    reports, digests = run_hooked(config, FLEET, flipping(range(NUM_AGENTS), last_phase()), history=history)
    assert all(report["not_committed"] == [agent] for agent, report in reports[2].items())
    assert {*digests.values()} == {report["weights_sha256"] for report in reports[1].values()}
