"""What an agent has measured of itself, which then stands in its profile for what the fleet file says.

Speeds are smoothed over what was observed (`SpeedEstimate`, an exponential moving average). The number of
batches stays that of the data, and the links stay those that the fleet file and the topology have: a pair
that is not to be linked is not measured. A bound on memory in the fleet file holds, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Self

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json, read_float, read_table
from comdml_flwr.planning.types import Cut, Link, Profile, links_from_json, links_to_json, read_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedEstimate:
    """How fast an agent trains, smoothed over what was observed of it.

    Observed is the time of the slow side's batches at the cut that was in use, without what was spent on
    sending. An exponential moving average (EMA) smooths it, and other cuts follow by the ratio of their
    shares, as in DTFL (S. M. Sajjadi Mohammadabadi et al., arXiv 2312.05642):

        time at cut m' = EMA of (time at cut m / a_m) * a_m'

    Parameters
    ----------
    weight : float
        Of the newest observation, in (0, 1]; 1 forgets all others.
    batch_s : float or None
        Smoothed seconds per batch of the whole model; None before the first observation.

    Examples
    --------
    >>> half = Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=0)
    >>> estimate = SpeedEstimate(weight=0.5).observe(20.0, num_batches=10)  # 2 s a batch
    >>> estimate = estimate.observe(20.0, num_batches=10, cut=half)  # as if 4 s a batch
    >>> estimate.batch_s, estimate.slow_side_s(half)
    (3.0, 1.5)
    """

    weight: float = 0.5
    batch_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise InputError("weight", self.weight, "must be in (0, 1]")

    def observe(self, work_s: float, *, num_batches: float, cut: Cut | None = None) -> "SpeedEstimate":
        """Take in how long a number of batches took, on the slow side of a cut or on the whole model."""
        share = 1.0 if cut is None else cut.slow_share
        if not (work_s > 0 and num_batches > 0 and share > 0):
            values = f"{work_s!r} s for {num_batches!r} batches at share {share!r}"
            raise InputError("observed speed", values, "must all be > 0")
        newest_s = work_s / num_batches / share
        old_s = newest_s if self.batch_s is None else self.batch_s
        return replace(self, batch_s=self.weight * newest_s + (1 - self.weight) * old_s)

    @property
    def batches_per_s(self) -> float:
        """The speed on the whole model, as a profile tells it."""
        return 1 / self._known_batch_s()

    def slow_side_s(self, cut: Cut) -> float:
        """Return the expected seconds per batch of the slow side of a cut, observed before or not."""
        return self._known_batch_s() * cut.slow_share

    def fast_side_s(self, cut: Cut) -> float:
        """Return the expected seconds per batch of the fast side of a cut."""
        return self._known_batch_s() * cut.fast_share

    def _known_batch_s(self) -> float:
        if self.batch_s is None:
            raise InputError("observed speed", None, "must be observed once before it is used")
        return self.batch_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measured speed, memory and links of an agent.

    Parameters
    ----------
    speed : SpeedEstimate
        Seconds per batch of the whole model, smoothed.
    memory_bytes : float
        What was free for training; inf where the system does not tell.
    links : Mapping[int, Link]
        By the other agent's id, the same at both ends; of a linked peer that is absent here, the fleet file's
        link holds.

    Examples
    --------
    >>> told = Profile(agent=0, batches_per_s=1, num_batches=6, links={1: Link(bytes_per_s=1e6)})
    >>> fast = Measured(speed=SpeedEstimate(batch_s=0.25), links={1: Link(bytes_per_s=5e5, latency_s=0.01)})
    >>> profile = fast.observe(0.75, num_batches=1).instead_of(told)
    >>> profile.batches_per_s, profile.num_batches, profile.links[1].bytes_per_s
    (2.0, 6, 500000.0)
    """

    speed: SpeedEstimate
    memory_bytes: float = inf
    links: Mapping[int, Link] = field(default_factory=dict)

    def instead_of(self, told: Profile) -> Profile:
        """Return a profile with what was measured in place of what the fleet file tells."""
        links = {peer: self.links.get(peer, link) for peer, link in told.links.items()}
        return replace(
            told,
            batches_per_s=self.speed.batches_per_s,
            memory_bytes=min(told.memory_bytes, self.memory_bytes),
            links=links,
            nic_bytes_per_s=inf,
        )

    def observe(self, work_s: float, *, num_batches: float) -> "Measured":
        """Take in the observed time of a number of batches of the whole model."""
        return replace(self, speed=self.speed.observe(work_s, num_batches=num_batches))

    def observe_link(self, peer: int, num_bytes: int, busy_s: float) -> "Measured":
        """Take in how long `num_bytes` bytes to a peer kept the link busy; of a peer without a link, nothing.

        Smoothed is the time per byte, with the weight that speeds are smoothed with. The peer goes on telling
        what it knows of the link, and the slower value counts: so a link that has become slow is noticed, and
        that it is fast again, up to what was measured first.
        """
        link, weight = self.links.get(peer), self.speed.weight
        if link is None or busy_s <= 0:
            return self
        byte_s = weight * busy_s / num_bytes + (1 - weight) / link.bytes_per_s
        return replace(self, links={**self.links, peer: replace(link, bytes_per_s=1 / byte_s)})

    def to_json(self) -> dict[str, Json]:
        """Return it as a table of plain values; None: no bound."""
        return {
            "batch_s": self.speed.batch_s,
            "memory_bytes": None if self.memory_bytes == inf else self.memory_bytes,
            "links": links_to_json(self.links),
        }

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Return the measurement that `to_json` gave. Raises TypeError where it is something else."""
        table = read_table(told)
        return cls(
            speed=SpeedEstimate(batch_s=read_float(table.get("batch_s"))),
            memory_bytes=read_bound(table.get("memory_bytes")),
            links=links_from_json(table.get("links")),
        )
