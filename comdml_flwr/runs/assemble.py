"""The one literal table: names in a configuration -> method, model, data; and the set-up of a run from them.

Bring your own: `assemble(..., models={...}, datasets={...})`, or the same arguments of `peer_client_app` and
`peer_server_app` in an app of your own, add names to the table for that app.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.program import Program
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.core.user_code import naming_user_code
from comdml_flwr.learning.codec import ActivationCodec, Cast, Plain
from comdml_flwr.learning.cut_profile import ModelProfile, profile_model
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.data.cifar import load_cifar
from comdml_flwr.learning.data.cinic import load_cinic
from comdml_flwr.learning.data.contract import check_data
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.fashion import load_fashion
from comdml_flwr.learning.data.folder import load_folder
from comdml_flwr.learning.data.hub import PREFIX, HubSettings, load_hub
from comdml_flwr.learning.data.partition import labels_to_spread, partition
from comdml_flwr.learning.data.published_files import cinic_lack
from comdml_flwr.learning.data.source import partitioned
from comdml_flwr.learning.devices import find_device
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.metrics import check_target
from comdml_flwr.learning.models.builder import BuiltModel, build_model
from comdml_flwr.learning.models.contract import ModelTraits
from comdml_flwr.learning.models.cutting import CutModel
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import num_cuts, num_floats, split, write_floats
from comdml_flwr.learning.state_layout import layout_of
from comdml_flwr.learning.structure import count_samples, take
from comdml_flwr.learning.tasks.heads import with_head
from comdml_flwr.methods import allreduce, braintorrent, comdml, dpsgd, fedavg, gossip, splitfed
from comdml_flwr.planning.fleet.fleet import Fleet, TimeShares
from comdml_flwr.planning.fleet.profiles import profiles_by_round
from comdml_flwr.planning.types import SERVER, Cut, CutTable

ModelBuilder: TypeAlias = Callable[[tuple[int, ...], int, torch.Generator], nn.Module | CutModel]
"""(input shape of a sample, number of classes, generator) -> model.

