"""An agent that lacks the current model asks for it, whoever is there to give it."""

import pytest

from comdml_flwr.carriers.direct import rejoining
from comdml_flwr.carriers.direct.protocol import Admission, JoinRequest
from comdml_flwr.carriers.direct.rejoining import ASK_AGAIN_S
from comdml_flwr.core.errors import RunError
from tests.carriers.direct.scripted import PEERS, ROUND, START_S, Agent, At, Gone, mark, told

ALL_GONE = [Gone(peer) for peer in PEERS]


def test_it_asks_all_again_and_again_with_one_request_until_one_admits_it():
    admission = Admission(next_round=9, gone=(3,), admissions=((0, 9), (1, 4)), tensors={})
    agent = Agent([mark(1, 0), At(2.5 * ASK_AGAIN_S, told(2, admission))], absent=[1])
    by, _, found = rejoining.request_admission(agent.links, agent.membership)
    assert (by, found) == (2, admission)
    asked = agent.sent(JoinRequest.kind)
    assert [receiver for receiver, _ in asked] == [*PEERS] * 3
    assert len({about["request"] for _, about in asked}) == 1
    assert agent.membership.gone == {3}
    assert agent.membership.admissions == ((0, 9), (1, 4))


def test_where_nobody_is_there_it_ends_in_one_line():
    agent = Agent(ALL_GONE)
    with pytest.raises(RunError, match=r"^agent 0 was left behind, and nobody is there to let it in$"):
        rejoining.request_admission(agent.links, agent.membership)


def test_one_that_is_alone_waits_for_another_and_lets_it_in():
    agent = Agent([At(4.0, told(2, JoinRequest(request=7)))], absent=PEERS)
    agent.links.has_model(ROUND - 1, {})
    rejoining.wait_if_alone(agent.links, agent.membership, agent.deadlines, [0, *PEERS])
    assert agent.membership.gone == {1, 3}
    (admitted,) = agent.sent(Admission.kind)
    assert admitted == (2, {"next_round": ROUND, "gone": (1, 3), "admissions": ((2, ROUND),)})


def test_one_that_stays_alone_ends_in_one_line_and_one_that_is_not_does_not_wait():
    agent = Agent([], absent=PEERS)
    with pytest.raises(RunError):
        rejoining.wait_if_alone(agent.links, agent.membership, agent.deadlines, [0, *PEERS])
    assert START_S < agent.clock.now_s() < START_S + 2
    for ids, absent in (([0], ()), ([0, *PEERS], (1, 2))):
        agent = Agent([], absent)
        rejoining.wait_if_alone(agent.links, agent.membership, agent.deadlines, ids)
        assert agent.clock.now_s() == 0


def test_one_whose_request_was_granted_and_that_was_handed_nothing_is_handed_the_model_by_the_next():
    agent = Agent([])
    agent.links.has_model(ROUND - 1, {})
    agent.links.note_admitted({2: 7}, [1, 0, 3])
    for _ in range(2):  # agent 1 was to; then this one, then agent 3
        agent.transport.script.append(told(2, JoinRequest(request=7)))
        agent.links.look()
    (admitted,) = agent.sent(Admission.kind)
    assert admitted == (2, {"next_round": ROUND, "gone": (), "admissions": ()})


def test_nobody_asks_for_ever_to_be_let_in():
    agent = Agent([])
    with pytest.raises(RunError, match=r"^nobody has let agent 0 in for 30 s$"):
        rejoining.request_admission(agent.links, agent.membership, longest_s=30.0)
