"""The loop over a run's rounds: each is added up from its reports and yielded as soon as it has ended.

Whoever drives a run does so with a `for`, and its body prints, writes and keeps checkpoints: no exchange is
under way meanwhile. A `RunRecord` is yielded: all rounds so far, of which the last one is new.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.display import Display
from comdml_flwr.core.program import Carrier, Program
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, KnownTests, Metrics, reaches
from comdml_flwr.learning.schedule import count_reductions, follows_metric
from comdml_flwr.planning.fleet.scenario import Availability
from comdml_flwr.planning.participation import draw_participants
from comdml_flwr.runs.lock_step import LockStep
from comdml_flwr.runs.records import RoundRecord, RunRecord, add_up
from comdml_flwr.runs.reports import usable_reports

if TYPE_CHECKING:  # it loads torch, which a dry run of a table of cuts has no use for
    from comdml_flwr.agents.agent import Agent


def has_ended(rounds: Sequence[RoundRecord], config: RunConfig) -> bool:
    """Tell whether a run ends with the last of these rounds, as its metric reaches `target-metric`."""
    return bool(rounds) and reaches(rounds[-1].score, config.target_metric, rounds[-1].better)


def checkpoint_follows(round_: int, config: RunConfig) -> bool:
    """Tell whether `checkpoint-every` asks for a checkpoint after this round."""
    return config.checkpoint_every > 0 and round_ % config.checkpoint_every == 0


def reductions_after(rounds: Sequence[RoundRecord], config: RunConfig) -> int:
    """Return how often the learning rate was reduced, as the metric of these rounds did not get better."""
    better = rounds[-1].better if rounds else "higher"
    warmup = config.warmup_rounds
    counting = [record.score for record in rounds if record.round <= warmup or record.is_evaluated]
    return count_reductions(counting, better, config)


def run_rounds(
    carrier: Carrier,
    program: "Program[Agent]",
    ids: tuple[int, ...],
    config: RunConfig,
    display: Display,
    availability: Availability | None = None,
    *,
    begun: RunRecord | None = None,
    metrics: Metrics = CLASSIFICATION_METRICS,
    tests: KnownTests | None = None,
) -> Iterator[RunRecord]:
    """Run the rounds of a method over a carrier, up to the one that reaches `target-metric`.

    With such a target, with a learning rate that follows the metric, and before a checkpoint, a round ends
    before the next one begins, which costs an exchange and changes no bit.

    Parameters
    ----------
    carrier : Carrier
        Runs the phases and moves the mail.
    program : Program
        One round.
    ids : tuple[int, ...]
        All agents, ascending.
    config : RunConfig
        Number of rounds, participation and seed.
    display : Display
        Shows each exchange.
    availability : Availability, optional
        Who leaves and returns, as all agents know it.
    begun : RunRecord, optional
        The rounds that are over already, of a run that goes on.
    metrics : Metrics, optional
        Those of the agents' task.
    tests : KnownTests, optional
        Those of all agents, where other processes report: what cannot be is left out.

    Yields
    ------
    RunRecord
        After each round, all rounds so far.

    Raises
    ------
    RunError
        Fewer than two agents are left, or the agents' models differ where they must be equal.
    """

    def present(round_: int) -> tuple[int, ...]:
        return draw_participants(ids, config.participation, config.seed, round_, availability)

    def ends_apart(round_: int) -> bool:
        return config.target_metric > 0 or follows_metric(config) or checkpoint_follows(round_, config)

    def num_reductions() -> int:
        return reductions_after(record.rounds, config)

    record = begun or RunRecord()
    if has_ended(record.rounds, config):
        return
    loop = LockStep(carrier, program, ids, present, config.num_rounds, display)
    began = time.monotonic()
    for round_, reports in loop.run(len(record.rounds) + 1, record.gone, ends_apart, num_reductions):
        elapsed_s = time.monotonic() - began
        distrusted: frozenset[int] = frozenset()
        if tests is not None:
            reports, distrusted = usable_reports(round_, reports, metrics, tests)
        ended = add_up(
            round_,
            reports,
            elapsed_s,
            gone=loop.gone,
            distrusted=distrusted,
            models_agree=program.models_agree,
            metrics=metrics,
        )
        record = record.with_round(ended, reports, loop.gone_next)
        yield record
        if has_ended(record.rounds, config):
            return
        began = time.monotonic()


def last(rounds: Iterable[RunRecord]) -> RunRecord:
    """Run all rounds; return the record that is yielded last.

    No line of Python runs between two rounds but the generator's own: a Ctrl-C is raised within it, where it
    is known how the run goes on.
    """
    (record,) = deque(rounds, maxlen=1)
    return record
