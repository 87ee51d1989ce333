"""An agent that dies costs its share of the round and no more, peer to peer over real sockets.

Two faults show that sockets and seconds do as the simulation has it; test_simulated_faults.py has all places,
test_histories.py what is drawn, and test_killed_processes.py processes that are killed.
"""

import pytest

from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.direct import driver as direct
from comdml_flwr.carriers.direct import peers as links
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


def test_the_others_go_on_with_the_weights_of_the_local_carrier():
    place, agent = "during the offload", roles(CONFIG)["helper"]
    fault = FailAt(agent, phase_of(place), round=2)
    reports, digests, _ = run_direct_with(DIRECT, FLEET, [fault])
    assert sorted(reports) == [1, 2, 3]
    assert agent not in digests
    assert len(digests) == NUM_AGENTS - 1
    assert len({*digests.values()}) == 1
    assert all(reports[3][other]["gone"] == [agent] for other in digests)
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
