"""How long a comparison will still take, by the stopwatch of the runs so far.

Runs of one case and method cost about the same for each round, whatever the seed; runs of different ones may
differ tenfold. So each kind's rounds are priced by their own time, from a run's beginning to its last round.
A kind that has not run yet is priced as the one that is most like it (in the keys of its configuration): by
the ratio of their local epochs, and by the root of that of their agents, since one part of a round is there
for each agent and the other, the training, is shared among them. What is left is shared by as many workers as
have been seen at work at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from comdml_flwr.comparison.schedule import PlannedRun

_Kind = tuple[str, str]


@dataclass(slots=True)
class _Going:
    run: PlannedRun
    began_s: float
    last_s: float
    num_rounds: int = 0


class TimeLeft:
    """Estimates what is left.

    Parameters
    ----------
    missing : Sequence[PlannedRun]
        All runs that are to be trained.
    """

    def __init__(self, missing: Sequence[PlannedRun]) -> None:
        self._waiting = {str(run): run for run in missing}
        self._going: dict[str, _Going] = {}
        self._ended: dict[_Kind, tuple[float, int]] = {}  # seconds and rounds
        self._like: dict[_Kind, PlannedRun] = {}
        self._most_at_a_time = 1

    def begins(self, run: PlannedRun, now_s: float) -> None:
        """Hear that a run begins."""
        self._waiting.pop(str(run), None)
        self._going[str(run)] = _Going(run, now_s, now_s)
        self._most_at_a_time = max(self._most_at_a_time, len(self._going))

    def round_ends(self, run: PlannedRun, round_: int, now_s: float) -> None:
        """Hear how many rounds a run has done."""
        if str(run) in self._going:
            self._going[str(run)].last_s, self._going[str(run)].num_rounds = now_s, round_

    def ends(self, run: PlannedRun) -> None:
        """Hear that a run is over."""
        if (going := self._going.pop(str(run), None)) and going.num_rounds:
            seconds, num_rounds = self._ended.get(_kind(run), (0.0, 0))
            seconds, num_rounds = seconds + going.last_s - going.began_s, num_rounds + going.num_rounds
            self._ended[_kind(run)] = seconds, num_rounds
            self._like[_kind(run)] = run

    def of_run(self, run: PlannedRun) -> float | None:
        """Return how long a run that goes on will still take, in seconds; None while nothing is known."""
        going, round_s = self._going.get(str(run)), self._round_s(run)
        return None if going is None or round_s is None else (run.num_rounds - going.num_rounds) * round_s

    def of_all(self) -> float | None:
        """Return how long all will still take, in seconds; None as long as nothing is known."""
        runs = [*self._waiting.values(), *(going.run for going in self._going.values())]
        left_s: list[float] = []
        for run in runs:
            round_s = self._round_s(run)
            if round_s is None:
                return None
            done = self._going[str(run)].num_rounds if str(run) in self._going else 0
            left_s.append((run.num_rounds - done) * round_s)
        return max(max(left_s, default=0.0), sum(left_s) / self._most_at_a_time)

    def _round_s(self, run: PlannedRun) -> float | None:
        known = self._known()
        if _kind(run) in known:
            seconds, num_rounds, _ = known[_kind(run)]
            return seconds / num_rounds
        if not known:
            return None
        seconds, num_rounds, like = max(known.values(), key=lambda kind: _likeness(kind[2], run))
        epochs = float(run.config["local-epochs"]) / float(like.config["local-epochs"])
        return seconds / num_rounds * epochs * sqrt(run.num_agents / like.num_agents)

    def _known(self) -> dict[_Kind, tuple[float, int, PlannedRun]]:
        """Return seconds, rounds and a run of each kind of which a round has ended."""
        known = {kind: (*sums, self._like[kind]) for kind, sums in self._ended.items()}
        for going in self._going.values():
            if going.num_rounds:
                seconds, num_rounds, _ = known.get(_kind(going.run), (0.0, 0, going.run))
                seconds, num_rounds = seconds + going.last_s - going.began_s, num_rounds + going.num_rounds
                known[_kind(going.run)] = seconds, num_rounds, going.run
        return known


def _kind(run: PlannedRun) -> _Kind:
    return run.case, run.label


def _likeness(one: PlannedRun, other: PlannedRun) -> tuple[int, bool]:
    """Return in how many keys two runs are alike, and whether they have as many agents."""
    same = sum(other.config.get(key) == value for key, value in one.config.items())
    return same, one.num_agents == other.num_agents
