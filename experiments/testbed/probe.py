"""Measures one thing on a host; the testbed starts it in a host's namespace.

    python -m experiments.testbed.probe spin SECONDS
    python -m experiments.testbed.probe train SECONDS AGENT RUN.toml NUM_AGENTS
    python -m experiments.testbed.probe shares AGENT RUN.toml NUM_AGENTS
    python -m experiments.testbed.probe receive ADDRESS PORT
    python -m experiments.testbed.probe send ADDRESS PORT NUM_BYTES

Each says "ready" when it has loaded what it needs, waits for a line, measures, and prints one JSON object. So
it can be put into its quota in between, and all hosts are measured at the same time, as they will train.
"""

import socket
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json

if TYPE_CHECKING:
    from comdml_flwr.agents.agent import Agent

_CHUNK_BYTES = 65_536
_TURNS = 16
_WARM_S = 2.0  # the first batches allocate memory and choose kernels


def spin(seconds: float) -> dict[str, Json]:
    """Return how many cores a busy loop gets."""
    _ready()
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        pass
    return {"cpus": (time.process_time() - used) / (time.monotonic() - began)}


def train(seconds: float, agent_id: int, run_config: str, num_agents: int) -> dict[str, Json]:
    """Train an agent's own batches, warm, for at least so long.

    Returns
    -------
    dict
        `batches_per_s`: full batches; the small one at an epoch's end counts by its samples, as it does in
        the cost model. `profile_batches_per_s`: what the fleet file says.
    """
    agent = _agent(agent_id, run_config, num_agents)
    learner = agent.setup.learners.whole().begin(agent.weights_P)

    def sizes() -> Iterator[int]:
        while True:
            for number, indices_N in enumerate(agent.batches()):
                learner.train_batch(*agent.samples(indices_N, number))
                yield len(indices_N)

    _ready()
    trained = sizes()
    _count_for(trained, _WARM_S)
    num_samples, elapsed_s = _count_for(trained, seconds)
    return {
        "batches_per_s": num_samples / agent.setup.config.batch_size / elapsed_s,
        "profile_batches_per_s": agent.profile.batches_per_s,
    }


def shares(agent_id: int, run_config: str, num_agents: int) -> dict[str, Json]:
    """Train full batches whole and in halves, by turns.

    Returns
    -------
    dict
        `slow 1`, `fast 1`, `slow 2`, ...: what each side takes of the whole model's time; medians.
    """
    from comdml_flwr.methods.phases.split_training import aux_head_weights  # here: it loads torch

    agent = _agent(agent_id, run_config, num_agents)
    bench, (x, y_N) = agent.setup.learners, agent.samples(agent.batches()[0], 0)
    learners = {"whole": (bench.whole().begin(agent.weights_P), x)}
    for cut in range(1, len(agent.setup.cuts) + 1):
        slow, fast = bench.slow_side(cut), bench.fast_side(cut)
        slow.begin(agent.weights_P[: slow.num_floats], aux_head_weights(agent, cut))
        learners[f"slow {cut}"] = slow, x
        learners[f"fast {cut}"] = fast, slow.train_batch(x, y_N)[0]
    _ready()
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(_TURNS):
        for name, (learner, samples) in learners.items():
            began = time.perf_counter()
            learner.train_batch(samples, y_N)
            seconds[name].append(time.perf_counter() - began)
    took_s = {name: median(times[1:]) for name, times in seconds.items()}
    return {name: took_s[name] / took_s["whole"] for name in took_s if name != "whole"}


def _agent(agent_id: int, run_config: str, num_agents: int) -> "Agent":
    from comdml_flwr.agents.agent import Agent  # here: other probes need no torch
    from comdml_flwr.core.config import find_fleet, parse_config
    from comdml_flwr.planning.fleet.fleet_file import load_fleet
    from comdml_flwr.runs.assemble import assemble

    config = parse_config(tomllib.loads(Path(run_config).read_text()))
    agent = Agent(agent_id, assemble(config, load_fleet(find_fleet(config.fleet)), num_agents))
    agent.begin_round(1)
    return agent


def _count_for(sizes: Iterator[int], seconds: float) -> tuple[int, float]:
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        count += next(sizes)
    return count, time.monotonic() - began


def receive(address: str, port: int) -> dict[str, Json]:
    """Take one connection's bytes; the time is from the first of them to the last."""
    with socket.create_server((address, port)) as listener:
        _ready()
        connection, _ = listener.accept()
        with connection:
            first = len(connection.recv(_CHUNK_BYTES))
            began, count = time.monotonic(), 0
            while part := len(connection.recv(_CHUNK_BYTES)):
                count += part
            elapsed_s = time.monotonic() - began
    return {"num_bytes": first + count, "bytes_per_s": count / elapsed_s}


def send(address: str, port: int, num_bytes: int) -> dict[str, Json]:
    """Send a number of bytes over one connection."""
    _ready()
    with socket.create_connection((address, port)) as connection:
        for sent in range(0, num_bytes, _CHUNK_BYTES):
            connection.sendall(bytes(min(_CHUNK_BYTES, num_bytes - sent)))
    return {"num_bytes": num_bytes}


def _ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Measure what the command line says."""
    what, *words = sys.argv[1:]
    if what == "spin":
        measured = spin(float(words[0]))
    elif what == "train":
        measured = train(float(words[0]), int(words[1]), words[2], int(words[3]))
    elif what == "shares":
        measured = shares(int(words[0]), words[1], int(words[2]))
    elif what == "receive":
        measured = receive(words[0], int(words[1]))
    else:
        measured = send(words[0], int(words[1]), int(words[2]))
    print(to_json(measured), flush=True)


if __name__ == "__main__":
    main()
