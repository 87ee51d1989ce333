"""How long an agent waits for its peers: a multiple of what the round is predicted to take, by the stopwatch.

Every agent tells how long its own batches take on its own clock; clocks of two machines are never compared.
The forecast of a round is an upper bound of what any plan may ask of a member without a fault:

    compute    2 * max over members of (batches * seconds per batch): a helper may have another's work, too
    transfer   (4 * model + all activations of an agent) / slowest link

and never less than the longest of the last rounds without a fault that this agent has seen, the wait for the
start apart, which absent agents have not seen; they are told by those who end the round before. The deadline
is FACTOR times that, so that it grows and shrinks with the devices; SHORTEST_S covers what no forecast of a
fraction of a second does: the operating system.

A member may claim no more than what is plausible, so that one that lies, or whose clock errs, cannot make the
others wait for hours: its forecast counts at most SLOWEST times the median of all forecasts, and as soon as
there are rounds without a fault, no forecast counts for more than GROWTH times the longest of the last ones.
A round counts for at most GROWTH times the median of those before it.

A peer out of reach is given up after a third of the deadline, before one that is late. Whoever waits for a
peer that may itself be waiting waits two thirds longer, so that the one is given up for whom both wait: a
partner, or one whose last mark came to some and not to others. When somebody has been given up meanwhile, the
others get another third to catch up. So nobody waits longer than two deadlines for one fault.

Deadlines of two that wait one for the other end at nearly the same time. So whoever has waited for a third of
the deadline tells all for whom it waits and how much longer, and is given up a third later than that at the
earliest; or than when the one gives up for whom it waits, and so on along a chain (carriers/direct/waits.py).

**The end of all waits.** Who is absent in a round hears of none of its forecasts, and nobody tells it that
the others are still at work. It waits for them, or to be let in, until all for whom it waits are known to be
of no use; at the longest for as long as the rounds may take where others are SLOWEST times slower than it is:

    2 * start_s + rounds * 2 * FACTOR * (2 * SLOWEST * own training + transfer)

**The start.** Until an agent has the introductions of all, `start_s` is its deadline. From then on, a peer
out of reach is given up as soon as in later rounds. But a healthy peer may still be waiting, with the
deadline of a start, for the introduction of an agent that died when some had it and others had not. So the
deadline falls to that of later rounds only when all others have ended the next phase, and so had all
introductions. In between, it covers such a wait and the work after it. What others say of their waiting may
be of a start as long as no round has ended.
"""

from collections import deque
from collections.abc import Iterable
from statistics import median, median_low

FACTOR = 3.0
SHORTEST_S = 6.0
SLOWEST = 100.0  # a small computer beside one with a GPU
GROWTH = 4.0  # from one round to the next: a device that is shared with others
NUM_ROUNDS = 8  # that are remembered


class Deadlines:
    """How long to wait for one mark of a peer.

    Parameters
    ----------
    start_s : float
        Until the introductions of all are there: processes start, and load data and model.
    transfer_s : float
        Forecast for what this agent sends and gets in a round, in seconds.
    """

    def __init__(self, start_s: float, transfer_s: float) -> None:
        self.start_s, self._transfer_s = start_s, transfer_s
        self._training_s: dict[int, float] = {}
        self._rounds_s: deque[float] = deque(maxlen=NUM_ROUNDS)
        self._has_met_all = self._have_all_met = self._is_started = False

    def hear(self, agent: int, training_s: float) -> None:
        """Note how long an agent says that its own batches of a round take it, in seconds."""
        self._training_s[agent] = training_s

    def round_ended(self, gone: Iterable[int]) -> None:
        """Note that a round is committed: all are beyond the start, and nobody waits for who is gone."""
        self._is_started = True
        for agent in gone:
            self._training_s.pop(agent, None)

    @property
    def has_begun(self) -> bool:
        """Whether this agent has had the introductions of all."""
        return self._has_met_all

    def has_met_all(self) -> None:
        """Note that this agent has the introductions of all: from now on who is out of reach has ended."""
        self._has_met_all = True

    def have_all_met(self) -> None:
        """Note that all the others have them, too: from now on the forecast alone counts."""
        self._has_met_all = self._have_all_met = True

    def round_took(self, elapsed_s: float) -> None:
        """Note the length of a round without a fault, and without the start."""
        most_s = GROWTH * median(self._rounds_s) if self._rounds_s else elapsed_s
        self._rounds_s.append(min(elapsed_s, max(most_s, SHORTEST_S)))

    @property
    def round_s(self) -> float | None:
        """The longest of the last rounds without a fault, in seconds; None: this agent has seen none."""
        return max(self._rounds_s, default=None)

    def hear_of_rounds(self, told_s: Iterable[float | None]) -> None:
        """Take what members tell of their rounds, where this agent has seen none without a fault."""
        known_s = [seconds for seconds in told_s if seconds is not None]
        if known_s and not self._rounds_s:
            self._rounds_s.append(median_low(known_s))

    @property
    def forecast_s(self) -> float:
        """What a round takes at most, in seconds; 0 while nobody has said anything."""
        if not self._training_s:
            return 0.0
        told_s = self._training_s.values()
        claimed_s = 2 * min(max(told_s), max(SLOWEST * median(told_s), SHORTEST_S)) + self._transfer_s
        if not self._rounds_s:
            return claimed_s
        longest_s = max(self._rounds_s)
        return max(min(claimed_s, max(GROWTH * longest_s, SHORTEST_S)), longest_s)

    @property
    def seconds(self) -> float:
        """How long to wait, in seconds."""
        if self._have_all_met:
            return self._of_forecast_s
        return 2 * self.start_s + self._of_forecast_s if self._has_met_all else self.start_s

    @property
    def patience_s(self) -> float:
        """How long one may be out of reach, or catch up when somebody else has been given up, in seconds."""
        return (self._of_forecast_s if self._has_met_all else self.start_s) / FACTOR

    @property
    def for_all_s(self) -> float:
        """How long to wait for peers that may be waiting themselves, in seconds."""
        return 2 * self.seconds - self.patience_s

    @property
    def longest_s(self) -> float:
        """How long a peer without a fault can wait for another one, whatever it knows, in seconds."""
        return 2 * (2 * self.start_s + self._of_forecast_s)

    @property
    def most_s(self) -> float:
        """How long to wait for one that waits itself, whatever is said of that, in seconds."""
        return 2 * self.for_all_s if self._is_started else max(2 * self.for_all_s, self.longest_s)

    def for_rounds_s(self, num_rounds: int, own_s: float) -> float:
        """Return how long rounds may take that this agent is absent in; its own training takes `own_s`."""
        slowest_s = FACTOR * (2 * SLOWEST * own_s + self._transfer_s)
        return 2 * self.start_s + num_rounds * 2 * max(SHORTEST_S, slowest_s, self._of_forecast_s)

    @property
    def _of_forecast_s(self) -> float:
        return max(SHORTEST_S, FACTOR * self.forecast_s)
