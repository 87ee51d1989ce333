"""How fast an agent trains, by the stopwatch, on its own data and the run's own model.

It trains in modules that nothing else sees and draws nothing from the global random state, so that a run that
was measured gives the same bits as one that was not.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.structure import Nested


def seconds_per_batch(setup: Setup, agent: int, num_batches: int = 3) -> float:
    """Measure how long an agent takes to train the whole model on one full batch of its own data.

    One batch warms up. What is timed is what training does for a batch: gathering its samples, preparing
    them as the task asks for it, and the optimizer's step; with the run's number of threads.

    Parameters
    ----------
    setup : Setup
        Of the run; as it was, afterwards.
    agent : int
        Whose data; no server's id. Who has less than a batch trains some of its samples twice.
    num_batches : int
        How many are timed, at least 1; the result is their median.

    Returns
    -------
    float
        Seconds per batch, measured.
    """
    if num_batches < 1:
        raise InputError("num_batches", num_batches, "must be at least 1")
    return statistics.median(_time_batches(setup, agent, lambda times_s: len(times_s) == num_batches))


def sustained_seconds_per_batch(setup: Setup, agent: int, least_s: float = 1.0) -> float:
    """Measure the same as a mean over a while, for machines that do not run all the time.

    A container with half a core runs for 50 ms and stands for 50: short batches then come at two speeds, and
    the median is one of them. `least_s` is how long it is looked at, and at least three batches.
    """
    times_s = _time_batches(setup, agent, lambda times_s: len(times_s) >= 3 and sum(times_s) >= least_s)
    return statistics.fmean(times_s)


def _time_batches(setup: Setup, agent: int, is_enough: Callable[[Sequence[float]], bool]) -> list[float]:
    """Train until it is enough; return each batch's time but the first one's, which warms up."""
    training_data = setup.data(agent).train
    places_N = torch.arange(setup.config.batch_size) % len(training_data)
    generator = torch.Generator().manual_seed(0)
    setup.device.make_deterministic(setup.config.threads_per_agent)
    times_s: list[float] = []

    def batch() -> tuple[Nested, Nested]:
        x, targets_N = training_data.batch(places_N)
        return setup.task.prepare(x, generator), targets_N

    with global_generator(0, setup.device.generators):  # layers of one's own model may draw
        learner = setup.learners.whole_apart().begin(setup.initial_weights_P)
        learner.step(*batch())
        while not is_enough(times_s):
            setup.device.synchronize()
            began = time.perf_counter()
            learner.step(*batch())
            setup.device.synchronize()
            times_s.append(time.perf_counter() - began)
    return times_s
