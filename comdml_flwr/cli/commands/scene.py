"""What the picture of a plan shows and at which size and colour; the lengths are in points, 1/72 inch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

from comdml_flwr.comparison.ring import Place, places, spacing
from comdml_flwr.planning.types import Plan, Profile

Colour = tuple[float, float, float, float]

_CROWD = 14  # with more agents on the outer ring, labels are turned outwards
_LEGEND_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A plan with the places of its agents.

    Parameters
    ----------
    plan : Plan
        What is drawn.
    speeds, solo_s : Mapping[int, float]
        Of each agent: batches/s of the whole model, and seconds without offload.
    links : Mapping[tuple[int, int], float]
        Bandwidth in bytes/s of each pair that is linked, the smaller id first.
    speed_range, rate_range : tuple[float, float]
        Smallest and largest speed and bandwidth.
    where : Mapping[int, Place]
        Of each agent.
    last : frozenset[int]
        Who sets the makespan: slow agents of pairs, and agents that train alone.
    gap : float
        How far apart neighbours are, in units of the outer ring's radius.
    reach : float
        The picture shows -reach .. reach, in the same units.
    points : float
        One unit in points.
    is_crowded : bool
        Whether labels must be turned to have room.
    """

    plan: Plan
    speeds: Mapping[int, float]
    solo_s: Mapping[int, float]
    links: Mapping[tuple[int, int], float]
    speed_range: tuple[float, float]
    rate_range: tuple[float, float]
    where: Mapping[int, Place]
    last: frozenset[int]
    gap: float
    reach: float
    points: float
    is_crowded: bool

    @classmethod
    def of(cls, plan: Plan, profiles: Sequence[Profile], *, side_points: float) -> "Scene":
        """Lay out a plan on a square of this size."""
        where = places([(pair.slow, pair.fast) for pair in plan.pairs], plan.solo)
        is_crowded = sum(place.radius == 1 for place in where.values()) > _CROWD
        reach = 1.5 if is_crowded else 1.34
        agents = sorted(profiles, key=lambda profile: profile.agent)
        speeds = {profile.agent: profile.batches_per_s for profile in agents}
        links = _links(agents)
        rates = links.values() or (1.0,)
        return cls(
            plan=plan,
            speeds=speeds,
            solo_s={profile.agent: profile.solo_s for profile in agents},
            links=links,
            speed_range=(min(speeds.values()), max(speeds.values())),
            rate_range=(min(rates), max(rates)),
            where=where,
            last=_last(plan, agents),
            gap=spacing(where),
            reach=reach,
            points=side_points / (2 * reach),
            is_crowded=is_crowded,
        )

    def xy(self, agent: int) -> tuple[float, float]:
        """Return where an agent stands."""
        return self.where[agent].x, self.where[agent].y

    def agent_size(self, agent: int) -> float:
        """Return an agent's diameter."""
        return self._largest * self._relative_size(self.speeds[agent])

    def legend_size(self, speed: float) -> float:
        """Return the diameter of an agent of this speed in the legend."""
        return min(17.0, self._largest) * self._relative_size(speed)

    def agent_colour(self, agent: int) -> Colour:
        """Return an agent's colour."""
        return self.colour_of(self.speeds[agent])

    def colour_of(self, speed: float) -> Colour:
        """Return the colour of an agent of this speed."""
        return _map_colour("YlGnBu", 0.25 + 0.65 * _share(speed, self.speed_range))

    def link_colour(self, rate: float) -> Colour:
        """Return the colour of a link of this bandwidth; the more links, the less opaque."""
        share = _share(rate, self.rate_range)
        opacity = min(0.9, 6 / sqrt(len(self.links))) * (0.4 + 0.6 * share)
        return (*_map_colour("Greys", 0.3 + 0.4 * share)[:3], opacity)

    def link_width(self, rate: float) -> float:
        """Return the width of a link of this bandwidth."""
        return 0.6 + 1.3 * _share(rate, self.rate_range)

    @property
    def id_size(self) -> float:
        """Size of the text in an agent."""
        return min(11.0, 0.36 * self._largest)

    @property
    def label_size(self) -> float:
        """Size of the text beside an agent."""
        return min(8.6 if self.is_crowded else 10.0, 0.6 * self.points * self.gap)

    @property
    def _largest(self) -> float:
        return min(38.0, 0.85 * self.points * self.gap)

    def _relative_size(self, speed: float) -> float:
        return 0.58 + 0.42 * _share(speed, self.speed_range)


def some(values: Iterable[float]) -> list[float]:
    """Return the values that a legend shows, the largest first."""
    known = sorted(set(values), reverse=True)
    if len(known) <= _LEGEND_ROWS:
        return known
    return [known[round((len(known) - 1) * row / (_LEGEND_ROWS - 1))] for row in range(_LEGEND_ROWS)]


def _share(value: float, limits: tuple[float, float]) -> float:
    """Return where a value lies between two limits, 0..1, on a logarithmic scale."""
    low, high = log(limits[0]), log(limits[1])
    return (log(value) - low) / (high - low) if high > low else 0.5


def _map_colour(name: str, share: float) -> Colour:
    from matplotlib import colormaps

    red, green, blue, opacity = colormaps[name](share)
    return float(red), float(green), float(blue), float(opacity)


def _links(profiles: Sequence[Profile]) -> dict[tuple[int, int], float]:
    """Where two agents tell different things of their link, the slower value counts, as in costs.py."""
    by_id = {profile.agent: profile for profile in profiles}
    links: dict[tuple[int, int], float] = {}
    for one in profiles:
        for agent, link in sorted(one.links.items()):
            back = by_id[agent].links.get(one.agent) if agent in by_id else None
            rate = min(link.bytes_per_s, back.bytes_per_s) if back else 0.0
            if one.agent < agent and rate > 0:
                links[one.agent, agent] = rate
    return links


def _last(plan: Plan, profiles: Sequence[Profile]) -> frozenset[int]:
    late = {pair.slow for pair in plan.pairs if pair.finish_s == plan.makespan_s}
    alone = {profile.agent for profile in profiles if profile.solo_s == plan.makespan_s} & set(plan.solo)
    return frozenset(late | alone)
