"""A small run that the tests share: real digits, a network of four stages, a fleet of unequal agents."""

import threading
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import nn

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.program import Phase, Program
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import assemble, participants_of, program_of
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.records import RunRecord
from tests.fleets import agent_tables
from tests.odd_models import ODD
from tests.odd_modules import MODULES

SPEEDS = (4e9, 2e9, 1e9, 0.5e9, 0.2e9)
NUM_SAMPLES = 200
_GLOBAL_RANDOM_STATE = threading.Lock()  # of this model alone: agents may build theirs side by side


def four_stages(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return a small convolutional network whose four stages give three cuts."""
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(shape[0], 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes)),
        )


class Residual(nn.Module):
    """Adds a layer to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x_NI: torch.Tensor) -> torch.Tensor:
        """Return the input and what a layer makes of it."""
        return x_NI + self.layer(x_NI).relu()


def eight_stages(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return a network with as many stages and cuts as ResNet-56, which a few batches teach."""
    width = shape[0] * shape[1] * shape[2]
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        stem = nn.Sequential(nn.Flatten(), nn.Linear(width, 32), nn.ReLU())
        return nn.Sequential(stem, *(Residual(32) for _ in range(6)), nn.Linear(32, num_classes))


@lru_cache
def few_digits() -> Dataset:
    """Return some of the handwritten digits."""
    data = load_digits()
    return Dataset(
        name="few-digits",
        x_train_NCHW=data.x_train_NCHW[:NUM_SAMPLES],
        y_train_N=data.y_train_N[:NUM_SAMPLES],
        x_test_NCHW=data.x_test_NCHW[:50],
        y_test_N=data.y_test_N[:50],
        num_classes=10,
        augment=False,
    )


resnet_20 = partial(resnet, blocks_per_group=1)  # the eight stages of ResNet-56, a third of their blocks
CATALOGUE = Catalogue(
    models={"four-stages": four_stages, "resnet-20": resnet_20, **ODD, **MODULES},
    datasets={"few-digits": lambda config: few_digits()},
)


def fleet_text(num_agents: int, *, bandwidth_mbps: float = 100, equal: bool = False) -> str:
    """Return a fleet file: agents of unequal speeds, or of equal ones."""
    agents = agent_tables(num_agents, flops_per_s=SPEEDS[0] if equal else SPEEDS)
    return f"[links]\nbandwidth_mbps = {bandwidth_mbps}\n{agents}"


def small_fleet(num_agents: int, *, bandwidth_mbps: float = 100, equal: bool = False) -> Fleet:
    """Return the fleet of `fleet_text`."""
    return parse_fleet(fleet_text(num_agents, bandwidth_mbps=bandwidth_mbps, equal=equal), "test fleet")


def small_config(**keys: bool | int | float | str) -> RunConfig:
    """Return a configuration of the small run; keys in snake_case."""
    values = {
        "model": "four-stages",
        "dataset": "few-digits",
        "num-rounds": 2,
        "local-epochs": 1,
        "batch-size": 8,
        "carrier": "local",
        "profiles": "fleet",
    }
    return parse_config({**values, **{name.replace("_", "-"): value for name, value in keys.items()}})


def small_setup(config: RunConfig, fleet: Fleet) -> Setup:
    """Return the set-up of the small run."""
    return assemble(config, fleet, len(fleet.agents), CATALOGUE)


def idle_program(*names: str) -> Program[Agent]:
    """Return a round of phases that do nothing."""
    return Program(phases=tuple(Phase(name=name, run=lambda agent, inbox: ()) for name in names))


class Silent:
    """A listener that only listens."""

    def exchange_begins(self, round_: int, phase: str, num_agents: int) -> None:
        """Hear nothing."""


def run_local(
    config: RunConfig,
    fleet: Fleet,
    *,
    make_carrier: Callable[..., LocalCarrier] = LocalCarrier,
    num_workers: int = 1,
    reverse_replies: bool = False,
) -> tuple[RunRecord, list[Agent]]:
    """Run over the local carrier; return what it came to, and the agents."""
    setup = small_setup(config, fleet)
    agents = list(participants_of(setup))
    program = program_of(setup)
    carrier = make_carrier(agents, program, num_workers=num_workers, reverse_replies=reverse_replies)
    try:
        rounds = run_rounds(
            carrier,
            program,
            setup.ids,
            config,
            Silent(),
            setup.availability,
        )
        return last(rounds), agents
    finally:
        carrier.close()
