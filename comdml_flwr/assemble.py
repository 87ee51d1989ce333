"""The one literal table: names in a configuration -> method, model, data; and the set-up of a run from them.

Bring your own: `assemble(..., models={...}, datasets={...})`, or the same arguments of `peer_client_app` and
`peer_server_app` in an app of your own, add names to the table for that app.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import inf, prod
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from comdml_flwr.agent import Agent, Setup
from comdml_flwr.config import RunConfig
from comdml_flwr.errors import InputError
from comdml_flwr.learning.data import Dataset, load_cifar, load_digits, partition
from comdml_flwr.learning.models import auxiliary_head, resnet
from comdml_flwr.learning.split import ModelProfile, num_floats, profile_model, split, write_floats
from comdml_flwr.learning.training import Workbench
from comdml_flwr.messages import Program
from comdml_flwr.methods import allreduce, comdml
from comdml_flwr.planning.dynamics import draw_participants, fleet_at, unchanged_since
from comdml_flwr.planning.fleet import Fleet
from comdml_flwr.planning.types import Cut, CutTable, Profile
from comdml_flwr.seeds import SHARED, derive_seed

ModelBuilder: TypeAlias = Callable[[tuple[int, ...], int, torch.Generator], nn.Sequential]
"""(input shape of a sample, number of classes, generator) -> stages; cut m leaves out the last m stages."""

DatasetLoader: TypeAlias = Callable[[RunConfig], Dataset]

METHODS: Mapping[str, Callable[[RunConfig], Program[Agent]]] = {
    "comdml": lambda config: comdml.program(config.num_chunks),
    "allreduce": lambda config: allreduce.program(),
}
MODELS: Mapping[str, ModelBuilder] = {
    "resnet-56": partial(resnet, blocks_per_group=3),
    "resnet-110": partial(resnet, blocks_per_group=6),
}
DATASETS: Mapping[str, DatasetLoader] = {
    "digits": lambda config: load_digits(),
    "cifar-10": lambda config: load_cifar(Path(config.data_dir), 10, download=config.download),
    "cifar-100": lambda config: load_cifar(Path(config.data_dir), 100, download=config.download),
}
MAX_NUMBERS = 1e9  # in a batch: nothing so large is trained, and torch's own sizes overflow from 1e18 on
LABEL_BYTES = 8  # labels travel as int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The names that a configuration may use: ours and those of your own app.

    Parameters
    ----------
    models : Mapping[str, ModelBuilder]
        Added to `MODELS`.
    datasets : Mapping[str, DatasetLoader]
        Added to `DATASETS`.
    """

    models: Mapping[str, ModelBuilder] = field(default_factory=dict)
    datasets: Mapping[str, DatasetLoader] = field(default_factory=dict)

    def check(self, config: RunConfig) -> None:
        """Raise InputError where the configuration names what does not exist."""
        for key, name, table in (
            ("method", config.method, METHODS),
            ("model", config.model, {**MODELS, **self.models}),
            ("dataset", config.dataset, {**DATASETS, **self.datasets}),
        ):
            if name not in table:
                raise InputError(key, name, f"must be one of {', '.join(sorted(table))}")

    def model(self, name: str) -> ModelBuilder:
        """Return the builder of a model."""
        return {**MODELS, **self.models}[name]

    def dataset(self, name: str) -> DatasetLoader:
        """Return the loader of a data set."""
        return {**DATASETS, **self.datasets}[name]


def agent_ids(fleet: Fleet, num_agents: int) -> tuple[int, ...]:
    """Return the ids of the agents of a run: the first `num_agents` of the fleet, ascending."""
    ids = sorted(agent.id for agent in fleet.agents)
    if num_agents > len(ids):
        raise InputError(
            "fleet", fleet.source, f"has {len(ids)} agents, too few for {num_agents} (one for each SuperNode)"
        )
    return tuple(ids[:num_agents])


