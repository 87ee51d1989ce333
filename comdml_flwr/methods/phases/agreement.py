"""What the agents of a round agree on without a leader: the plan, its digest, and what it predicts."""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.clock.simulation import MOST_BATCHES, Workload, batch_sizes
from comdml_flwr.planning.clock.whole_round import Judged, judge, round_clock
from comdml_flwr.planning.hysteresis import Pairing, keep_or_replace, plan_digest
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import Profile

_MOST_TOLD = 1e15  # batches; so that arithmetic with what is told stays finite


def agree(agent: Agent, profiles: tuple[Profile, ...], previous: Pairing) -> tuple[Judged, str]:
    """Find the plan of a round, as far as it pays in the whole round, and its digest.

    Both are the same for all who have the same profiles.

    Agents of one process that ask the same get the same answer without solving it again.

    Parameters
    ----------
    agent : Agent
        Who asks.
    profiles : tuple[Profile, ...]
        Of all who take part, in ascending id.
    previous : Pairing
        Of the last round, for hysteresis.
    """
    config, cuts = agent.setup.config, agent.setup.cuts
    newcomers = agent.setup.newcomers(agent.round)  # as drawn: who has failed may not be known to all yet

    def solve() -> tuple[Judged, str]:
        plan = pair_agents(profiles, cuts, solver=config.solver, time_model=config.time_model)
        if config.hysteresis:
            plan = keep_or_replace(previous, plan, profiles, cuts, threshold=config.hysteresis)
        workload = workload_of(agent.setup, profiles)
        clock = round_clock(profiles, agent.setup.relay, workload, newcomers, config.averaging)
        judged = judge(plan, profiles, cuts, clock)
        return judged, plan_digest(profiles, judged.plan)

    return agent.setup.plans.get((profiles, previous, newcomers), solve)


def workload_of(setup: Setup, profiles: tuple[Profile, ...]) -> Workload:
    """Return what is trained and sent in a round, from the work that the agents tell."""
    size, epochs = setup.config.batch_size, setup.config.local_epochs
    num_samples = {p.agent: round(min(p.num_batches, _MOST_TOLD) * size / epochs) for p in profiles}
    return Workload(
        cuts=setup.cuts,
        batch_size=size,
        batches={
            agent: batch_sizes(number, size, epochs, setup.traits.smallest_batch, MOST_BATCHES)
            for agent, number in num_samples.items()
        },
        num_floats=len(setup.initial_weights_P),
        fast_floats=setup.fast_floats,
        head_floats=ByCut(len(head) for _, head in sorted(setup.initial_aux_heads.items())),
    )


def forecast(judged: Judged) -> dict[str, Json]:
    """What the plan and a round without offload would take: one agent tells it for all."""
    return {
        "predicted_s": judged.plan.makespan_s,
        "lower_bound_s": judged.plan.lower_bound_s,
        "no_offload_makespan_s": judged.plan.solo_makespan_s,
        "no_offload_virtual_time_s": judged.no_offload.virtual_time_s,
    }
