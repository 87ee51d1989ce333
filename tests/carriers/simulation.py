"""Runs in virtual time: a tiny fleet, and what must hold of every history."""

import re
from functools import lru_cache
from hashlib import sha256

import torch
from torch import nn

from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.simulated.carrier import SimulatedCarrier
from comdml_flwr.carriers.simulated.history import History
from comdml_flwr.carriers.simulated.turns import CrashError
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.methods.phases.introduction import Model
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble, participants_of, program_of
from comdml_flwr.runs.catalogue import Catalogue
from tests.carriers.direct_runs import added_up, messages
from tests.carriers.lies import LIES, Liar
from tests.small import fleet_text, small_config, small_setup

NUM_AGENTS, NUM_ROUNDS = 5, 3
LIE_BY_NAME = {lie.name: lie for lie in LIES}
EVEN = History(seed=1, step_s=(0.1, 0.3))  # no step is shorter than mail is under way


def tiny(shape, num_classes, generator):
    """Return a network of three linear stages, which gives two cuts."""
    inputs = shape[0] * shape[1] * shape[2]
    layers = [nn.Linear(inputs, 4), nn.Linear(4, 4), nn.Linear(4, num_classes)]
    for layer in layers:
        nn.init.normal_(layer.weight, 0, 0.3, generator=generator)
        nn.init.zeros_(layer.bias)
    first, second, third = layers
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), first), nn.Sequential(nn.ReLU(), second), nn.Sequential(nn.ReLU(), third)
    )


def noise(num_samples, generator):
    """Return samples and labels without a sense."""
    x_NCHW = torch.randn(num_samples, 1, 4, 4, generator=generator)
    return x_NCHW, torch.randint(4, (num_samples,), generator=generator)


@lru_cache
def few_samples():
    """Return two batches an agent."""
    generator = torch.Generator().manual_seed(0)
    (x_train_NCHW, y_train_N), (x_test_NCHW, y_test_N) = noise(60, generator), noise(10, generator)
    return Dataset(
        name="noise",
        x_train_NCHW=x_train_NCHW,
        y_train_N=y_train_N,
        x_test_NCHW=x_test_NCHW,
        y_test_N=y_test_N,
        num_classes=4,
        augment=False,
    )


CATALOGUE = Catalogue(models={"tiny": tiny}, datasets={"noise": lambda config: few_samples()})


def slow_fleet(num_agents):
    """Return the small fleet a thousand times as slow, so that offload pays even for a tiny network."""
    text = re.sub(
        r"(?<=flops_per_s = )[\d.]+", lambda speed: f"{float(speed[0]) / 1000}", fleet_text(num_agents)
    )
    return parse_fleet(text, "slow fleet")


@lru_cache
def tiny_setup(method="comdml", num_rounds=NUM_ROUNDS, num_agents=NUM_AGENTS, **keys):
    """Return the set-up of runs that take milliseconds."""
    tiny_keys = {
        "model": "tiny",
        "dataset": "noise",
        "batch_size": 6,
        "local_epochs": 1,
        "optimizer": "sgd",
        "carrier": "direct",
    }
    config = small_config(method=method, num_rounds=num_rounds, **{**tiny_keys, **keys})
    return assemble(config, slow_fleet(num_agents), num_agents, CATALOGUE)


RUNS = {
    "comdml": {},
    "comdml, large batches": {"batch_size": 12},
    "allreduce": {"method": "allreduce"},
    "comdml, some take part": {"participation": 0.6, "num_rounds": 4},
    "comdml, one is enough": {"participation": 0.6, "num_rounds": 4, "min_agents": 1},
}
"""What `tiny_setup` is told, by the name of the run."""


def carrier_of(setup):
    """Return a simulated carrier with agents that have not begun."""
    return SimulatedCarrier(participants_of(setup), program_of(setup))


def observed_carrier(setup, history):
    """Return a simulated carrier with a history's liars, whose reports have what the laws need.

    That is `began_with`, the digest of the model that the agent began the round with.
    """
    began_with = {}

    def run(agent, program, steps, inbox, absence):
        for step in steps:
            if step.phase == 1 and step.attempt == 0:
                began_with[agent.id] = _model_before_training(agent, inbox, step.round)
        outbox, report = run_steps(agent, program, steps, inbox, absence)
        return outbox, {**report, "began_with": began_with.get(agent.id)}

    told = [fault for fault in history.faults if isinstance(fault, Liar)]
    lies = {liar.agent: LIE_BY_NAME[liar.lie].begin(liar.from_round) for liar in told}
    return SimulatedCarrier(participants_of(setup), program_of(setup), run_steps=run, lies=lies)


def simulate(setup, history):
    """Run all rounds in one message; return the carrier, and each agent's part."""
    carrier = observed_carrier(setup, history)
    return carrier, carrier.run(1, setup.config.num_rounds, history)


def _model_before_training(agent, inbox, round_):
    """Return the digest of what an agent has, or was sent at the end of a round in which it was absent."""
    sent = [Model.unpack(mail).tensors for mail in inbox if mail.kind == Model.kind and len(mail.arrays)]
    true = [tensors for tensors in sent if not agent.tensors.wrong_shared(tensors)]
    has_it = agent.model_of >= round_ - 1
    tensors = true[0] if true and not has_it else agent.tensors.shared_arrays()
    return sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def run_simulated(config, fleet, *, rounds_per_message=100):
    """Run without a fault; return the records and the digest of all weights."""
    setup = small_setup(config.model_copy(update={"carrier": "direct"}), fleet)
    config = config.model_copy(update={"rounds_per_message": rounds_per_message})
    carrier = carrier_of(setup)
    reports = {}
    for first, last, num_reductions in messages(setup, config, reports):
        for agent, part in carrier.run(first, last, History(seed=first), num_reductions).items():
            assert part.error is None, part.error
            for round_, report in part.reports.items():
                reports.setdefault(round_, {})[agent] = report
    return added_up(setup, reports)


def run_simulated_with(config, fleet, faults, *, rounds_per_message=100, history=EVEN):
    """Run while agents die (`tests.faults.FailAt`); return what `run_hooked` does.

    What an agent sent in the phases before has come when it dies, as on the local carrier.
    """

    def run_or_die(agent, program, steps, inbox, absence):
        if any(fault.hits(agent.id, steps) for fault in faults):
            raise CrashError
        return run_steps(agent, program, steps, inbox, absence)

    return run_hooked(config, fleet, run_or_die, rounds_per_message=rounds_per_message, history=history)


def run_hooked(config, fleet, run, *, rounds_per_message=100, history=EVEN):
    """Run with another way to run steps; return the reports by round, and the last members' digests."""
    setup = small_setup(config.model_copy(update={"carrier": "direct"}), fleet)
    carrier = SimulatedCarrier(participants_of(setup), program_of(setup), run_steps=run)
    reports, ended = {}, ()
    for first in range(1, config.num_rounds + 1, rounds_per_message):
        last = min(config.num_rounds, first + rounds_per_message - 1)
        parts = carrier.run(first, last, history)
        ended = [agent for agent, part in parts.items() if last in part.reports]
        for agent, part in parts.items():
            assert part.error is None, part.error
            for round_, report in part.reports.items():
                reports.setdefault(round_, {})[agent] = report
    return reports, {agent: carrier.agents[agent].weights_sha256() for agent in ended}
