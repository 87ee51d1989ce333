"""An agent that was absent in a round hears who ended it together, and who is gone."""

import pytest

from comdml_flwr.carriers.direct import newcomers
from comdml_flwr.carriers.direct.protocol import Commit, CommitRequest, JoinRequest
from comdml_flwr.carriers.direct.protocol import Gone as GaveUp
from comdml_flwr.carriers.direct.quorum import NoQuorumError
from comdml_flwr.carriers.direct.run_end import RunEndedError
from comdml_flwr.core.program import Step
from tests.carriers.direct.scripted import LAST, PEERS, ROUND, Agent, At, Gone, mark, told

ALL_GONE = [Gone(peer) for peer in PEERS]


def heard_by(agent, longest_s=900.0):
    """Return what an agent hears of the end of the round."""
    step, of_agent = Step(ROUND, LAST), (agent.links, agent.collector, agent.membership)
    return newcomers.last_segments(*of_agent, step, PEERS, agent.deadlines, longest_s)


def committed(*gone):
    """Return the notices of two, which are believed together."""
    return [told(peer, Commit(round=ROUND, gone=gone, joining=())) for peer in (1, 2)]


@pytest.mark.parametrize(
    ("script", "together"),
    [
        ([*[mark(peer, LAST) for peer in PEERS], *committed()], [1, 2, 3]),
        ([mark(1, LAST, gone=[3]), mark(2, LAST, gone=[3]), *committed(3)], [1, 2]),
        ([mark(3, LAST), mark(1, LAST, gone=[3]), mark(2, LAST, gone=[3]), *committed(3)], [1, 2]),
        ([mark(1, LAST), mark(2, LAST), *ALL_GONE], [1, 2]),
        (ALL_GONE, []),
    ],
    ids=[
        "all end it", "two end it without a third", "the larger loss counts", "all are out of reach",
        "nobody is there",
    ],
)  # fmt: skip
def test_a_round_ended_for_those_who_ended_it_together(script, together):
    agent = Agent(script)
    found, _ = heard_by(agent)
    assert [segment.sender for segment in found] == together


def test_an_attempt_that_all_ended_is_not_taken_for_the_end_of_the_round():
    """The last mark of 3 reached this agent, and not 1 and 2, which began again without 3."""
    first, second = [mark(peer, LAST) for peer in PEERS], [mark(1, LAST, gone=[3]), mark(2, LAST, gone=[3])]
    agent = Agent([*first, Gone(3), *second, *committed(3)])
    found, _ = heard_by(agent)
    assert [(segment.sender, sorted(segment.gone)) for segment in found] == [(1, [3]), (2, [3])]


LOST = [Gone(3), told(3, JoinRequest(request=7)), told(1, GaveUp(accusations=((ROUND, 1, 3),)))]


@pytest.mark.parametrize("lost", LOST, ids=["out of reach", "restarted", "accused"])
@pytest.mark.parametrize(("answer", "gone"), [((), []), ((3,), [3])], ids=["counted in", "left out"])
def test_where_one_is_lost_the_others_are_asked_whether_it_was_counted_in(lost, answer, gone):
    ended_with_it = [mark(1, LAST), mark(2, LAST)]
    ended_without_it = [mark(1, LAST, gone=[3]), mark(2, LAST, gone=[3])] if answer else []
    commit = Commit(round=ROUND, gone=answer, joining=())
    agent = Agent(
        [*ended_with_it, lost, *ended_without_it, *(At(4.0, told(peer, commit)) for peer in (1, 2))]
    )
    found, commit = heard_by(agent)
    assert [(segment.sender, sorted(segment.gone)) for segment in found] == [(1, gone), (2, gone)]
    assert agent.sent(CommitRequest.kind) == [(1, {"round": ROUND}), (2, {"round": ROUND})]


def test_a_round_that_has_no_attempts_ends_without_those_that_are_lost():
    agent = Agent([mark(1, LAST), mark(2, LAST), Gone(3)], return_point=None)
    found, _ = heard_by(agent)
    assert ([segment.sender for segment in found], agent.sent(CommitRequest.kind)) == ([1, 2], [])


def test_who_asks_as_what_a_round_is_committed_is_told_when_it_is():
    agent, commit = Agent([told(2, CommitRequest(round=ROUND))]), Commit(round=ROUND, gone=(3,), joining=())
    agent.links.look()
    assert agent.sent(Commit.kind) == []
    agent.links.tell_committed(commit)
    agent.links.tell_committed(Commit(round=ROUND + 1, gone=(3,), joining=()))
    assert agent.sent(Commit.kind) == [(2, {"round": ROUND, "gone": (3,), "joining": ()})]


def test_a_round_of_which_a_peer_says_that_the_run_ended_before_is_not_waited_for():
    agent = Agent([])
    agent.links.ended_after = ROUND - 1
    with pytest.raises(RunEndedError):
        heard_by(agent)


def test_who_is_gone_and_who_comes_back_is_taken_over_from_those_who_ended_the_round():
    asks = {"joining": ((3, 7),), "admissions": ((2, 4),)}
    agent = Agent([mark(1, LAST, gone=[3], **asks), mark(2, LAST, gone=[3], **asks), *committed(3)])
    found, commit = heard_by(agent)
    newcomers.take_over_from(found, commit, agent.links, agent.membership, ROUND + 1)
    assert agent.membership.gone == frozenset(), "3 is let in with the end of the round"
    assert agent.membership.admissions == ((2, 4), (3, ROUND + 1))
    newcomers.take_over_from([], None, agent.links, agent.membership, ROUND + 1)
    assert agent.membership.admissions == ((2, 4), (3, ROUND + 1)), "nobody tells anything"


COMMIT = Commit(round=ROUND, gone=(), joining=(), digest="ab")


def test_one_that_sends_nothing_keeps_a_newcomer_only_until_the_others_have_told():
    agent = Agent([mark(1, LAST), mark(2, LAST), At(5.0, told(1, COMMIT)), At(5.5, told(2, COMMIT))])
    found, commit = heard_by(agent)
    assert [segment.sender for segment in found] == [1, 2]
    assert commit == COMMIT
    (waiting, *_) = [about for _, about in agent.sent("waiting")]
    assert waiting["awaited"] == 3, "those who wait for the newcomer hear for whom it waits"


def test_what_one_alone_tells_counts_when_nobody_tells_more():
    agent = Agent([mark(1, LAST), mark(2, LAST), mark(3, LAST), At(1.0, told(1, COMMIT))])
    _, commit = heard_by(agent)
    assert commit == COMMIT
    assert agent.clock.now_s() >= 1.0 + agent.deadlines.seconds


def test_what_most_tell_counts_with_what_others_ended():
    other = Commit(round=ROUND, gone=(3,), joining=(), digest="cd")
    ended = [mark(2, LAST, gone=[3], digest="cd"), mark(1, LAST, digest="ab"), mark(3, LAST, digest="ab")]
    agent = Agent([*ended, told(2, other), told(1, COMMIT)])
    _, commit = heard_by(agent)
    assert commit == COMMIT


def test_a_round_of_which_nobody_tells_is_not_waited_for_for_ever():
    agent = Agent([])
    with pytest.raises(NoQuorumError, match=f"^nobody has told how round {ROUND} ended$"):
        heard_by(agent, longest_s=30.0)
    assert 30 < agent.clock.now_s() < 32
