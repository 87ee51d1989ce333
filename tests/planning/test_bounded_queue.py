"""A queue of two batches between a slow agent and its helper: by how much it can delay the end of a pair.

A law about an end is easily true of the examples that a test draws and false of others. So besides drawn
examples there is a search that breeds bad ones: thousands of pairs at once, the worst of which are changed a
little, again and again.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from comdml_flwr.planning.bounded_queue import QUEUE_BATCHES
from comdml_flwr.planning.costs import pair_finish_s
from comdml_flwr.planning.types import Cut, Link, Profile

Floats = NDArray[np.float64]
NUM_PAIRS, NUM_GENERATIONS, NUM_KEPT = 6_000, 12, 300
MOST_BATCHES = 60
NAMES = ("num", "num_own", "slow_s", "transfer_s", "fast_s", "own_s", "latency_s")


@dataclass(frozen=True)
class Pairs:
    """Pairs as arrays [P]: batches of partner and helper, seconds per batch (`own_s`: of the helper's)."""

    num: Floats
    num_own: Floats
    slow_s: Floats
    transfer_s: Floats
    fast_s: Floats
    own_s: Floats
    latency_s: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, num_pairs: int) -> "Pairs":
        num, num_own = rng.integers(1, MOST_BATCHES, (2, num_pairs)).astype(float)
        latency_s = rng.uniform(0, 30, num_pairs) * rng.integers(0, 2, num_pairs)
        return cls(num, num_own, *np.exp(rng.uniform(-3, 2, (4, num_pairs))), latency_s)

    def bred(self, rng: np.random.Generator, parents: NDArray[np.intp], num_pairs: int) -> "Pairs":
        """Return these parents, and children that differ a little from one of them each."""
        chosen = np.concatenate([parents, rng.choice(parents, num_pairs - len(parents))])
        values = [getattr(self, name)[chosen] for name in NAMES]
        changed = rng.random((len(NAMES), num_pairs)) < 0.4
        changed[:, : len(parents)] = False
        for place, value in enumerate(values):
            if place < 2:
                new = np.clip(value + rng.integers(-3, 4, num_pairs), 1, MOST_BATCHES)
            else:
                new = value * np.exp(rng.normal(0, 0.2, num_pairs))
            values[place] = np.where(changed[place], new, value)
        return Pairs(*values)

    def end_s(self, queue: int = QUEUE_BATCHES) -> Floats:
        """Play both agents and their link, batch by batch.

        The slow side keeps a batch until the link takes it, which it does when there is room at the helper.
        The helper trains its partner's batches first, and its own while none is there.
        """
        made = link_free = now_s = np.zeros(len(self.num))
        left, starts = self.num_own, []
        for k in range(int(self.num.max())):
            room = starts[k - queue] if k >= queue else np.zeros(len(self.num))
            taken = np.maximum.reduce([made + self.slow_s, link_free, room - self.latency_s])
            link_free = taken + self.transfer_s
            there = link_free + self.latency_s
            own = np.minimum(left, np.ceil(np.maximum(there - now_s, 0) / self.own_s))
            begins = np.maximum(now_s + own * self.own_s, there)
            exists = k < self.num
            starts.append(begins)
            made = np.where(exists, taken, made)
            left = np.where(exists, left - own, left)
            now_s = np.where(exists, begins + self.fast_s, now_s)
        end_s: Floats = now_s + left * self.own_s
        return end_s

    def tau_s(self) -> Floats:
        """Return what the time model "pipeline" says."""
        feed_s = np.maximum(self.slow_s, self.transfer_s)
        fill_s = self.slow_s + self.transfer_s + self.latency_s
        work_s = self.num * self.fast_s
        ends = (
            self.num * self.slow_s,
            self.num_own * self.own_s + work_s,
            fill_s + work_s,
            fill_s + (self.num - 1) * feed_s + self.fast_s,
        )
        tau_s: Floats = np.maximum.reduce(ends)
        return tau_s

    def delay_s(self, queue: int = QUEUE_BATCHES) -> Floats:
        """Return the most that the queue delays the end, as derived in planning/bounded_queue.py."""
        feed_s = np.maximum(self.slow_s, self.transfer_s)
        waits_s = self.num_own * np.maximum(0, self.own_s + self.transfer_s - queue * feed_s)
        left_s = (self.num - queue - 1) * (feed_s - self.fast_s) + self.transfer_s - queue * self.fast_s
        delay_s: Floats = np.where(self.fast_s < feed_s, np.maximum(0, np.minimum(waits_s, left_s)), 0.0)
        return delay_s


