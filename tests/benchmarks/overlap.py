"""How well a pair's stages overlap on the direct carrier, when computing and sending take equally long.

    sudo "$(which python)" -m tests.benchmarks.overlap [--rounds 9]     # two minutes; see README.md

Two processes, each in a network namespace of the testbed, run rounds of ComDML with `DirectRounds` and mutual
TLS: agent 1 is slow and sends the activations of a ResNet-56 that is cut behind its fourth group, agent 0 is
its helper. The link is as fast as it takes to send a batch in the time in which it is computed, and the
helper has so many batches of its own that it, too, works as long as the slow agent.

    longer    the longest of three stages: the slow side's bare training loop, sending the same envelopes
              over the same link, and the helper's bare training loop; sending is measured alone, the loops
              side by side, because two busy cores are slower than one (8 % on the machine of README.md)
    fill      the first batch has been computed but not sent, the last one is sent but not trained: the
              shorter of a batch's computing and sending, and a batch of the fast side
    pair      from the beginning of the slow agent's first training phase to the end of the helper's last

The bare loops know of no phases, so what the carrier's phases cost is in the pair's time alone. Rounds and
stages alternate; the first round is not counted. Needs root, as the testbed does.
"""

import argparse
import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from torch import nn

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.driver import DirectRounds
from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.credentials import load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Member
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.messages import Inbox, Outbox
from comdml_flwr.core.program import Phase
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.source import partitioned
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases.activations import Activations
from comdml_flwr.methods.phases.split_training import aux_head_weights
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS
from comdml_flwr.runs.assemble import assemble, program_of
from comdml_flwr.runs.catalogue import Catalogue
from experiments.testbed.cgroups import find_hierarchy
from experiments.testbed.hosts import NETWORK, Host, hosts_of
from experiments.testbed.life import living_hosts
from experiments.testbed.network import BRIDGE
from experiments.testbed.processes import run_commands

HELPER, SLOW = 0, 1
NUM_BATCHES = 30  # of the slow agent
CUT = 1  # the only one
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What makes the stages equally long: samples in a batch, the helper's own batches, the link's speed."""

    batch_size: int
    num_own: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a round's stages take alone, in seconds."""

    slow_s: float
    transfer_s: float
    helper_s: float
    fast_s: float  # of helper_s, the fast side

    @property
    def longer_s(self) -> float:
        """The longest."""
        return max(self.slow_s, self.transfer_s, self.helper_s)

    @property
    def fill_s(self) -> float:
        """What no overlap can save."""
        return (min(self.slow_s, self.transfer_s) + self.fast_s) / NUM_BATCHES


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one agent saw of a round: its training phases, by the clock that both processes share."""

    begin_s: float
    end_s: float
    busy_s: float


def two_stages(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return a ResNet-56 with one cut, behind its fourth group."""
    model = resnet(shape, num_classes, generator, blocks_per_group=3)
    return nn.Sequential(model[:5], model[5:])


def fleet_text(bytes_per_s: float) -> str:
    """Return the two agents and their link."""
    agents = "".join(f"[[agents]]\nid = {agent}\nflops_per_s = {8e9 / 8**agent}\n" for agent in (0, 1))
    return f"[links]\nbandwidth_mbps = {bytes_per_s / BYTES_PER_S_PER_MBPS}\n{agents}"


def make_setup(work: Work) -> Setup:
    """Return a set-up in which the slow agent has NUM_BATCHES, of samples drawn from the digits."""
    values = {"carrier": "direct", "model": "two-stages", "local-epochs": 1, "num-rounds": 1000}
    config = parse_config({**values, "batch-size": work.batch_size})
    catalogue = Catalogue(models={"two-stages": two_stages})
    setup = assemble(config, parse_fleet(fleet_text(work.bytes_per_s), "fleet"), 2, catalogue)
    generator, digits = np.random.default_rng(1), load_digits()
    num_batches = {HELPER: work.num_own, SLOW: NUM_BATCHES}
    profiles = {
        agent: replace(profile, num_batches=num_batches[agent])
        for agent, profile in setup.profiles_at(1).items()
    }
    sizes = {agent: work.batch_size * count for agent, count in num_batches.items()}
    parts = [generator.integers(len(digits.y_train_N), size=size) for size in sizes.values()]
    return replace(
        setup,
        load_data=partitioned(digits, parts),
        loaded={},
        num_samples=sizes,
        profiles_at=lambda round_: profiles,
    )


