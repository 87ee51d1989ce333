"""How an agent is let in again that was left behind, or comes late."""

from collections.abc import Sequence
from math import inf

from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Admission, JoinRequest
from comdml_flwr.core.errors import RunError
from comdml_flwr.planning.participation import check_left

ASK_AGAIN_S = 5.0  # to be let in


def request_admission(
    links: PeerLinks,
    membership: Membership,
    patience_s: float = 0.0,
    why: str = "",
    *,
    longest_s: float = inf,
) -> tuple[int, str, Admission]:
    """Ask all peers until one admits this agent; take over who is gone; return who does, and its mail.

    Those who cannot be reached are tried again as long as `patience_s`; nobody waits longer than `longest_s`.

    Raises
    ------
    RunError
        Nobody is there, or lets it in.
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
        if links.clock.now_s() > began_s + longest_s:
            raise RunError(f"nobody has let agent {links.own} in for {longest_s:.0f} s")
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
