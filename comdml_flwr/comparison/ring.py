"""Where the agents stand in the picture of a plan: two rings, so that no label meets a line.

Slow agents and those that train alone are on the outer ring, a helper on the inner one, in front of the
agents that it helps. So pairs are short arrows inwards, links are chords, and labels are outside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin

INNER_RADIUS = 0.68
_TWIST = 0.16  # of a step: a link past a helper would else run through it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an agent stands: angle in radians, clockwise from the top, and distance from the centre."""

    angle: float
    radius: float

    @property
    def x(self) -> float:
        """To the right."""
        return self.radius * sin(self.angle)

    @property
    def y(self) -> float:
        """Upwards."""
        return self.radius * cos(self.angle)


def places(pairs: Iterable[tuple[int, int]], alone: Sequence[int]) -> dict[int, Place]:
    """Return the place of each agent; the outer ring is shared out evenly.

    Parameters
    ----------
    pairs : Iterable[tuple[int, int]]
        Slow agent and helper.
    alone : Sequence[int]
        Ids of the agents that train alone.
    """
    helped: dict[int, list[int]] = {}
    for partner, helper in pairs:
        helped.setdefault(helper, []).append(partner)
    groups = [(fast, slow) for fast, slow in sorted(helped.items())]
    outer = [agent for _, slow in groups for agent in slow if agent not in helped] + list(alone)
    step = 2 * pi / max(len(outer), 1)
    found = {agent: Place(angle=index * step, radius=1.0) for index, agent in enumerate(outer)}
    for fast, slow in groups:
        angles = [found[agent].angle for agent in slow if agent in found]
        angle = sum(angles) / len(angles) if angles else 0.0
        found[fast] = Place(angle=angle + _TWIST * step, radius=INNER_RADIUS)
    return found


def spacing(found: dict[int, Place]) -> float:
    """Return how far apart neighbours on a ring are, at least; never more than the rings are apart."""
    gap = 1.0 - INNER_RADIUS
    for radius in (1.0, INNER_RADIUS):
        angles = sorted(place.angle for place in found.values() if place.radius == radius)
        if len(angles) > 1:
            turns = [later - sooner for sooner, later in pairwise([*angles, angles[0] + 2 * pi])]
            gap = min(gap, 2 * radius * sin(min(min(turns), pi) / 2))
    return gap