def cut_table(profile: ModelProfile, batch_size: int) -> CutTable:
    """Return what the planner needs of a model: shares of the FLOPs, bytes with the labels, memory."""
    return tuple(
        Cut(
            slow_share=cut.slow_flops / profile.whole_flops,
            fast_share=cut.fast_flops / profile.whole_flops,
            bytes_per_batch=batch_size * (cut.activation_bytes + LABEL_BYTES),
            slow_bytes=cut.slow_peak_bytes,
            fast_bytes=cut.fast_peak_bytes,
            whole_bytes=profile.peak_bytes,
        )
        for cut in profile.cuts
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """What planning and the clock need of a model: FLOPs of a batch, cuts, and the floats that are averaged.

    `fast_floats` and `head_floats` are those of the fast side and of the auxiliary head, by cut.
    """

    batch_flops: float
    cuts: CutTable
    num_floats: int
    fast_floats: tuple[int, ...]
    head_floats: tuple[int, ...]


def model_costs(fleet: Fleet) -> ModelCosts:
    """Count what the model of a fleet file costs.

    Raises
    ------
    InputError
        There is no [model], or no such model.
    """
    if fleet.model is None:
        raise InputError(str(fleet.source), "no [model]", "must name a model to be planned for")
    name, shape, classes = fleet.model.name, fleet.model.input, fleet.model.num_classes
    if name not in MODELS:
        raise InputError(f"{fleet.source}: model.name", name, f"must be one of {', '.join(sorted(MODELS))}")
    for what, size in (("input", prod(shape) * fleet.model.batch_size), ("num_classes", classes)):
        if size > MAX_NUMBERS:
            raise InputError(f"{fleet.source}: model.{what}", size, f"must be at most {MAX_NUMBERS:g}")
    model = MODELS[name](shape, classes, torch.Generator())
    profile = profile_model(model, shape, classes, fleet.model.batch_size)
    heads = [auxiliary_head(cut.activation_shape, classes, torch.Generator()) for cut in profile.cuts]
    return ModelCosts(
        batch_flops=profile.whole_flops * fleet.model.batch_size,
        cuts=cut_table(profile, fleet.model.batch_size),
        num_floats=num_floats(model),
        fast_floats=tuple(num_floats(split(model, cut.cut)[1]) for cut in profile.cuts),
        head_floats=tuple(map(num_floats, heads)),
    )


def planner_input(fleet: Fleet) -> tuple[tuple[Profile, ...], CutTable]:
    """Return what `comdml plan` needs of a fleet file with a [model] table: its FLOPs are counted here.

    Raises
    ------
    InputError
        There is no [model], or no such model, or the file lacks a speed or a number of samples.
    """
    costs = model_costs(fleet)
    return fleet.profiles(batch_flops=costs.batch_flops), costs.cuts


def assemble(config: RunConfig, fleet: Fleet, num_agents: int, catalogue: Catalogue | None = None) -> Setup:
    """Build what all agents of a run share: data, partition, model, cuts, profiles, initial weights.

    Raises
    ------
    InputError
        A name, a value or a file that the run needs is wrong; nothing has been trained yet.
    """
    catalogue = catalogue or Catalogue()
    catalogue.check(config)
    ids = agent_ids(fleet, num_agents)
    dataset = catalogue.dataset(config.dataset)(config)
    shape = tuple(dataset.x_train_NCHW.shape[1:])
    build = partial(catalogue.model(config.model), shape, dataset.num_classes)
    model = build(_generator(config, "model"))
    profile = profile_model(model, shape, dataset.num_classes, config.batch_size)
    parts = partition(
        dataset.y_train_N.numpy(),
        num_agents,
        scheme=config.partition,
        alpha=config.alpha,
        seed=derive_seed(config.seed, SHARED, SHARED, "partition"),
    )
    heads = {
        cut.cut: auxiliary_head(
            cut.activation_shape, dataset.num_classes, _generator(config, f"aux head {cut.cut}")
        )
        for cut in profile.cuts
    }
    return Setup(
        config=config,
        ids=ids,
        profiles_at=_profiles_by_round(config, fleet, ids, [len(part) for part in parts], profile),
        relay=fleet.relay,
        dataset=dataset,
        parts=dict(zip(ids, parts, strict=True)),
        cuts=cut_table(profile, config.batch_size),
        workbench=Workbench(
            lambda: build(torch.Generator()),
            lambda cut: auxiliary_head(
                profile.cuts[cut - 1].activation_shape, dataset.num_classes, torch.Generator()
            ),
        ),
        initial_weights_P=write_floats(model),
        initial_aux_heads={cut: write_floats(head) for cut, head in heads.items()},
        availability=fleet.availability,
    )


def _profiles_by_round(
    config: RunConfig, fleet: Fleet, ids: tuple[int, ...], sizes: list[int], model: ModelProfile
) -> Callable[[int], Mapping[int, Profile]]:
    _profiles(config, fleet, ids, sizes, model)  # what the file lacks shows before any training
    for round_ in range(1, config.num_rounds + 1):
        draw_participants(ids, config.participation, config.seed, round_, fleet.availability)

    @lru_cache(maxsize=2)
    def since(round_: int) -> Mapping[int, Profile]:
        return _profiles(config, fleet_at(fleet, config.seed, round_), ids, sizes, model)

    return lambda round_: since(unchanged_since(fleet, round_))


def _profiles(
    config: RunConfig, fleet: Fleet, ids: tuple[int, ...], sizes: list[int], model: ModelProfile
) -> dict[int, Profile]:
    devices, links = {agent.id: agent for agent in fleet.agents}, fleet.links_by_agent()
    profiles = {}
    for agent, size in zip(ids, sizes, strict=True):
        speed, device = devices[agent].batches_per_s, devices[agent]
        if device.flops_per_s is not None:
            speed = device.flops_per_s / (model.whole_flops * config.batch_size)
        if speed is None:
            raise InputError(f"{fleet.source}: agent {agent}", None, "must have flops_per_s or batches_per_s")
        profiles[agent] = Profile(
            agent=agent,
            batches_per_s=speed,
            num_batches=size * config.local_epochs / config.batch_size,
            links={peer: links[agent][peer] for peer in ids if peer != agent},
            memory_bytes=device.memory_bytes,
            nic_bytes_per_s=device.bytes_per_s or inf,
        )
    return profiles


def _generator(config: RunConfig, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(config.seed, SHARED, SHARED, purpose))
