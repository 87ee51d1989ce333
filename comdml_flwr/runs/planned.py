"""Plan for a fleet file: what the planner needs of it, and which pairs of a plan pay in the whole round."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comdml_flwr.agents.setup import Setup
    from comdml_flwr.planning.clock.simulation import Workload
    from comdml_flwr.planning.clock.whole_round import Judged
    from comdml_flwr.planning.fleet.fleet import Fleet
    from comdml_flwr.planning.types import CutTable, Link, Pair, Plan, Profile

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A fleet as the planner sees it.

    Parameters
    ----------
    profiles, cuts
        What `pair_agents` takes.
    relay : Link
        What stands in where there is no direct link.
    workload : Workload or None
        What a round trains and sends; None where the size of the model is not known.
    averaging : str
        "allreduce" or "mixing".
    """

    profiles: "tuple[Profile, ...]"
    cuts: "CutTable"
    relay: "Link"
    workload: "Workload | None"
    averaging: str = "allreduce"

    @classmethod
    def of(cls, fleet: "Fleet") -> "Planned":
        """Prepare a fleet; torch is loaded only to count a [model]'s FLOPs."""
        if fleet.cuts is not None:
            return cls(profiles=fleet.profiles(), cuts=fleet.cuts, relay=fleet.relay, workload=None)
        from comdml_flwr.planning.clock.simulation import MOST_BATCHES
        from comdml_flwr.runs.model_costs import model_costs, workload_of

        costs = model_costs(fleet)
        profiles = fleet.profiles(batch_flops=costs.batch_flops)
        workload = workload_of(fleet, costs, most=MOST_BATCHES)
        return cls(profiles=profiles, cuts=costs.cuts, relay=fleet.relay, workload=workload)

    @classmethod
    def of_run(cls, setup: "Setup") -> "Planned":
        """Prepare the first round of a run, with the model, the data and the local epochs of its own."""
        from comdml_flwr.methods.phases.agreement import workload_of

        at_first = setup.profiles_at(1)
        profiles = tuple(at_first[agent] for agent in setup.ids)
        workload = workload_of(setup, profiles)
        return cls(
            profiles=profiles,
            cuts=setup.cuts,
            relay=setup.relay,
            workload=workload,
            averaging=setup.config.averaging,
        )

    def judge(self, plan: "Plan") -> "Judged | None":
        """Return what of a plan pays in the whole round, as a run decides it.

        None where that is not known: see `workload`; and a run has no helpers with several partners.
        """
        from comdml_flwr.planning.clock.whole_round import judge, round_clock

        if self.workload is None or plan.solver == "shared":
            return None
        agents = sorted(self.profiles, key=lambda profile: profile.agent)
        clock = round_clock(agents, self.relay, self.workload, averaging=self.averaging)
        return judge(plan, agents, self.cuts, clock)


def plan(fleet: "Fleet | Path | str", *, solver: str = "exact", time_model: str = "pipeline") -> "Plan":
    """Return who helps whom at which cut, as `comdml plan` does.

    Parameters
    ----------
    fleet : Fleet, Path or str
        A fleet, its file, or the name of a preset.
    solver : str
        "exact", "greedy" or "shared"; see planning/pairing.py.
    time_model : str
        "pipeline", or "overlap" for the formula as published.

    Returns
    -------
    Plan
        With a [model], without the pairs that would make the whole round longer, averaging included.

    Raises
    ------
    InputError
        The file is wrong, or lacks what the planner needs.

    Examples
    --------
    >>> found = plan("ten")
    >>> [(pair.slow, pair.fast, pair.cut) for pair in found.pairs]
    [(3, 1, 5), (4, 0, 7), (8, 6, 5), (9, 5, 7)]
    """
    from comdml_flwr.planning.fleet.fleet_file import load_fleet
    from comdml_flwr.planning.pairing import pair_agents

    read = load_fleet(Path(fleet)) if isinstance(fleet, str | Path) else fleet
    planned = Planned.of(read)
    found = pair_agents(planned.profiles, planned.cuts, solver=solver, time_model=time_model)
    judged = planned.judge(found)
    return judged.plan if judged else found


def dropped_pairs(pairs: "Sequence[Pair]") -> str:
    """Say that these pairs are not worth it."""
    names = [f"{pair.slow} -> {pair.fast}" for pair in pairs[:_SHOWN]]
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return f"left out, as the whole round would take longer with them: {', '.join(names)}{more}"
