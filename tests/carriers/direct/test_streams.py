"""What comes from a peer is cut at its marks, whatever lies between them."""

from dataclasses import replace

import pytest

from comdml_flwr.carriers.direct.protocol import Mark, mark_of
from comdml_flwr.carriers.direct.streams import Streams, with_mark
from comdml_flwr.core.errors import PeerFaultError, RunError
from comdml_flwr.core.messages import Envelope
from comdml_flwr.core.program import Step
from tests.carriers.direct.scripted import PEERS, ROUND, mail, mark


def put(streams, envelope):
    streams.put(envelope, mark_of(envelope))


def segments(streams, peer):
    """Take all segments of a peer: phase, who was gone, and the kinds of the mail."""
    found = []
    while streams.first(peer):
        segment = streams.take(peer)
        assert (segment.sender, segment.step.phase) == (peer, segment.mark.phase)
        found.append((segment.step.phase, sorted(segment.gone), [one.kind for one in segment.mail]))
    return found


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ([mail(1, "model")], []),
        ([mark(1, 0)], [(0, [], [])]),
        ([mail(1, "model"), mark(1, 0)], [(0, [], ["model"])]),
        ([mail(1, "model"), mark(1, 0, kind="shard")], [(0, [], ["model", "shard"])]),
        ([mark(1, 0, kind="a"), mail(1, "b"), mark(1, 1)], [(0, [], ["a"]), (1, [], ["b"])]),
        ([mail(1, "old", ROUND - 1), mail(1, "new"), mark(1, 0)], [(0, [], ["new"])]),
        ([mark(1, 3, gone=[3, 2])], [(3, [2, 3], [])]),
        ([mark(1, 0), mail(1, "model")], [(0, [], [])]),
    ],
    ids=[
        "no mark yet", "a mark alone", "mail and a mark", "a mark on the last mail", "two phases",
        "mail of a process that died", "without two", "more to come",
    ],
)  # fmt: skip
def test_a_segment_is_the_mail_up_to_a_mark(came, expected):
    streams = Streams(PEERS)
    for envelope in came:
        put(streams, envelope)
    assert segments(streams, 1) == expected
    assert segments(streams, 2) == [], "peers are kept apart"


def test_of_a_peer_that_is_dropped_nothing_is_left():
    streams = Streams(PEERS)
    for envelope in (mark(1, 0), mail(1, "model"), mark(2, 0)):
        put(streams, envelope)
    streams.drop(1)
    put(streams, mark(1, 1))
    assert segments(streams, 1) == [(1, [], [])]
    assert segments(streams, 2) == [(0, [], [])]


def test_a_mark_goes_on_the_last_envelope_for_each_receiver():
    outbox = tuple(
        Envelope(sender=0, receiver=receiver, round=ROUND, kind=kind, about={"size": 1})
        for receiver, kind in ((1, "a"), (2, "b"), (1, "c"))
    )
    marked = with_mark(outbox, Mark(phase=2, gone=(), accusations=()))
    assert [(one.kind, dict(one.about), one.mark and one.mark["phase"]) for one in marked] == [
        ("a", {"size": 1}, None),
        ("b", {"size": 1}, 2),
        ("c", {"size": 1}, 2),
    ]


@pytest.mark.parametrize("said", [{"phase": "first"}, {"phase": 0, "gone": [[1]]}, {}])
def test_a_mark_that_makes_no_sense_names_its_sender(said):
    streams = Streams(PEERS)
    with pytest.raises(RunError, match=f"^mark on {Mark.kind} from agent 1, round {ROUND}: "):
        put(streams, replace(mark(1, 0), mark=said))


def test_a_method_may_use_every_key_of_a_mark_for_itself():
    streams = Streams(PEERS)
    put(streams, mail(1, "model", phase=7, gone=[2]))
    put(streams, mark(1, 0))
    segment = streams.take(1)
    assert (segment.step.phase, segment.gone) == (0, frozenset())
    assert dict(segment.mail[0].about) == {"phase": 7, "gone": [2]}


def test_segments_are_in_the_order_of_rounds_and_phases():
    streams = Streams(PEERS)
    for round_, phase in ((5, 0), (5, 1), (6, 0)):
        put(streams, mark(1, phase, round_))
    assert [streams.take(1).step for _ in range(3)] == [Step(5, 0), Step(5, 1), Step(6, 0)]


@pytest.mark.parametrize("phase", [0, 1])
def test_a_phase_that_a_peer_has_done_in_this_attempt_is_not_done_again(phase):
    streams = Streams(PEERS)
    put(streams, mark(1, 1))
    with pytest.raises(PeerFaultError, match=f"it has done phase 2, not {phase + 1}"):
        put(streams, mark(1, phase))
    put(streams, mark(1, phase, gone=[2]))  # another attempt
    put(streams, mark(1, 0, ROUND + 1))
    streams.begins_again(1)
    put(streams, mark(1, 0, ROUND + 1))
