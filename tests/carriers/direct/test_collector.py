"""Feed an agent that waits what can come, and see what it makes of it."""

import pytest

from comdml_flwr.carriers.direct import protocol
from comdml_flwr.carriers.direct.collector import BeginAgainError, DecidedError, LeftBehindError
from comdml_flwr.core.program import Step
from tests.carriers.direct.scripted import (
    LAST,
    RETURN_POINT,
    ROUND,
    START_S,
    Agent,
    At,
    Gone,
    mail,
    mark,
    told,
)

PATIENCE_S = START_S
WAITING_FOR_3 = protocol.Waiting(awaited=3, for_s=20.0)
WAITS_FOR_3 = told(1, WAITING_FOR_3)
WAITS_FOR_2 = told(1, protocol.Waiting(awaited=2, for_s=3.0))


def collect(script, senders=(1, 2), phase=1, *, in_attempt=False, absent=()):
    """Wait for a phase of peers; return the agent, and the name of what ended the wait."""
    agent = Agent(script, absent)
    if in_attempt:
        agent.collector.begin_attempt()
    try:
        agent.collector.collect(senders, Step(ROUND, phase), PATIENCE_S)
    except (BeginAgainError, DecidedError, LeftBehindError) as error:
        return agent, type(error).__name__
    return agent, "done"


DONE_BY_ALL = [mail(2, "late"), mark(2, 1), mail(1, "early"), mark(1, 1)]


def test_what_was_sent_up_to_the_marks_is_kept_by_sender():
    agent, ended = collect(DONE_BY_ALL)
    assert ended == "done"
    assert [one.kind for one in agent.collector.take()] == ["early", "late"]
    assert agent.collector.take() == ()
    assert (agent.clock.now_s(), agent.transport.sent) == (0, []), "nobody was waited for"


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ([mark(1, 0, ROUND - 1, kind="old"), mark(1, 1, kind="new")], ["new"]),
        ([mark(1, 0, kind="first"), mark(1, 1, kind="second")], ["first", "second"]),
        ([mark(1, 2, kind="next")], []),
        ([mark(1, 1, kind="now"), mark(1, 2, kind="next")], ["now"]),
    ],
    ids=["of an earlier round", "of two phases", "a later phase stays", "up to the phase"],
)
def test_mail_of_other_steps_is_dropped_kept_or_left(script, kept):
    agent, ended = collect(script, senders=[1])
    assert (ended, [one.kind for one in agent.collector.take()]) == ("done", kept)
    assert agent.membership.gone == frozenset()


def test_a_peer_that_is_in_the_next_round_has_not_done_this_phase():
    """It will say that it has committed this one; until then it is waited for."""
    commit = protocol.Commit(round=ROUND, gone=(), joining=())
    script = [mark(1, 0, ROUND + 1), told(1, commit), told(2, commit)]
    assert collect(script, [1], in_attempt=True)[1] == "DecidedError"


@pytest.mark.parametrize(
    ("script", "gone", "until_s"),
    [
        ([], {1, 2}, PATIENCE_S + START_S / 3),
        ([mark(2, 1)], {1}, PATIENCE_S),
        ([mark(1, 1), Gone(2)], {2}, 0),
        ([mark(2, 1), WAITS_FOR_3, At(15.0, mark(1, 1))], set(), 15.0),
        ([mark(2, 1), WAITS_FOR_2, told(2, WAITING_FOR_3), At(15.0, mark(1, 1))], set(), 15.0),
        ([mark(2, 1), WAITS_FOR_2, At(15.0, mark(1, 1))], {1}, PATIENCE_S),
        ([mark(2, 1), told(2, protocol.Gone(accusations=((ROUND, 2, 1),)))], {1}, 0),
    ],
    ids=[
        "nobody sends",
        "one does not",
        "one is out of reach",
        "one waits itself",
        "one waits for one that waits",
        "one waits no longer",
        "another one accuses it",
    ],
)
def test_who_is_waited_for_in_vain_is_accused(script, gone, until_s):
    agent, ended = collect(script)
    assert (ended, agent.membership.gone) == ("done", gone)
    assert until_s <= agent.clock.now_s() <= until_s + 3
    accused = {peer for _, accuser, peer in agent.membership.accusations if accuser == 0}
    assert accused <= {receiver for receiver, _ in agent.sent(protocol.Gone.kind)}, (
        "who may be slow and not dead"
    )


