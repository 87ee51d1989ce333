"""How an agent that lacks the current model gets it: one that was left behind or comes late, and one that was
absent and whose holder is gone.
"""

from collections.abc import Sequence

from comdml_flwr.carriers.direct.collector import Collector
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import (
    Admission,
    Commit,
    CommitRequest,
    JoinRequest,
)
from comdml_flwr.carriers.direct.run_end import RunEndedError
from comdml_flwr.carriers.direct.streams import Segment
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.majority import majority
from comdml_flwr.core.program import Step
from comdml_flwr.planning.participation import check_left

ASK_AGAIN_S = 5.0  # to be let in


def request_admission(
    links: PeerLinks, membership: Membership, patience_s: float = 0.0, why: str = ""
) -> tuple[int, str, Admission]:
    """Ask all peers until one admits this agent; take over who is gone; return who does, and its mail.

    Those who cannot be reached are tried again as long as `patience_s`.

    Raises
    ------
    RunError
        Nobody is there.
    """
    links.admitted = None
    for peer in links.peers:
        links.streams.drop(peer)
    links.watch(links.peers, again=True)
    ask_again = began_s = links.clock.now_s()
    request = int(ask_again * 1e9)  # unlike those of an earlier absence
    while links.admitted is None:
        if links.clock.now_s() >= ask_again:
            ask_again += ASK_AGAIN_S
            for peer in links.peers:
                links.say(peer, JoinRequest(request=request))
        is_patient = links.clock.now_s() < began_s + patience_s
        for peer in links.peers if is_patient else ():
            if links.why_gone(peer):  # a request is under way when the network heals
                links.watch([peer], again=True)
                links.say(peer, JoinRequest(request=request))
        links.look()
        if not is_patient and all(cannot_admit(links, peer) for peer in links.peers):
            raise RunError(
                f"{why}, and nobody has let agent {links.own} in for {patience_s:.0f} s"
                if why
                else f"agent {links.own} was left behind, and nobody is there to let it in"
            )
    by, where, admission = links.admitted
    membership.take_over(admission.gone, admission.admissions)
    return by, where, admission


def cannot_admit(links: PeerLinks, peer: int) -> bool:
    """Tell whether a peer is gone, or asks to be admitted itself."""
    recently_s = links.clock.now_s() - 2 * ASK_AGAIN_S
    return links.asked_s.get(peer, 0.0) > max(0.0, recently_s) or links.why_gone(peer) is not None


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


def wait_if_alone(links: PeerLinks, membership: Membership, deadlines: Deadlines, ids: Sequence[int]) -> None:
    """Wait, when all others are gone, until one of them asks to be let in, and let it in.

    Parameters
    ----------
    links, membership, deadlines
        Of the agent that may be alone, before the round that `links` is in.
    ids : Sequence[int]
        All agents of the run.

    Raises
    ------
    RunError
        None asks in the time that a start may take.
    """
    if len(ids) == 1 or len({*ids} - membership.gone) > 1:
        return
    give_up = links.clock.now_s() + deadlines.start_s
    while not links.joining:
        if links.clock.now_s() > give_up:
            check_left(links.round, ids, membership.gone)
        links.look()
    joining = dict(links.joining)
    links.note_admitted(joining)
    membership.admit(joining, since=links.round)
    for peer in sorted(joining):
        links.say_admitted(peer, links.round)
