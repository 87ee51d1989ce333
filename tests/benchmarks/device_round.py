"""Samples per second of a ComDML round against a bare PyTorch loop on the same device.

    python -m tests.benchmarks.device_round --device cuda --precision bfloat16

Two agents, of which one offloads to the other, train ResNet-56 on random images of CIFAR's shape, local
carrier, one process. The loop trains one model on as many batches of the same size, in the same precision.
Evaluation is left out on both sides. Measured in turn by the stopwatch; quote the ratio.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.config import parse_config
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.split import load_floats
from comdml_flwr.methods.phases import evaluation as phases
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble, participants_of, program_of
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.loop import last, run_rounds
from tests.benchmarks.local_overhead import _evaluate_nothing
from tests.fleets import agent_tables
from tests.small import Silent

FLEET = f"[links]\nbandwidth_mbps = 1000\n{agent_tables(2, flops_per_s=(4e9, 1e9))}"


def random_images(num_samples: int) -> Dataset:
    """Return images of CIFAR's shape."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(num_samples, 3, 32, 32, generator=draw)
    y = torch.randint(10, (num_samples,), generator=draw)
    return Dataset(
        name="random-images",
        x_train_NCHW=x,
        y_train_N=y,
        x_test_NCHW=x[:2],
        y_test_N=y[:2],
        num_classes=10,
        augment=False,
    )


def round_s(setup: Setup) -> float:
    """Return how long a round of ComDML takes without evaluation; refuse one without a pair."""
    program = program_of(setup)
    carrier = LocalCarrier(participants_of(setup), program)
    real, phases.evaluate_parts = phases.evaluate_parts, _evaluate_nothing
    began = time.perf_counter()
    try:
        record = last(run_rounds(carrier, program, setup.ids, setup.config, Silent()))
        setup.device.synchronize()
        assert record.rounds[0].plan["pairs"], "nobody offloads"
        return time.perf_counter() - began
    finally:
        phases.evaluate_parts = real
        carrier.close()


def bare_loop_s(setup: Setup, x: Tensor, y: Tensor) -> float:
    """Return how long as many batches take in a loop that knows of no agents."""
    device, config, model = setup.device, setup.config, setup.learners.model.train()
    load_floats(model.to("cpu"), setup.initial_weights_P)
    device.place(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=device.has_fused_steps)
    device.synchronize()
    began = time.perf_counter()
    for rows_N in torch.split(torch.randperm(len(y)), config.batch_size):
        with device.autocast():
            loss = cross_entropy(model(device.to(x[rows_N])), device.to(y[rows_N]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    device.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=100, help="of each agent")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    data = random_images(2 * arguments.batches * arguments.batch_size)
    told = {"device": arguments.device, "precision": arguments.precision, "batch-size": arguments.batch_size}
    config = parse_config(
        {**told, "carrier": "local", "dataset": data.name, "num-rounds": 1, "local-epochs": 1}
    )
    catalogue = Catalogue(datasets={data.name: lambda config: data})
    setup = assemble(config, parse_fleet(FLEET, "this file"), 2, catalogue)
    setup.device.make_deterministic(1)
    bare_loop_s(setup, data.x_train_NCHW, data.y_train_N)  # warms up
    round_s(setup)
    pairs = [
        (round_s(setup), bare_loop_s(setup, data.x_train_NCHW, data.y_train_N))
        for _ in range(arguments.repeats)
    ]
    num, ratios = len(data.y_train_N), [loop / run for run, loop in pairs]
    run_s, loop_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    where = f"{setup.device.name}, {setup.device.precision}, batches of {config.batch_size}"
    print(f"{where}: ComDML {num / run_s:.0f} samples/s, bare loop {num / loop_s:.0f} (medians, measured)")
    print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
