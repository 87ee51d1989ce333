"""How an agent that was absent in a round hears of its end: as what it is committed, and who is gone."""

from collections.abc import Sequence

from comdml_flwr.carriers.direct.collector import Collector
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Commit, CommitRequest
from comdml_flwr.carriers.direct.run_end import RunEndedError
from comdml_flwr.carriers.direct.streams import Segment
from comdml_flwr.core.majority import majority
from comdml_flwr.core.program import Step


def last_segments(
    links: PeerLinks,
    collector: Collector,
    membership: Membership,
    step: Step,
    drawn: Sequence[int],
) -> list[Segment]:
    """Wait for the last segments of those who ended a round together, as one who was absent in it.

    Nobody waits for who cannot be reached, nor for a round that there is none of, as the run has ended. That
    all have ended an attempt says nothing yet: a mark that reached this agent may be lost to another one,
    which then begins again. Those who ended it are asked as what the round is committed, until one has told
    or none is left.

    Parameters
    ----------
    links, collector, membership
        Of the absent agent.
    step : Step
        The last phase of the round.
    drawn : Sequence[int]
        Who was drawn for it.

    Raises
    ------
    RunEndedError
        A peer says that the run ended before that round.
    """
    segments: list[Segment] = []
    asked: set[int] = set()
    while True:
        if links.ended_after is not None and links.ended_after < step.round:
            raise RunEndedError
        for peer in links.peers:
            while (segment := links.streams.first(peer)) and segment.step <= step:
                links.streams.take(peer)
                if segment.step == step:
                    if not segments:  # all have begun long ago: no deadline of a start counts any more
                        links.keep_to_deadlines()
                    segments.append(segment)
        commit = _commit_of(step.round, links, collector)
        gone, together = _of_one_attempt(segments, commit)
        there = {segment.sender for segment in together}
        restarted = _restarted(links, together)
        lost = restarted | {peer for round_, _, peer in membership.accusations if round_ >= step.round}
        late = [peer for peer in drawn if peer not in gone | there | lost]
        links.watch(late)
        if all(links.why_gone(peer) for peer in late):
            can_tell = [peer for peer in sorted(there - restarted) if links.why_gone(peer) is None]
            if commit or not can_tell or not collector.can_begin_again:
                return together
            links.watch(can_tell)
            for peer in sorted({*can_tell} - asked):
                links.say(peer, CommitRequest(round=step.round))
            asked |= {*can_tell}
        collector.look()


def _commit_of(round_: int, links: PeerLinks, collector: Collector) -> Commit | None:
    """Return as what a round was committed; None if nobody has told, or it has no attempts."""
    _, commit = links.decision(round_) or (0, None)
    return commit if collector.can_begin_again else None


def _of_one_attempt(
    segments: Sequence[Segment], commit: Commit | None
) -> tuple[frozenset[int], list[Segment]]:
    """Return who was gone in the attempt that was committed, or else that counts so far, and its segments."""
    latest = {segment.sender: segment for segment in segments}
    if commit is None:
        gone = max((segment.gone for segment in latest.values()), key=len, default=frozenset())
    else:
        gone = frozenset(commit.gone)
        latest = {segment.sender: segment for segment in segments if segment.gone == gone}
    return gone, [segment for _, segment in sorted(latest.items()) if segment.gone == gone]


def _restarted(links: PeerLinks, segments: Sequence[Segment]) -> set[int]:
    """Return who has lost what it had in the round of these segments, and asks to be re-admitted."""
    admitted = {peer for segment in segments for peer, _ in segment.mark.admissions or ()}
    return links.joining.keys() - admitted


def take_over_from(
    segments: Sequence[Segment], links: PeerLinks, membership: Membership, next_round: int
) -> str | None:
    """Know who is gone as those do who ended a round together, and who is let in with its end.

    Returns
    -------
    str or None
        The digest of the round's model, as it is committed, or as most of those tell it.
    """
    if not segments:
        return None
    gone, mark = segments[0].gone, segments[0].mark
    membership.take_over(gone, mark.admissions or ())
    _, commit = links.decision(next_round - 1) or (0, None)
    heard = [pair for segment in segments for pair in segment.mark.joining or ()]
    said = sorted([*heard, *(commit.joining if commit else ())])
    joining = {peer: request for peer, request in said if peer in gone}
    links.note_admitted(joining)
    membership.admit(joining, since=next_round)
    told = {segment.sender: segment.mark.digest for segment in segments}
    return commit.digest if commit else majority(told)[0]
