"""How an agent leaves: when nobody needs any more what it alone may have."""

from collections.abc import Collection

from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.rejoining import cannot_admit


def stay(links: PeerLinks, later: Collection[int], last: int, longest_s: float) -> None:
    """Be there for those who lack the model of this agent's last round, until the others end.

    Parameters
    ----------
    links : PeerLinks
        Of this agent.
    later : Collection[int]
        Who takes part in a later round.
    last : int
        The last round of the message.
    longest_s : float
        How long the others may take for their rounds, in seconds.
    """
    links.watch(later)
    give_up = links.clock.now_s() + longest_s
    while links.ended_after is None and max(links.latest_commit.values(), default=0) < last:
        is_idle = not links.look() and all(cannot_admit(links, peer) for peer in later)
        if is_idle or links.clock.now_s() > give_up:
            return


def leave(
    links: PeerLinks,
    membership: Membership,
    deadlines: Deadlines,
    round_: int,
    others: Collection[int],
    next_round: int,
) -> None:
    """Leave when all who took part have committed the last round too, and those who asked are let in.

    One that was given up in it and can be reached may ask yet.

    Parameters
    ----------
    links, membership, deadlines
        Of this agent.
    round_ : int
        The last one.
    others : Collection[int]
        Who else was drawn for it.
    next_round : int
        With which one that is let in goes on.
    """
    for peer in links.peers:  # also those who have stayed, or wait for a later round
        if peer not in membership.gone:
            links.say_committed(round_, peer)
    links.watch(others)
    began_s, admitted = links.clock.now_s(), set[int]()
    while (now_s := links.clock.now_s()) < began_s + deadlines.seconds:
        for peer, request in sorted(links.joining.items()):
            links.note_admitted({peer: request})
            links.say_admitted(peer, next_round)
            admitted.add(peer)
        wanted = {*others} - admitted
        if now_s > began_s + deadlines.patience_s:
            wanted -= membership.gone
        late = [peer for peer in wanted if links.latest_commit.get(peer, 0) < round_]
        if all(links.why_gone(peer) for peer in late):
            return
        links.look()
