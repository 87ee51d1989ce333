"""How an agent that was absent in a round hears of its end: as what it is committed, and who is gone."""

from collections.abc import Sequence
from math import inf

from comdml_flwr.carriers.direct.collector import Collector
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Commit, CommitRequest
from comdml_flwr.carriers.direct.quorum import NoQuorumError
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
    deadlines: Deadlines,
    longest_s: float = inf,
) -> tuple[list[Segment], Commit | None]:
    """Wait for the last segments of those who ended a round together, as one who was absent in it.

    Nobody waits for who cannot be reached, nor for a round that there is none of, as the run has ended. That
    all have ended an attempt says nothing yet: a mark that reached this agent may be lost to another one,
    which then begins again. Those who ended it are asked as what the round is committed, until one has told
    or none is left. One that sends this agent nothing cannot keep it: the others are asked when it is late,
    and what most of them tell counts when nobody tells more.

    Parameters
    ----------
    links, collector, membership, deadlines
        Of the absent agent.
    step : Step
        The last phase of the round.
    drawn : Sequence[int]
        Who was drawn for it.
    longest_s : float
        How long to wait at most, in seconds.

    Returns
    -------
    tuple[list[Segment], Commit or None]
        The segments, and as what the round is committed, where that is known.

    Raises
    ------
    RunEndedError
        A peer says that the run ended before that round.
    NoQuorumError
        The others do not end it, nor say anything.
    """
    segments: list[Segment] = []
    asked: set[int] = set()
    began_s = heard_s = told_s = links.clock.now_s()
    has_said = False
    while True:
        if links.ended_after is not None and links.ended_after < step.round:
            raise RunEndedError
        now_s = links.clock.now_s()
        for peer in links.peers:
            while (segment := links.streams.first(peer)) and segment.step <= step:
                links.streams.take(peer)
                if segment.step == step:
                    if not segments:  # all have begun long ago: no deadline of a start counts any more
                        links.keep_to_deadlines()
                    segments.append(segment)
                    heard_s = now_s
        if not (tellers := links.decisions.tellers(step.round)):
            told_s = now_s
        commit = None
        if collector.can_begin_again:
            commit = _commit_of(step.round, links, segments, now_s > told_s + deadlines.seconds)
        gone, together = _of_one_attempt(segments, commit)
        there = {segment.sender for segment in together}
        restarted = _restarted(links, together)
        lost = restarted | {peer for round_, _, peer in membership.accusations if round_ >= step.round}
        late = [peer for peer in drawn if peer not in gone | there | lost]
        links.watch(late)
        none_is_late = all(links.why_gone(peer) for peer in late)
        is_overdue = now_s > heard_s + deadlines.patience_s
        if none_is_late or (together and is_overdue):
            can_tell = [peer for peer in sorted(there - restarted) if links.why_gone(peer) is None]
            if commit or (none_is_late and not (can_tell and collector.can_begin_again)):
                return together, commit
            links.watch(can_tell)
            for peer in sorted({*can_tell} - asked):
                links.say(peer, CommitRequest(round=step.round))
            asked |= {*can_tell}
            if is_overdue and not has_said:  # the others wait for this agent
                silent = [*late, *(peer for peer in can_tell if peer not in tellers)]
                links.say_waiting(silent[0] if silent else drawn[0], deadlines.seconds)
                has_said = True
        if now_s > began_s + longest_s:
            raise NoQuorumError(f"nobody has told how round {step.round} ended")
        collector.look()


def _commit_of(round_: int, links: PeerLinks, segments: Sequence[Segment], is_late: bool) -> Commit | None:
    """Return as what a round was committed; None if nobody has told, or is to be believed yet."""
    decided = links.decision(round_)
    if decided is None and is_late:
        held = {segment.sender: (segment.gone, segment.mark.digest) for segment in segments}
        decided = links.decisions.most_told(round_, held)
    return decided[1] if decided else None


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
    segments: Sequence[Segment],
    commit: Commit | None,
    links: PeerLinks,
    membership: Membership,
    next_round: int,
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
    heard = [pair for segment in segments for pair in segment.mark.joining or ()]
    said = sorted([*heard, *(commit.joining if commit else ())])
    joining = {peer: request for peer, request in said if peer in gone}
    links.note_admitted(joining)
    membership.admit(joining, since=next_round)
    told = {segment.sender: segment.mark.digest for segment in segments}
    return commit.digest if commit else majority(told)[0]
