"""What an agent waits for in a round that goes from peer to peer, and what can happen while it waits."""

from collections.abc import Iterable
from math import inf

from comdml_flwr.carriers.direct.deadlines import SHORTEST_S, Deadlines
from comdml_flwr.carriers.direct.membership import Membership
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import Mark
from comdml_flwr.carriers.direct.streams import Segment
from comdml_flwr.core.messages import Envelope, Inbox
from comdml_flwr.core.program import Step


class BeginAgainError(Exception):
    """Somebody else is gone: the averaging begins again."""


class DecidedError(Exception):
    """A peer has ended the round."""


class LeftBehindError(Exception):
    """The others go on without this agent."""


class Collector:
    """Waits for the marks of peers, and keeps what they sent before.

    Parameters
    ----------
    links : PeerLinks
        Where mail comes from.
    membership : Membership
        Who is gone.
    deadlines : Deadlines
        How long to wait.
    return_point : int, optional
        The phase to which a round goes back when somebody is gone after it.
    last : int
        The last phase of a round.
    left_over : Inbox
        Mail that was kept before.
    """

    def __init__(
        self,
        links: PeerLinks,
        membership: Membership,
        deadlines: Deadlines,
        *,
        return_point: int | None,
        last: int,
        left_over: Inbox = (),
    ) -> None:
        self._links, self._membership, self._deadlines = links, membership, deadlines
        self._return_point, self._last = return_point, last
        self.kept: list[Envelope] = list(left_over)
        self.marks: dict[int, Mark] = {}  # of the last phase, of this attempt
        self.attempt: frozenset[int] | None = None  # who is missing in it; None before the return point

    @property
    def missing(self) -> frozenset[int]:
        """Who is missing in what runs."""
        return self._membership.gone if self.attempt is None else self.attempt

    @property
    def can_begin_again(self) -> bool:
        """Whether a round's averaging begins again when somebody is gone: it has attempts."""
        return self._return_point is not None

    def begin_round(self) -> None:
        """Begin a round; what was kept is for it."""
        self.marks, self.attempt = {}, None
        self._links.waits.begin_round(self._links.round)

    def begin_again(self) -> None:
        """Go back to the return point: what came in this attempt is of no use any more."""
        self.kept, self.marks, self.attempt = [], {}, None

    def begin_attempt(self) -> None:
        """Pass the return point, with those who are not gone now."""
        self.attempt = self._membership.gone

    def take(self) -> Inbox:
        """Take what was kept, by sender, each one's in the order in which it was sent."""
        inbox, self.kept = tuple(sorted(self.kept, key=lambda mail: mail.sender)), []
        return inbox

    def collect(self, senders: Iterable[int], step: Step, patience_s: float) -> None:
        """Wait until these peers have done a step or are gone, and keep what they sent up to then.

        Raises
        ------
        BeginAgainError, DecidedError, LeftBehindError
            The round does not go on as it began.
        """
        senders = tuple(senders)
        began_s, gone, told_of = self._links.clock.now_s(), self._membership.gone, self._links.own
        give_up_s = began_s + patience_s
        self.check()
        for sender in sorted({*senders} - {self._links.own}):
            while sender not in self._membership.gone and not self._keep_up_to(sender, step):
                if gone != self._membership.gone:  # for whom the sender may have waited, too
                    gone = self._membership.gone
                    give_up_s = max(give_up_s, self._links.clock.now_s() + self._deadlines.patience_s)
                if self.look():
                    continue
                now_s = self._links.clock.now_s()
                if told_of != sender and now_s > began_s + self._deadlines.patience_s:
                    self._links.say_waiting(sender, give_up_s - now_s)
                    told_of = sender
                self._bear_out(senders, step, began_s)
                self.check()
                if gone != self._membership.gone:
                    continue
                self._links.watch([sender])
                reason = self._links.why_gone(sender)
                most_s = began_s + self._deadlines.most_s  # whatever is said of waiting
                waits_itself_s = min(self._waits_until_s(sender), most_s)
                if reason is None and now_s > max(
                    self._before_others_s(sender, began_s, give_up_s), waits_itself_s
                ):
                    reason = f"not done with phase {step.phase + 1} in {patience_s:.1f} s"
                if reason is not None:
                    self._links.accuse(*self._blamed(sender, reason))
                    self.check()

    def _blamed(self, sender: int, reason: str) -> tuple[int, str]:
        """Return whom to give up, and why: perhaps the one without which a late peer cannot go on."""
        if self._links.why_gone(sender):
            return sender, reason
        here, turn = {*self._links.drawn(self._links.round)} - self._membership.gone, self._membership.turn
        worst = max(self._membership.accused_by(sender) & here - {self._links.own}, key=turn, default=sender)
        if turn(worst) > turn(sender):
            return worst, f"agent {sender} cannot go on with it"
        return sender, reason

    def _before_others_s(self, sender: int, began_s: float, give_up_s: float) -> float:
        """Return when to give up one that does not say that it waits: before others give up this agent."""
        links, patience_s = self._links, self._deadlines.patience_s
        if links.waits.said_in(sender) >= links.round:
            return give_up_s
        theirs_s = links.waits.first_end_s(links.own, without=sender)
        return min(give_up_s, max(theirs_s - patience_s, began_s + min(patience_s, SHORTEST_S)))

    def _waits_until_s(self, sender: int) -> float:
        """Return until when a peer without a fault may wait: for others, or for its accusation's second.

        One that waits for this agent, which has gone on without an agent that it has not given up, is to say
        first which of these two it gives up.
        """
        patience_s, gone, links = self._deadlines.patience_s, self._membership.gone, self._links
        last = links.streams.latest(sender)
        if last and links.waits.waits_for(sender, links.own) and gone - last[1]:
            return inf
        accused = self._membership.accused_by(sender) - gone - {links.own}
        heard_s = [links.accused_s.get(other, 0.0) for other in accused]
        return max(links.waits.end_s(sender, patience_s), max(heard_s, default=0.0) + 2 * patience_s)

    def _bear_out(self, senders: Iterable[int], step: Step, began_s: float) -> None:
        """Give up those of whom another one says that they are gone, where this agent finds so as well.

        They cannot be reached, or it waits for them, too. Of two that accuse each other, over a broken link
        or as one of them lies, the one goes whose turn it is (`Membership.turn`). The word of one that is
        gone, or accuses this agent, is not heard, nor of one that is late itself, for which all may wait.
        """
        now_s, turn = self._links.clock.now_s(), self._membership.turn
        of_this_one = self._membership.accusers(self._links.own, since=self._links.round)
        erring = {self._links.own, *of_this_one, *self._membership.gone}
        for sender in sorted({*senders} - {self._links.own} - self._membership.gone):
            accusers = {
                accuser
                for accuser in self._membership.accusers(sender, since=self._links.round) - erring
                if self._goes_on(accuser, step, sender)
                if turn(sender) > turn(accuser) or sender not in self._membership.accusers(accuser)
            }
            if not accusers:
                continue
            self._links.watch([sender])
            since_s = max(began_s, self._links.accused_s.get(sender, began_s))
            is_late = now_s > since_s + self._deadlines.patience_s and not self._has_done(sender, step)
            if self._links.why_gone(sender) or is_late:
                self._links.accuse(sender, f"agent {min(accusers)} gives it up, too")

    def _goes_on(self, accuser: int, step: Step, without: int) -> bool:
        """Tell whether an agent that accuses another one is not late itself, or has gone on without it.

        One that accuses several goes on without all, or with all.
        """
        last, now = self._links.streams.latest(accuser), self._links.round
        if last is None:
            return False
        accused = {
            other for round_, by, other in self._membership.accusations if (round_, by) == (now, accuser)
        }
        several = len(accused - self._membership.gone) > 1
        return without in last[1] or (last[0] >= step and not several)

    def _has_done(self, sender: int, step: Step) -> bool:
        """Tell whether the last mark of a peer that waits says that it has done a step, in this attempt."""
        last = self._links.streams.last(sender)
        return last is not None and last.step >= step and not self._is_of_other_attempt(last)

    def look(self) -> bool:
        """Take what comes next; tell whether something came."""
        came = self._links.look()
        self.check()
        return came

    def look_at_all(self) -> None:
        """Take all that has come: one that hung finds here that the others went on without it."""
        while self._links.look(0.0):
            pass
        self.check()

    def check(self) -> None:
        """See whether the round goes on as it began."""
        if self._links.own in self._membership.gone:
            raise LeftBehindError
        if self.attempt is not None:
            if self._links.decision(self._links.round):
                raise DecidedError
            if self._membership.gone != self.attempt:
                raise BeginAgainError

    def _keep_up_to(self, sender: int, step: Step) -> bool:
        """Keep what a peer sent up to its mark that it did a step; tell whether it has done it."""
        streams = self._links.streams
        while segment := streams.first(sender):
            if self._is_of_later_attempt(segment):
                return False  # this agent may yet find that somebody is gone
            if segment.step.round < step.round or self._is_of_other_attempt(segment):
                streams.take(sender)
                continue
            if segment.step > step:  # of a later round: it has ended this one, and will say so
                return segment.step.round == step.round
            self.kept += streams.take(sender).mail
            if segment.mark.training_s is not None:
                self._deadlines.hear(sender, segment.mark.training_s)
            if segment.step.phase == self._last:
                self.marks[sender] = segment.mark
            if segment.step == step:
                return True
        return False

    def _is_of_later_attempt(self, segment: Segment) -> bool:
        """Tell whether a peer averages without more agents than this one does."""
        return self._is_of_other_attempt(segment) and segment.gone > self.missing

    def _is_of_other_attempt(self, segment: Segment) -> bool:
        if self.attempt is None or self._return_point is None:
            return False
        is_averaging = segment.step.phase >= self._return_point and segment.step.round == self._links.round
        return is_averaging and segment.gone != self.attempt
