"""Rounds over a carrier, and what a round's reports add up to."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.program import Carrier, Program
from comdml_flwr.planning.fleet.scenario import Availability
from comdml_flwr.planning.participation import draw_participants
from comdml_flwr.runs.lock_step import Listener, LockStep
from comdml_flwr.runs.records import Progress, RoundRecord, RunRecord, add_up, digest_of_all, digests_of


class Observer(Listener, Protocol):
    """Hears of a run's progress."""

    def round_ends(self, record: RoundRecord) -> None:
        """A round's reports are in."""


class Keeper(Protocol):
    """Keeps a run's checkpoints."""

    @property
    def begun(self) -> Progress:
        """Where the run begins: after the rounds of an earlier one that it goes on with, or at none."""

    def is_due(self, round_: int, *, is_last: bool = False) -> bool:
        """Tell whether a checkpoint follows on a round, which may be the last one of the run."""

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; all agents are between two rounds."""


def has_ended(rounds: Sequence[RoundRecord], config: RunConfig) -> bool:
    """Tell whether a run ends with the last of these rounds, as its test accuracy reaches `target-metric`."""
    return bool(rounds) and 0 < config.target_metric <= rounds[-1].accuracy


def run_rounds(
    carrier: Carrier,
    program: Program[Agent],
    ids: tuple[int, ...],
    config: RunConfig,
    observer: Observer,
    availability: Availability | None = None,
    *,
    checkpoints: Keeper | None = None,
    on_round: Callable[[Sequence[RoundRecord]], None] = lambda rounds: None,
) -> RunRecord:
    """Run all rounds of a method over a carrier, or those up to the one that reaches `target-metric`.

    With such a target each round ends before the next one begins, which costs an exchange and changes no bit.

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
    observer : Observer
        Hears of the progress.
    availability : Availability, optional
        Who leaves and returns, as all agents know it.
    checkpoints : Keeper, optional
        Keeps the run's checkpoints, and says where it begins.
    on_round : Callable[[Sequence[RoundRecord]], None]
        Told of all rounds that are over, when one has ended and before the next exchange begins.

    Raises
    ------
    RunError
        Fewer than two agents are left, or the agents' models differ where they must be equal.
    """
    began = lap = time.monotonic()
    begun = checkpoints.begun if checkpoints else Progress()
    records, digests = list(begun.rounds), dict(begun.digests)

    def present(round_: int) -> tuple[int, ...]:
        return draw_participants(ids, config.participation, config.seed, round_, availability)

    loop = LockStep(carrier, program, ids, present, config.num_rounds, observer)

    def ends_apart(round_: int) -> bool:
        return config.target_metric > 0 or (checkpoints is not None and checkpoints.is_due(round_))

    ended = () if has_ended(records, config) else loop.run(len(records) + 1, begun.gone, ends_apart)
    for round_, reports in ended:
        now = time.monotonic()
        records.append(add_up(round_, reports, now - lap, gone=loop.gone, models_agree=program.models_agree))
        digests.update(digests_of(reports))
        on_round(records)
        lap = time.monotonic()
        observer.round_ends(records[-1])
        is_last = has_ended(records, config)
        if checkpoints and checkpoints.is_due(round_, is_last=is_last):
            checkpoints.save(
                Progress(rounds=tuple(records), digests=digests, gone=tuple(sorted(loop.gone_next)))
            )
            lap = time.monotonic()
        if is_last:
            break
    return RunRecord(
        rounds=tuple(records),
        weights_sha256=digest_of_all(digests),
        elapsed_s=begun.elapsed_s + time.monotonic() - began,
    )