An `nn.Sequential` is a chain of stages as it stands: cut m leaves out the last m. Any other module is cut by
its graph (learning/models/cutting.py)."""
ChainBuilder: TypeAlias = Callable[[tuple[int, ...], int, torch.Generator], nn.Sequential]

DatasetLoader: TypeAlias = Callable[[RunConfig], Dataset]


SERVERLESS: Mapping[str, Callable[[RunConfig, int], Program[Agent]]] = {
    "comdml": lambda config, num_agents: comdml.program(config.num_chunks, config.averaging),
    "allreduce": lambda config, num_agents: allreduce.program(),
    "gossip": lambda config, num_agents: gossip.program(),
    "braintorrent": lambda config, num_agents: braintorrent.program(
        max(1, round(config.participation * num_agents))
    ),
    "dpsgd": lambda config, num_agents: dpsgd.program(),
}
"""(configuration, number of agents) -> one round. A ServerApp, which has no data, knows it as well."""
WITH_SERVER: Mapping[str, Callable[[RunConfig, int], Program[Agent]]] = {
    "fedavg": lambda config, num_batches: fedavg.program(),
    "splitfed": lambda config, num_batches: splitfed.program(config.splitfed_version, num_batches),
}
"""(configuration, most batches of an agent in a round) -> one round. Whoever plays the server has data."""
METHODS = (*SERVERLESS, *WITH_SERVER)
MODELS: Mapping[str, ChainBuilder] = {
    "resnet-56": partial(resnet, blocks_per_group=3),
    "resnet-110": partial(resnet, blocks_per_group=6),
}
HUB = f"{PREFIX}NAME"
"""Stands for all names of data sets that begin with `hf:`."""
DATASETS: Mapping[str, DatasetLoader] = {
    "digits": lambda config: load_digits(),
    "cifar-10": lambda config: load_cifar(Path(config.data_dir), 10, download=config.download),
    "cifar-100": lambda config: load_cifar(Path(config.data_dir), 100, download=config.download),
    "cinic-10": lambda config: load_cinic(Path(config.data_dir)),
    "fashion-mnist": lambda config: load_fashion(Path(config.data_dir), download=config.download),
    "folder": lambda config: load_folder(Path(config.data_dir), config.image_size, config.test_share),
    HUB: lambda config: load_hub(
        config.dataset,
        HubSettings(
            label_column=config.label_column,
            partition_by=config.partition_by if config.partition == "natural-id" else "",
            image_size=config.image_size,
            test_share=config.test_share,
        ),
    ),
}
CODEC: ActivationCodec = Plain()
"""How activations travel in float32."""


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
            ("dataset", _listed(config.dataset), {**DATASETS, **self.datasets}),
        ):
            if name not in table:
                raise InputError(key, name, f"must be one of {', '.join(sorted(table))}")

    def model(self, name: str) -> ModelBuilder:
        """Return the builder of a model."""
        return {**MODELS, **self.models}[name]

    def dataset(self, name: str) -> DatasetLoader:
        """Return the loader of a data set."""
        return {**DATASETS, **self.datasets}[_listed(name)]


def _listed(dataset: str) -> str:
    return HUB if dataset.startswith(PREFIX) else dataset


def agent_ids(fleet: Fleet, num_agents: int) -> tuple[int, ...]:
    """Return the ids of the agents of a run: the first `num_agents` of the fleet, ascending."""
    ids = sorted(agent.id for agent in fleet.agents)
    if num_agents > len(ids):
        raise InputError(
            "fleet", fleet.source, f"has {len(ids)} agents, too few for {num_agents} (one for each SuperNode)"
        )
    return tuple(ids[:num_agents])


def cut_table(
    profile: ModelProfile, batch_size: int, fleet: Fleet | None = None, parted: Collection[int] = ()
) -> CutTable:
    """Return what the planner needs of a model: shares of the work, bytes with the targets, memory.

    Shares are those of the time where the fleet has measured them, otherwise of the FLOPs. The cuts in
    `parted` are no plan's: each of them would part a weight that two stages share.

    Raises
    ------
    InputError
        The fleet's time shares are of a model with another number of cuts.
    """
    shares = [
        TimeShares(
            slow_share=cut.slow_flops / profile.whole_flops, fast_share=cut.fast_flops / profile.whole_flops
        )
        for cut in profile.cuts
    ]
    if fleet is not None and fleet.time_shares:
        if len(fleet.time_shares) != len(shares):
            what, rule = (
                f"{fleet.source}: time_shares",
                f"must be one for each of the model's {len(shares)} cuts",
            )
            raise InputError(what, f"{len(fleet.time_shares)} entries", rule)
        shares = list(fleet.time_shares)
    return CutTable(
        Cut(
            slow_share=share.slow_share,
            fast_share=share.fast_share,
            bytes_per_batch=batch_size * (cut.activation_bytes + profile.target_bytes),
            slow_bytes=cut.slow_peak_bytes,
            fast_bytes=cut.fast_peak_bytes,
            whole_bytes=profile.peak_bytes,
            is_possible=cut.cut not in parted,
        )
        for cut, share in zip(profile.cuts, shares, strict=True)
    )


def codec_of(config: RunConfig) -> ActivationCodec:
    """Return how the activations of a run travel: in the type of its precision."""
    return CODEC if config.precision == "float32" else Cast(config.precision)


def program_of(setup: Setup) -> Program[Agent]:
    """Return one round of the method of a run."""
    return _program(setup.config, len(setup.ids), setup.most_batches)


def _program(config: RunConfig, num_agents: int, num_batches: int) -> Program[Agent]:
    if config.method in WITH_SERVER:
        return WITH_SERVER[config.method](config, num_batches)
    return SERVERLESS[config.method](config, num_agents)


def participants_of(setup: Setup) -> tuple[Agent, ...]:
    """Return all agents of a run, and its server if it has one, as they begin."""
    server = (SERVER,) if program_of(setup).has_server else ()
    return tuple(Agent(agent, setup) for agent in (*server, *setup.ids))


@naming_user_code()
def assemble(config: RunConfig, fleet: Fleet, num_agents: int, catalogue: Catalogue | None = None) -> Setup:
    """Build what all agents of a run share: data, partition, model, cuts, profiles, initial weights.

    Raises
    ------
    InputError
        A name, a value or a file that the run needs is wrong; nothing has been trained yet.
    RunError
        A loader, a model builder or a stage of the model fails: with the user's file and line.
    """
    catalogue = catalogue or Catalogue()
    catalogue.check(config)
    device = find_device(config.device, config.precision, is_deterministic=config.deterministic)
    codec = codec_of(config)
    ids = agent_ids(fleet, num_agents)
    warnings: list[str] = []
    loaded = catalogue.dataset(config.dataset)(config)
    if config.dataset == "cinic-10" and config.dataset not in catalogue.datasets:
        warnings += [lack.says for lack in [cinic_lack(Path(config.data_dir))] if lack]
    dataset = check_data(loaded, config.dataset, num_agents=num_agents, warn=warnings.append)
    task = with_head(dataset.to_learn(), config.aux_head)
    check_target(config.target_metric, task.metrics)
    built = build_model(
        partial(catalogue.model(config.model), task.input_shape, task.num_outputs),
        config.model,
        take(dataset.x_train_NCHW, torch.arange(2) % count_samples(dataset.y_train_N)),
        task,
        partial(derive_seed, config.seed, SHARED, SHARED),
        warnings.append,
    )
    check_cuts(config, built)
    check_batch_size(config, built.traits)
    parts = partition(
        labels_to_spread(dataset, config.partition),
        num_agents,
        scheme=config.partition,
        alpha=config.alpha,
        classes_per_agent=config.classes_per_agent,
        shards_per_agent=config.shards_per_agent,
        natural_ids=None if dataset.natural_ids_N is None else dataset.natural_ids_N.numpy(),
        seed=derive_seed(config.seed, SHARED, SHARED, "partition"),
        smallest=built.traits.smallest_batch,
        warn=warnings.append,
    )
    num_samples = {agent: len(part) for agent, part in zip(ids, parts, strict=True)}
    epochs = [epoch_sizes(len(part), config.batch_size, built.traits.smallest_batch) for part in parts]
    program = _program(config, num_agents, max(map(len, epochs)) * config.local_epochs)
    largest_batch = max([config.batch_size, *(max(sizes) for sizes in epochs)])
    profile = profile_model(built.model, task, largest_batch, codec)
    heads = {
        cut.cut: task.aux_head(cut.activation_shape, _generator(config, f"aux head {cut.cut}"))
        for cut in profile.cuts
    }
    return Setup(
        config=config,
        ids=ids,
        profiles_at=profiles_by_round(
            config,
            fleet,
            num_samples,
            batch_flops=profile.whole_flops * config.batch_size,
            has_server=program.has_server,
            needs_links=program.needs_links,
        ),
        relay=fleet.relay,
        task=task,
        load_data=partitioned(dataset, parts),
        same_data=dataset.same_everywhere(),
        num_samples=num_samples,
        codec=codec,
        cuts=cut_table(profile, config.batch_size, fleet, built.traits.parted),
        traits=built.traits,
        device=device,
        learners=LearnerPool(
            built.build,
            lambda cut: task.aux_head(profile.cuts[cut].activation_shape, torch.Generator()),
            optimizer_settings(config),
            task,
            device,
        ),
        layout=layout_of(built.model),
        initial_weights_P=write_floats(built.model),
        initial_aux_heads={cut: write_floats(head) for cut, head in heads.items()},
        fast_floats=ByCut(num_floats(split(built.model, cut.cut)[1]) for cut in profile.cuts),
        slots=program.slots,
        availability=fleet.availability,
        warnings=tuple(warnings),
    )


def check_cuts(config: RunConfig, built: BuiltModel) -> None:
    """Refuse a model that the method cannot cut as it has to.

    Raises
    ------
    InputError
        It has no such cut, or the cut would part a weight that stages share.
    """
    num, parted = num_cuts(built.model), built.traits.parted
    if config.method == "comdml" and len(parted) == num:
        why = f"each parts {parted[num]}" if num else built.traits.uncut or "it has one stage"
        rule = f"must have a cut for comdml ({why}); method = allreduce trains it whole"
        raise InputError("model", config.model, rule)
    if config.method == "splitfed" and config.cut > num:
        raise InputError("cut", config.cut, f"must be at most {num}, the cuts of {config.model}")
    if config.method == "splitfed" and config.cut in parted:
        raise InputError("cut", config.cut, f"must not part a shared weight: {parted[config.cut]}")


def check_batch_size(config: RunConfig, traits: ModelTraits) -> None:
    """Refuse batches of one sample for a model that cannot train on them."""
    if config.batch_size < traits.smallest_batch:
        rule = f"must be at least {traits.smallest_batch}: {traits.alone} cannot train on one sample"
        raise InputError("batch-size", config.batch_size, rule)


def optimizer_settings(config: RunConfig) -> OptimizerSettings:
    """Return the optimizer that every agent begins a round with."""
    return OptimizerSettings(
        name=config.optimizer,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_norms=config.decay_norms,
        clip_norm=config.clip_norm,
    )


def _generator(config: RunConfig, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(config.seed, SHARED, SHARED, purpose))