def test_whoever_waits_long_says_so_once_before_it_gives_up():
    agent, _ = collect([mark(2, 1)])
    waiting = agent.sent(protocol.Waiting.kind)
    assert [receiver for receiver, _ in waiting] == [1, 2, 3]
    assert {0 < about["for_s"] < PATIENCE_S for _, about in waiting} == {True}
    assert {about["awaited"] for _, about in waiting} == {1}


def test_whoever_waits_long_for_several_names_each():
    agent, _ = collect([At(4.0, mark(1, 1))])
    assert [about["awaited"] for _, about in agent.sent(protocol.Waiting.kind)] == [1, 1, 1, 2, 2, 2]


COMMIT = protocol.Commit(round=ROUND, gone=(), joining=())


def accused(accuser, peer):
    return told(accuser, protocol.Gone(accusations=((ROUND, accuser, peer),)))


@pytest.mark.parametrize(
    ("events", "before", "after"),
    [
        ([accused(2, 0)], "LeftBehindError", "LeftBehindError"),
        ([accused(2, 3)], "done", "BeginAgainError"),
        ([told(peer, COMMIT) for peer in (2, 3)], "done", "DecidedError"),
        ([told(2, COMMIT)], "done", "done"),
        ([told(2, protocol.Commit(round=ROUND - 1, gone=(), joining=()))], "done", "done"),
        ([accused(3, 2), accused(2, 3)], "done", "BeginAgainError"),
    ],
    ids=[
        "this agent is accused",
        "another one is",
        "committed, as two say",
        "committed, as one says",
        "an earlier commit",
        "two accuse each other",
    ],
)
def test_a_round_goes_on_begins_again_or_ends(events, before, after):
    """Before the return point only the loss of this agent matters; after it that of any other one."""
    marks = [mark(1, 1), mark(2, 1), mark(3, 1)]
    assert collect([*events, *marks])[1] == before
    assert collect([*events, *marks], in_attempt=True)[1] == after


def test_what_was_averaged_with_one_that_is_gone_now_is_dropped():
    script = [mark(1, RETURN_POINT, kind="stale"), mark(1, RETURN_POINT, kind="good", gone=[3])]
    agent, ended = collect(script, [1], RETURN_POINT, in_attempt=True, absent=[3])
    assert (ended, [one.kind for one in agent.collector.take()]) == ("done", ["good"])


def test_what_was_averaged_without_one_that_this_agent_does_not_miss_yet_waits():
    """The peer has found it to be gone before this agent does."""
    script = [mark(1, RETURN_POINT, kind="later", gone=[3]), accused(2, 3)]
    agent, ended = collect(script, [1], RETURN_POINT, in_attempt=True)
    assert ended == "BeginAgainError"
    assert [one.kind for one in agent.links.streams.first(1).mail] == ["later"]


def test_the_marks_of_the_last_phase_are_kept_until_the_round_begins_again():
    agent, _ = collect([mark(1, LAST), mark(2, LAST)], phase=LAST, in_attempt=True)
    assert sorted(agent.collector.marks) == [1, 2]
    agent.collector.begin_again()
    assert (agent.collector.marks, agent.collector.kept, agent.collector.attempt) == ({}, [], None)


@pytest.mark.parametrize(
    ("script", "first"),
    [([], 1), ([accused(1, 3)], 3), ([accused(1, 2)], 2), ([accused(1, 3), accused(3, 1)], 3)],
    ids=["it alone is late", "it does without one", "it does without another one", "so does the other one"],
)
def test_one_that_is_late_as_it_does_without_another_is_not_the_first_to_go(script, first):
    agent = Agent(script, drawn=lambda round_: (0, 1, 2, 3))
    agent.collector.collect((1,), Step(ROUND, 1), PATIENCE_S)
    given_up = [about["accusations"][-1] for _, about in agent.sent(protocol.Gone.kind)]
    assert given_up[0] == (ROUND, 0, first)
