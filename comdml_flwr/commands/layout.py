"""Where the agents stand in the picture of a plan: two rings, so that no label meets a line.

Slow agents and those that train alone are on the outer ring, a helper on the inner one, in front of the
agents that it helps. So pairs are short arrows inwards, links are chords, and labels are outside.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin

from comdml_flwr.planning.types import Plan

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


def places(plan: Plan) -> dict[int, Place]:
    """Return the place of each agent of a plan; the outer ring is shared out evenly."""
    helped: dict[int, list[int]] = {}
    for pair in plan.pairs:
        helped.setdefault(pair.fast, []).append(pair.slow)
    groups = [(fast, slow) for fast, slow in sorted(helped.items())]
    outer = [agent for _, slow in groups for agent in slow if agent not in helped] + list(plan.solo)
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