def breed(rng: np.random.Generator, queue: int = QUEUE_BATCHES) -> tuple[float, float]:
    """Search for pairs that break the law; return the worst breach, per tau, and delay, in own batches."""
    pairs, worst, largest = Pairs.draw(rng, NUM_PAIRS), -np.inf, -np.inf
    for generation in range(NUM_GENERATIONS):
        tau_s, delay_s = pairs.tau_s(), pairs.delay_s(queue)
        late_s = pairs.end_s(queue) - tau_s
        worst = max(worst, ((late_s - delay_s) / tau_s).max())
        largest = max(largest, (late_s / pairs.own_s).max())
        fitness = (late_s - delay_s * (generation % 2)) / pairs.own_s  # late; late for the law
        pairs = pairs.bred(rng, np.argsort(fitness)[-NUM_KEPT:], NUM_PAIRS)
    return worst, largest


@pytest.mark.parametrize("queue", [1, QUEUE_BATCHES, 5])
def test_no_search_finds_a_pair_that_is_later_than_the_queue_explains(queue: int) -> None:
    worst, largest = breed(np.random.default_rng(queue), queue)
    assert worst < 1e-9
    assert largest > 1, "the search finds pairs that the queue delays by more than a batch"


SECONDS = st.floats(0.01, 10)


@given(
    st.integers(1, MOST_BATCHES),
    st.integers(1, MOST_BATCHES),
    SECONDS,
    SECONDS,
    SECONDS,
    SECONDS,
    st.floats(0, 20),
    st.integers(1, 9),
)
def test_a_queue_delays_a_pair_by_no_more_than_the_law_says(
    num: int,
    num_own: int,
    slow_s: float,
    transfer_s: float,
    fast_s: float,
    own_s: float,
    latency_s: float,
    queue: int,
) -> None:
    pair = one_pair(num, num_own, slow_s, transfer_s, fast_s, own_s, latency_s)
    late_s = pair.end_s(queue) - predicted_s(pair)
    assert late_s <= pair.delay_s(queue) + 1e-9


@given(st.integers(1, MOST_BATCHES), st.integers(1, MOST_BATCHES), SECONDS, SECONDS, SECONDS, SECONDS)
def test_a_queue_that_holds_what_comes_during_an_own_batch_delays_nothing(
    num: int, num_own: int, slow_s: float, transfer_s: float, fast_s: float, own_s: float
) -> None:
    pair = one_pair(num, num_own, slow_s, transfer_s, fast_s, own_s)
    queue = max(1, int(np.ceil((own_s + transfer_s) / max(slow_s, transfer_s))))
    assert pair.end_s(queue) == pytest.approx(pair.tau_s(), rel=1e-9)


def test_a_queue_of_two_may_delay_a_pair_by_several_batches_of_the_helper() -> None:
    # own batches of 6 s, in each of which 2 of the partner's come in, in 2 s, and the third waits for 4 s
    pair = one_pair(40, 5, slow_s=1, transfer_s=1, fast_s=0.25, own_s=6)
    assert pair.tau_s() == 1 + 1 + 39 + 0.25
    assert pair.end_s() - pair.tau_s() > 3 * 6
    assert pair.end_s() - pair.tau_s() <= pair.delay_s()


def test_what_is_played_is_told_of_the_pair_that_is_planned() -> None:
    pairs = Pairs.draw(np.random.default_rng(0), 40)
    for place, tau_s in enumerate(pairs.tau_s()):
        pair = Pairs(*(getattr(pairs, name)[[place]] for name in NAMES))
        assert predicted_s(pair) == pytest.approx(tau_s, rel=1e-12)


def one_pair(
    num: int,
    num_own: int,
    slow_s: float,
    transfer_s: float,
    fast_s: float,
    own_s: float,
    latency_s: float = 0.0,
) -> Pairs:
    values = (num, num_own, slow_s, transfer_s, fast_s, own_s, latency_s)
    return Pairs(*(np.array([float(value)]) for value in values))


def predicted_s(pair: Pairs) -> float:
    """Return what the planner says of a pair."""
    num, num_own, slow_s, transfer_s, fast_s, own_s, latency_s = (
        float(getattr(pair, name)[0]) for name in NAMES
    )
    link = Link(bytes_per_s=1, latency_s=latency_s)
    profiles = [
        Profile(agent=0, batches_per_s=1 / own_s, num_batches=num_own, links={1: link}),
        Profile(agent=1, batches_per_s=1, num_batches=num, links={0: link}),
    ]
    cut = Cut(slow_share=slow_s, fast_share=fast_s / own_s, bytes_per_batch=transfer_s)
    return float(pair_finish_s(profiles, (cut,), "pipeline")[1, 0, 0])
