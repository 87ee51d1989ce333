"""A run without training: plans and the virtual clock only, with and without hysteresis.

The model or the cuts, the batch size and the samples are those of the fleet file; no data set is read, and
with [[cuts]] torch is not loaded. The rounds are simulated by planning/clock/simulation.py, not run on a
carrier: 100 agents that introduce themselves to each other and all make the plan would take minutes for 200
rounds. The times are those of a run with the same profiles, to the bit. With [[cuts]] the model's size is not
known, so averaging takes no time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.clock.simulation import Workload, batch_sizes
from comdml_flwr.planning.clock.whole_round import Judged, RoundClock, judge, round_clock
from comdml_flwr.planning.fleet.dynamics import fleet_at, unchanged_since
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.planning.fleet.profiles import edges_of, has_edge
from comdml_flwr.planning.hysteresis import (
    Pairing,
    keep_or_replace,
    latest_pairing,
    num_new_pairs,
    pairing_of,
)
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.participation import draw_participants, newcomers_after
from comdml_flwr.planning.types import Plan, Profile

METHODS = ("comdml", "allreduce")
NO_SOLVER = "none"  # of AllReduce, which plans nothing: it has no times without offload
MAX_BATCHES = 1e6  # of an agent in a round: each is walked through


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRound:
    """Outcome of a round, as a line of `rounds.jsonl`; all times are modelled.

    Names are those of `RoundRecord`; `num_new_pairs` counts pairs that were not there in the round before.
    """

    round: int
    virtual_time_s: float
    makespan_s: float
    predicted_s: float
    no_offload_virtual_time_s: float | None
    no_offload_makespan_s: float | None
    bytes_sent: int
    num_agents: int
    num_new_pairs: int
    plan: Mapping[str, Json]

    def as_json(self) -> dict[str, Json]:
        """Return a line of `rounds.jsonl`."""
        return asdict(self)


class DryRun:
    """A run's fleet, round by round.

    Parameters
    ----------
    fleet : Fleet
        With [model] or [[cuts]], and each agent's work.
    config : RunConfig
        Rounds, seed, participation, solver, time model, local epochs (with [model]) and method.
    num_agents : int
        How many agents take part: those with the lowest ids.

    Raises
    ------
    InputError
        The file lacks something, the method is not known, or there is too much to walk through.
    """

    def __init__(self, fleet: Fleet, config: RunConfig, num_agents: int) -> None:
        if config.method not in METHODS:
            raise InputError("method", config.method, f"must be one of {', '.join(METHODS)} for a dry run")
        if config.averaging != "allreduce":
            raise InputError("averaging", config.averaging, "must be allreduce for a dry run")
        self._fleet, self._config = fleet, config
        self.ids = tuple(sorted(agent.id for agent in fleet.agents))[:num_agents]
        if len(self.ids) < num_agents:
            raise InputError("fleet", fleet.source, f"has {len(self.ids)} agents, fewer than {num_agents}")
        self._edges = edges_of(config, self.ids)
        self._batch_flops, self.workload = _workload(fleet, config)
        self._profiles_since = lru_cache(maxsize=2)(self._profiles)

    def profiles(self, round_: int) -> Mapping[int, Profile]:
        """Return the profiles of all agents in a round."""
        return self._profiles_since(unchanged_since(self._fleet, round_))

    def present(self, round_: int) -> tuple[int, ...]:
        """Return who takes part in a round."""
        config = self._config
        return draw_participants(
            self.ids, config.participation, config.seed, round_, self._fleet.availability
        )

    def rounds(self, thresholds: Sequence[float]) -> dict[float, list[DryRound]]:
        """Simulate all rounds for each threshold of hysteresis; the solver is asked once a round."""
        found: dict[float, list[DryRound]] = {threshold: [] for threshold in thresholds}
        known: dict[float, dict[int, Pairing]] = {threshold: {} for threshold in thresholds}
        last = {threshold: Pairing() for threshold in thresholds}
        asked: tuple[object, Plan, RoundClock] | None = None
        for round_ in range(1, self._config.num_rounds + 1):
            present, table = self.present(round_), self.profiles(round_)
            profiles = tuple(table[agent] for agent in present)
            newcomers = newcomers_after(round_, self._config.num_rounds, self.present)
            if asked is None or asked[0] != (profiles, newcomers):
                clock = round_clock(profiles, self._fleet.relay, self.workload, newcomers)
                asked = (profiles, newcomers), self._best(profiles), cache(clock)
            _, best, clock = asked
            for threshold in thresholds:
                plan = self._plan(threshold, known[threshold], profiles, best)
                judged = judge(plan, profiles, self.workload.cuts, clock)
                pairing = pairing_of(judged.plan, round_)
                known[threshold] |= dict.fromkeys(present, pairing)
                num_new = num_new_pairs(pairing, last[threshold])
                found[threshold].append(_dry_round(round_, judged, num_new, len(present)))
                last[threshold] = pairing
        return found

    def _best(self, profiles: tuple[Profile, ...]) -> Plan:
        config = self._config
        plan = pair_agents(profiles, self.workload.cuts, solver=config.solver, time_model=config.time_model)
        if config.method == "comdml":
            return plan
        ids = tuple(profile.agent for profile in profiles)
        return replace(plan, solver=NO_SOLVER, pairs=(), solo=ids, makespan_s=plan.solo_makespan_s)

    def _plan(
        self, threshold: float, known: Mapping[int, Pairing], profiles: tuple[Profile, ...], best: Plan
    ) -> Plan:
        previous = latest_pairing(known.get(profile.agent, Pairing()) for profile in profiles)
        return keep_or_replace(previous, best, profiles, self.workload.cuts, threshold=threshold)

    def _profiles(self, round_: int) -> Mapping[int, Profile]:
        fleet = fleet_at(self._fleet, self._config.seed, round_)
        profiles = {p.agent: self._linked(p) for p in fleet.profiles(batch_flops=self._batch_flops)}
        if fleet.cuts is not None:
            return profiles
        work = {agent.id: agent.num_samples or 0 for agent in fleet.agents}
        epochs, size = self._config.local_epochs, self.workload.batch_size
        return {a: replace(p, num_batches=work[a] * epochs / size) for a, p in profiles.items()}

    def _linked(self, profile: Profile) -> Profile:
        links = {
            peer: link for peer, link in profile.links.items() if has_edge(self._edges, profile.agent, peer)
        }
        return replace(profile, links=links)


def _workload(fleet: Fleet, config: RunConfig) -> tuple[float | None, Workload]:
    if fleet.cuts is not None:
        unknown = ByCut([0] * len(fleet.cuts))
        profiles = fleet.profiles()
        for profile in profiles:
            _check_batches(profile.num_batches // 1, 1)
        return None, Workload(
            cuts=fleet.cuts,
            batch_size=1,
            batches={profile.agent: batch_sizes(profile.num_batches, 1, 1) for profile in profiles},
            num_floats=0,
            fast_floats=unknown,
            head_floats=unknown,
        )
    from comdml_flwr.runs.assemble import codec_of  # imports torch, to count the model's FLOPs
    from comdml_flwr.runs.model_costs import model_costs, workload_of

    costs = model_costs(fleet, codec_of(config), config.aux_head)
    assert fleet.model is not None, "model_costs found one"
    fleet.profiles(batch_flops=costs.batch_flops)  # says what the file lacks
    for agent in fleet.agents:
        _check_batches((agent.num_samples or 0) // fleet.model.batch_size, config.local_epochs)
    return costs.batch_flops, workload_of(fleet, costs, config.local_epochs)


def _check_batches(num_full: float, num_epochs: int) -> None:
    if (num_full + 1) * num_epochs > MAX_BATCHES:
        value = int(num_full * num_epochs)
        raise InputError("batches of an agent", value, f"must be below {MAX_BATCHES:g} here")


def _dry_round(round_: int, judged: Judged, num_new: int, num_agents: int) -> DryRound:
    plan, times, alone = judged.plan, judged.times, judged.no_offload
    return DryRound(
        round=round_,
        virtual_time_s=times.virtual_time_s,
        makespan_s=times.makespan_s,
        predicted_s=plan.makespan_s if plan.solver != NO_SOLVER else times.makespan_s,
        no_offload_virtual_time_s=alone.virtual_time_s if plan.solver != NO_SOLVER else None,
        no_offload_makespan_s=plan.solo_makespan_s if plan.solver != NO_SOLVER else None,
        bytes_sent=times.bytes_sent,
        num_agents=num_agents,
        num_new_pairs=num_new,
        plan={"pairs": [pair.to_json() for pair in plan.pairs], "solo": list(plan.solo)},
    )


def summarize_dry(rounds: Sequence[DryRound], threshold: float) -> dict[str, Json]:
    """Return the outcome of the rounds of one threshold; the first plan is no re-pairing."""
    later = rounds[1:]
    return {
        "hysteresis": threshold,
        "virtual_time_s": sum(r.virtual_time_s for r in rounds),
        "no_offload_virtual_time_s": _total([r.no_offload_virtual_time_s for r in rounds]),
        "virtual_training_s": sum(r.makespan_s for r in rounds),
        "no_offload_virtual_training_s": _total([r.no_offload_makespan_s for r in rounds]),
        "predicted_s": sum(r.predicted_s for r in rounds),
        "bytes_sent": sum(r.bytes_sent for r in rounds),
        "num_rounds_with_new_pairs": sum(r.num_new_pairs > 0 for r in later),
        "num_new_pairs": sum(r.num_new_pairs for r in later),
    }


def _total(times_s: Sequence[float | None]) -> float | None:
    known_s = [time_s for time_s in times_s if time_s is not None]
    return sum(known_s) if len(known_s) == len(times_s) else None
