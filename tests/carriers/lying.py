"""What becomes of the honest when one member lies, on the simulated carrier."""

from dataclasses import dataclass, field
from functools import cache

import pytest
import torch

from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.simulated import carrier as simulated
from comdml_flwr.carriers.simulated.carrier import SimulatedCarrier
from comdml_flwr.carriers.simulated.history import History
from comdml_flwr.carriers.simulated.turns import NoEndError
from comdml_flwr.runs.assemble import participants_of, program_of
from tests.carriers.simulation import tiny_setup

NUM_ROUNDS = 3
LIMIT_S = 150.0  # ten times what a run with a fault takes
HISTORY = History(seed=1, step_s=(0.1, 0.3))


@dataclass(kw_only=True)
class Outcome:
    """How a run with a liar went, for the honest."""

    dead: dict[int, str] = field(default_factory=dict)  # honest agents whose rounds ended with an error
    lost: int = 0  # rounds that an honest agent missed, or did not commit, at most
    differ: int = 0  # rounds that two honest agents committed with different models
    distance: float = 0.0  # of the last model from that without a lie, in the spread of what was trained
    distrusted: frozenset[int] = frozenset()  # whose word some honest agent left out
    gone: frozenset[int] = frozenset()  # who was missing in a round of some honest agent
    took_s: float = 0.0  # in virtual time
    hangs: bool = False


def setup_of(method):
    """Return the set-up of a run with a liar."""
    return tiny_setup(method, num_rounds=NUM_ROUNDS)


@cache
def honest_run(method):
    """Return the model of a run without a lie, the spread of what was trained, its time and who was named."""
    setup, trained = setup_of(method), []

    def run(agent, program, steps, inbox, absence):
        done = run_steps(agent, program, steps, inbox, absence)
        if "own/body" in agent.tensors:
            trained.append((len(agent.tensors["own/body"]), agent.tensors["own/body"].clone(), agent.round))
        return done

    carrier = SimulatedCarrier(participants_of(setup), program_of(setup), run_steps=run)
    parts = carrier.run(1, NUM_ROUNDS, HISTORY)
    named = frozenset(
        agent
        for part in parts.values()
        for report in part.reports.values()
        for agent in (*report.get("distrusted", ()), *report["gone"])
    )
    model = carrier.agents[0].weights_P
    spread = max(float((x - model[:n]).abs().max()) for n, x, number in trained if number == NUM_ROUNDS)
    return model, spread, carrier.now_s, named


def run_with(lie):
    """Run with one member that lies; return the outcome for the others."""
    setup, outcome = setup_of(lie.method), Outcome()
    carrier = SimulatedCarrier(participants_of(setup), program_of(setup), lies={lie.liar: lie.begin()})
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulated, "LIMIT_S", LIMIT_S)
            parts = carrier.run(1, NUM_ROUNDS, HISTORY)
    except NoEndError:
        outcome.hangs = True
        return outcome
    honest = {agent: part for agent, part in parts.items() if agent != lie.liar}
    outcome.took_s = carrier.now_s
    outcome.dead = {agent: repr(part.error) for agent, part in honest.items() if part.error}
    for number in range(1, NUM_ROUNDS + 1):
        told = [part.reports[number] for part in honest.values() if number in part.reports]
        outcome.differ += len({report["weights_sha256"] for report in told}) > 1
    for part in honest.values():
        ended = [report for report in part.reports.values() if not report.get("not_committed")]
        outcome.lost = max(outcome.lost, NUM_ROUNDS - len(ended))
        for report in part.reports.values():
            outcome.distrusted |= {*report.get("distrusted", ())}
            outcome.gone |= {*report["gone"]}
    model, spread, *_ = honest_run(lie.method)
    ends = [carrier.agents[agent].weights_P for agent in honest]
    worst = max(
        float((end - model).abs().max()) if torch.isfinite(end).all() else float("inf") for end in ends
    )
    outcome.distance = worst / spread
    return outcome