def slow_alone(agent: Agent) -> tuple[float, list[Outbox]]:
    """Train the slow side in a bare loop; return how long that takes, and the mail that it would send."""
    learner = agent.setup.learners.slow_side(CUT)
    learner.begin(agent.weights_P[: learner.num_floats], aux_head_weights(agent, CUT))
    batches, outputs = agent.batches(), []
    began = time.perf_counter()
    for number, indices_N in enumerate(batches):
        x_NCHW, y_N = agent.samples(indices_N, number)
        outputs.append((learner.train_batch(x_NCHW, y_N)[0], y_N))
    seconds = time.perf_counter() - began
    sent = [
        Activations(
            num_samples=agent.num_samples,
            batches_left=0,
            tensors={"activations": z.contiguous().numpy(), "labels": y_N.numpy()},
            digest="0" * 64,
        )
        for z, y_N in outputs
    ]
    return seconds, [(agent.send(HELPER, each),) for each in sent]


def helper_alone(agent: Agent, z: torch.Tensor, y_N: torch.Tensor) -> tuple[float, float]:
    """Train the helper's own batches, and the fast side on one batch again and again; return both times."""
    bench, num_fast = agent.setup.learners, NUM_BATCHES

    def loop(learner: Learner, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
        learner.begin(agent.weights_P[-learner.num_floats :])
        began = time.perf_counter()
        for each in batches:
            learner.train_batch(*each)
        return time.perf_counter() - began

    own = [agent.samples(indices_N, number) for number, indices_N in enumerate(agent.batches())]
    return loop(bench.whole(), own), loop(bench.fast_side(CUT), [(z, y_N)] * num_fast)


def calibrate(batch_size: int) -> Work:
    """Find the link and the helper's own batches with which all three stages take equally long."""
    torch.set_num_threads(1)
    setup = make_setup(Work(batch_size=batch_size, num_own=NUM_BATCHES, bytes_per_s=1e6))
    slow, helper = Agent(SLOW, setup), Agent(HELPER, setup)
    for agent in (slow, helper):
        agent.begin_round(1)
    _, mail = slow_alone(slow)
    arrays = mail[0][0].arrays
    z, y_N = torch.from_numpy(np.array(arrays["activations"])), torch.from_numpy(np.array(arrays["labels"]))
    seconds = [(slow_alone(slow)[0], *helper_alone(helper, z, y_N)) for _ in range(4)][1:]
    slow_s, own_s, fast_s = (statistics.median(column) for column in zip(*seconds, strict=True))
    num_own = max(1, round(NUM_BATCHES * (slow_s - fast_s) / own_s))
    num_bytes = sum(each[0].num_bytes for each in mail)
    return Work(batch_size=batch_size, num_own=num_own, bytes_per_s=num_bytes / slow_s)


def _whole_segments(hosts: Sequence[Host]) -> Iterator[Sequence[str]]:
    """Let the kernel pass on segments of 64 KiB, as for a card that cuts them into packets itself.

    Packet by packet, as the testbed has it, 120 Mbps took 30 % of what both cores can train.
    """
    inside = [(host.namespace, "eth0") for host in hosts]
    for namespace, device in (*inside, *((NETWORK, port) for port in (BRIDGE, "h0", "h1"))):
        bounds = ("gso_max_size", "65536", "gso_max_segs", "65535")
        yield ("ip", "-n", namespace, "link", "set", device, *bounds)


def enter(namespace: str) -> None:
    """Put this process into a network namespace; before it has threads."""
    with Path(f"/run/netns/{namespace}").open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)


def timed(phase: Phase[Agent], stamps: list[tuple[float, float]]) -> Phase[Agent]:
    """Return a phase that notes when it begins and ends."""

    def run(agent: Agent, inbox: Inbox) -> Outbox:
        began = time.monotonic()
        outbox = phase.run(agent, inbox)
        stamps.append((began, time.monotonic()))
        return outbox

    return replace(phase, run=run)


def be_agent(
    own: int,
    hosts: tuple[Host, Host],
    folder: Path,
    work: Work,
    num_rounds: int,
    barrier: Barrier,
    results: Connection,
) -> None:
    """Run all rounds, and after each the stages alone; send what they took."""
    enter(hosts[own].namespace)
    torch.set_num_threads(1)
    setup = make_setup(work)
    agent, stamps = Agent(own, setup), list[tuple[float, float]]()
    whole = program_of(setup).cut_into(setup.most_batches)
    phases = tuple(timed(p, stamps) if "train" in p.name or p.again else p for p in whole.phases)
    program = replace(whole, phases=phases, in_chunks=None)
    credentials = load_credentials(folder / f"agent-{own}", own)

    def transport(port: int) -> Transport:
        members = [Member(host.agent, f"{host.address}:{port}") for host in hosts]
        return Transport(own, members[own].address, members, credentials, "overlap")

    with transport(9500) as rounds_mail, transport(9501) as other_mail:
        barrier.wait()
        rounds = DirectRounds(agent, program, rounds_mail, Deadlines(120.0, 10.0), seconds_per_batch=1.0)
        for _ in rounds.run(1, num_rounds):
            seen = Round(
                begin_s=stamps[0][0], end_s=stamps[-1][1], busy_s=sum(end - begin for begin, end in stamps)
            )
            stamps.clear()
            results.send((seen, stages_alone(agent, other_mail, barrier.wait)))


