"""The model that one peer gives counts where it is that of which the others tell."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from comdml_flwr.agents.state import State, sha256_of
from comdml_flwr.carriers.direct.agreed_model import AgreedModel
from comdml_flwr.carriers.direct.protocol import Commit, CommitRequest, CurrentModel, ModelRequest
from comdml_flwr.core.errors import RunError
from tests.carriers.direct.scripted import OWN, PEERS, ROUND, START_S, Agent, At, Gone, told


def model_of(peer, length=1):
    return CurrentModel(tensors={"weights": np.full(length, peer, np.float32)})


def digest_of(peer):
    return sha256_of([torch.full((1,), float(peer))])


def commit(digest):
    return Commit(round=ROUND, gone=(), joining=(), digest=digest)


def agreed_model(script):
    """Return an agent whose peers send what a script has, and its end of the model that is agreed on."""
    agent = Agent(script)
    one = SimpleNamespace(id=OWN, tensors=State((), torch.zeros(1)))
    return agent, AgreedModel(agent=one, links=agent.links, deadlines=agent.deadlines, models_agree=True)


@pytest.mark.parametrize(
    ("script", "asked", "given_by"),
    [
        ([told(2, model_of(2))], [2], 2),
        ([Gone(2), told(1, model_of(1))], [2, 1], 1),
        ([At(1.5 * START_S, told(1, model_of(1)))], [2, 1], 1),
        ([told(1, model_of(1))], [2, 1], 1),
        ([told(2, model_of(2, 7)), told(1, model_of(1))], [2, 1], 1),
    ],
    ids=[
        "the first has it", "the first is gone", "the first is slow", "the second was asked before",
        "the first sends none",
    ],
)  # fmt: skip
def test_one_of_those_who_have_the_model_gives_it(script, asked, given_by):
    agent, agreed = agreed_model(script)
    agreed.take(ROUND, None, holders=[2, 1])
    assert agreed.agent.tensors["weights"].tolist() == [given_by]
    assert agent.sent(ModelRequest.kind) == [(peer, {"round": ROUND}) for peer in asked]


def test_where_nobody_has_the_model_any_more_it_ends_in_one_line():
    _, agreed = agreed_model([Gone(1), Gone(2)])
    with pytest.raises(RunError, match=r"^agent 0: nobody is left who has the model of round 5$"):
        agreed.take(ROUND, None, holders=[1, 2])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([told(1, commit("a")), told(2, commit("b")), told(3, commit("b"))], "b"),
        ([told(1, commit("a")), told(2, commit("b")), Gone(3)], None),
        ([told(1, commit("a")), Gone(2), Gone(3)], "a"),
        ([Gone(peer) for peer in PEERS], None),
        ([told(1, commit("a"))], None),
    ],
    ids=["two", "each another one", "all who are there", "nobody is there", "one, and others do not reply"],
)
def test_a_digest_is_known_when_two_tell_it_or_all_who_are_there(script, expected):
    agent, agreed = agreed_model(script)
    assert agreed.digest_of(ROUND) == expected
    assert agent.sent(CommitRequest.kind) == [(peer, {"round": ROUND}) for peer in PEERS]
    assert agent.clock.now_s() < START_S


def test_a_model_of_another_digest_is_not_taken_and_its_giver_is_named():
    tell = [told(peer, commit(digest_of(3))) for peer in (2, 3)]
    agent, agreed = agreed_model([*tell, told(2, model_of(2)), told(3, model_of(3))])
    digest = agreed.digest_of(ROUND)
    agreed.take(ROUND, digest, [(1, "admitted from agent 1", model_of(1).tensors)])
    assert agreed.agent.tensors["weights"].tolist() == [3]
    assert agent.links.distrusted == {1, 2}
    assert {accused for _, _, accused in agent.links.accusations} == {1, 2}


def test_where_nobody_gives_the_model_of_that_digest_nobody_is_named():
    """The others may have gone on, and have that of a later round."""
    agent, agreed = agreed_model([told(2, model_of(2))])
    agreed.take(ROUND, digest_of(3), [(1, "admitted from agent 1", model_of(1).tensors)], holders=[2])
    assert (agreed.agent.tensors["weights"].tolist(), agent.links.distrusted) == ([1], set())
