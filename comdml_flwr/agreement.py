"""What the agents of a round agree on without a leader: the plan, its digest, and what it foretells."""

import hashlib
import json
from math import isfinite

from comdml_flwr.agent import Agent
from comdml_flwr.messages import Json
from comdml_flwr.planning.clock import shard_bounds
from comdml_flwr.planning.hysteresis import Pairing, keep_or_replace
from comdml_flwr.planning.no_offload import no_offload_mixing_round_s, no_offload_round_s
from comdml_flwr.planning.pairing import pair_agents
from comdml_flwr.planning.types import Plan, Profile

_BOUNDS = ("memory_bytes", "nic_bytes_per_s")


def agree(agent: Agent, profiles: tuple[Profile, ...], previous: Pairing) -> tuple[Plan, str]:
    """Find the plan of a round, and its digest; the same for all who have the same profiles.

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

    def solve() -> tuple[Plan, str]:
        plan = pair_agents(profiles, cuts, solver=config.solver, time_model=config.time_model)
        if config.hysteresis:
            plan = keep_or_replace(previous, plan, profiles, cuts, threshold=config.hysteresis)
        return plan, plan_digest(profiles, plan)

    return agent.setup.plans.answer((profiles, previous), solve)


def plan_digest(profiles: tuple[Profile, ...], plan: Plan) -> str:
    """Return a digest of what the agents must agree on: profiles, solver, and pairs with their cuts."""
    text = json.dumps(
        {
            "profiles": [
                [p.agent, p.batches_per_s, p.num_batches]
                + [[name, getattr(p, name)] for name in _BOUNDS if isfinite(getattr(p, name))]
                + [[peer, link.bytes_per_s, link.latency_s] for peer, link in sorted(p.links.items())]
                for p in profiles
            ],
            "solver": [plan.solver, plan.time_model],
            "pairs": [[pair.slow, pair.fast, pair.cut] for pair in plan.pairs],
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def forecast(agent: Agent, profiles: tuple[Profile, ...], plan: Plan) -> dict[str, Json]:
    """What the plan and a round without offload would take: one agent tells it for all."""
    model_bytes = agent.weights_P.element_size() * len(agent.weights_P)
    relay, newcomers = agent.setup.relay, agent.newcomers
    if agent.setup.config.averaging == "mixing":
        alone_s = no_offload_mixing_round_s(profiles, model_bytes, relay, newcomers)
    else:
        bounds = shard_bounds(len(agent.weights_P), len(profiles))
        shard_bytes = [agent.weights_P.element_size() * (stop - start) for start, stop in bounds]
        alone_s = no_offload_round_s(profiles, shard_bytes, relay, newcomers)
    return {
        "predicted_s": plan.makespan_s,
        "lower_bound_s": plan.lower_bound_s,
        "no_offload_makespan_s": plan.solo_makespan_s,
        "no_offload_virtual_time_s": alone_s,
    }