def stages_alone(agent: Agent, transport: Transport, line_up: Callable[[], int]) -> tuple[float, float]:
    """Measure sending, then both training loops side by side; return this agent's two times."""
    if agent.id == SLOW:
        mail = slow_alone(agent)[1]
        line_up()
        began = time.perf_counter()
        for outbox in mail:
            transport.send(outbox[0])
        transport.flush(_PATIENCE_S)
        transfer_s = time.perf_counter() - began
        line_up()
        return slow_alone(agent)[0], transfer_s
    line_up()
    for _ in range(NUM_BATCHES):
        envelope = transport.receive(_PATIENCE_S)
        assert envelope is not None
    z, y_N = (torch.from_numpy(np.array(envelope.arrays[name])) for name in ("activations", "labels"))
    line_up()
    return helper_alone(agent, z, y_N)


def measure(num_rounds: int, work: Work) -> list[tuple[Stages, Round, Round]]:
    """Return for each round but the first the stages alone, and what the slow agent and its helper saw."""
    fleet = parse_fleet(fleet_text(work.bytes_per_s), "fleet")
    first, second = hosts_of(fleet, flops_per_cpu=1e10, num_cores=2)
    spawn = get_context("spawn")
    barrier, pipes = spawn.Barrier(2), [spawn.Pipe() for _ in range(2)]
    hierarchy = find_hierarchy(Path("/proc/self/mounts").read_text())
    with living_hosts((first, second), hierarchy) as (_, temporary):
        run_commands(_whole_segments((first, second)))
        folder = temporary / "certificates"
        make_certificates(folder, (HELPER, SLOW), {}, days=1)
        words = ((first, second), folder, work, num_rounds, barrier)
        processes = [
            spawn.Process(target=be_agent, args=(own, *words, pipes[own][1]), daemon=True)
            for own in (HELPER, SLOW)
        ]
        for process in processes:
            process.start()
        told = [tuple(pipes[own][0].recv() for own in (HELPER, SLOW)) for _ in range(num_rounds)]
        for process in processes:
            process.join()
    rounds = []
    for (helper, (own_s, fast_s)), (slow, (slow_s, transfer_s)) in told[1:]:
        stages = Stages(slow_s=slow_s, transfer_s=transfer_s, helper_s=own_s + fast_s, fast_s=fast_s)
        rounds.append((stages, slow, helper))
    return rounds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    versions = (f"{name} {version(name)}" for name in ("torch", "grpcio"))
    print(f"{platform.machine()}, Python {platform.python_version()}", *versions, sep=", ")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        work = pool.submit(calibrate, given.batch_size).result()
    print(f"link {work.bytes_per_s / BYTES_PER_S_PER_MBPS:.1f} Mbps; batches of {work.batch_size}:", end=" ")
    print(f"{NUM_BATCHES}, and {work.num_own} of the helper's own")
    rounds = measure(given.rounds + 1, work)

    def say(name: str, values: list[float], form: str = "7.3f") -> None:
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:38} {middle:{form}}   ({low:{form}} to {high:{form}})")

    say("slow side alone, s", [stages.slow_s for stages, *_ in rounds])
    say("transfer alone, s", [stages.transfer_s for stages, *_ in rounds])
    say("helper alone, s", [stages.helper_s for stages, *_ in rounds])
    say("fill, s", [stages.fill_s for stages, *_ in rounds])
    say("slow agent's phases in the pair, s", [slow.busy_s for _, slow, _ in rounds])
    say("helper's phases in the pair, s", [helper.busy_s for *_, helper in rounds])
    say("pair, s", [helper.end_s - slow.begin_s for _, slow, helper in rounds])
    ratios = [
        (helper.end_s - slow.begin_s) / (stages.longer_s + stages.fill_s) for stages, slow, helper in rounds
    ]
    say("pair / (longer + fill)", ratios)


if __name__ == "__main__":
    main()
