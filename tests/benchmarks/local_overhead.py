"""What carriers, clock and averaging cost: a ComDML run against a bare PyTorch loop over the same batches.

    python -m tests.benchmarks.local_overhead

100 agents, 20 % of them drawn in each round, ResNet-56 on digits, local carrier, one process, one thread. The
loop trains one model with one optimizer on the very batches of that run, in its order; it knows of no agents.
Evaluation is left out on both sides. Measured in turn, as processor time of the one process (all its
threads), which other work on the machine disturbs less than a stopwatch; quote the ratio.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.config import parse_config
from comdml_flwr.learning.split import load_floats
from comdml_flwr.methods.phases import evaluation as phases
from comdml_flwr.methods.phases.evaluation import TestPart
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.planning.fleet.presets import preset_text
from comdml_flwr.runs.assemble import assemble, participants_of, program_of
from comdml_flwr.runs.loop import last, run_rounds
from tests.small import Silent

NUM_AGENTS = 100


def make_setup(folder: Path, num_rounds: int) -> Setup:
    """Return the set-up of the run."""
    fleet = folder / "fleet.toml"
    fleet.write_text(preset_text(f"comdml-{NUM_AGENTS}"))
    config = parse_config({"carrier": "local", "participation": 0.2, "num-rounds": num_rounds})
    return assemble(config, load_fleet(fleet), NUM_AGENTS)


def comdml_s(setup: Setup) -> float:
    """Return how long a run takes without evaluation."""
    program = program_of(setup)
    carrier = LocalCarrier(participants_of(setup), program)
    real, phases.evaluate_parts = phases.evaluate_parts, _evaluate_nothing
    began = time.process_time()
    try:
        last(run_rounds(carrier, program, setup.ids, setup.config, Silent()))
        return time.process_time() - began
    finally:
        phases.evaluate_parts = real
        carrier.close()


def _evaluate_nothing(agent: Agent, *parts: TestPart) -> dict[str, float]:
    num_evaluated = sum(stop - start for _, start, stop in parts)
    return {**agent.setup.task.metrics.nothing, "num_evaluated": num_evaluated}


def bare_loop_s(setup: Setup) -> float:
    """Return how long the same batches take in a loop that knows of no agents."""
    data, config, model = setup.data(0).train, setup.config, setup.learners.model.train()
    load_floats(model, setup.initial_weights_P)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    todo = []
    for round_ in range(1, config.num_rounds + 1):
        for agent in (Agent(number, setup) for number in setup.present(round_)):
            agent.begin_round(round_)
            todo += [agent.training_data.rows_N[places_N] for places_N in agent.batches()]
    began = time.process_time()
    for rows_N in todo:
        loss = cross_entropy(model(data.x[rows_N]), data.targets[rows_N])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.process_time() - began


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        setup = make_setup(Path(folder), arguments.rounds)
        bare_loop_s(setup)  # warms up
        comdml_s(setup)
        pairs = [(comdml_s(setup), bare_loop_s(setup)) for _ in range(arguments.repeats)]
    ratios = [run / loop for run, loop in pairs]
    run_s, loop_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"ComDML {run_s:.2f} s, bare loop {loop_s:.2f} s for {arguments.rounds} rounds (medians, measured)")
    print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
