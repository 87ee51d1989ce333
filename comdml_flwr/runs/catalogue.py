"""The one literal table: names in a configuration -> method, model, data.

Bring your own: the arguments of `peer_client_app` in an app of your own add names to the table for that app,
or take the place of what a name stands for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.program import Program
from comdml_flwr.core.user_functions import check_function
from comdml_flwr.learning.data.app_data import AppData
from comdml_flwr.learning.data.cifar import load_cifar
from comdml_flwr.learning.data.cinic import load_cinic
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.fashion import load_fashion
from comdml_flwr.learning.data.folder import load_folder
from comdml_flwr.learning.data.hub import PREFIX, HubSettings, load_hub
from comdml_flwr.learning.data.source import Place
from comdml_flwr.learning.models.cutting import CutModel
from comdml_flwr.learning.models.resnet import resnet
from comdml_flwr.methods import allreduce, braintorrent, comdml, dpsgd, fedavg, gossip, splitfed
from comdml_flwr.runs.run_data import RunData, data_of_app, data_set

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The names that a configuration may use, ours and those of your own app; or an app's one model and data.

    Parameters
    ----------
    models : Mapping[str, ModelBuilder]
        Added to `MODELS`.
    datasets : Mapping[str, DatasetLoader]
        Added to `DATASETS`.
    own_model : ModelBuilder, optional
        The model, whatever the configuration names.
    own_data : AppData, optional
        The data of each agent, whatever the configuration names.

    Raises
    ------
    InputError
        A builder or loader is no function, or one that cannot be called as it is going to be.
    """

    models: Mapping[str, ModelBuilder] = field(default_factory=dict)
    datasets: Mapping[str, DatasetLoader] = field(default_factory=dict)
    own_model: ModelBuilder | None = None
    own_data: AppData | None = None

    def __post_init__(self) -> None:
        own = {} if self.own_model is None else {"model": self.own_model}
        builders = {**own, **{f"models[{name!r}]": builder for name, builder in self.models.items()}}
        for what, builder in builders.items():
            if isinstance(builder, nn.Module):
                rule = "must be a function that builds it, so that each agent has one of its own"
                raise InputError(what, type(builder).__name__, rule)
            check_function(builder, what, "shape of a sample", "number of outputs", "generator")
        for name, loader in self.datasets.items():
            check_function(loader, f"datasets[{name!r}]", "config")

    def with_own_names(self, config: RunConfig) -> RunConfig:
        """Return the configuration with the names of the app's one model and data: those of its functions."""
        names: dict[str, str] = {}
        if self.own_model is not None:
            names["model"] = _name_of(self.own_model)
        if self.own_data is not None:
            names["dataset"] = _name_of(self.own_data.load)
        return config.model_copy(update=names)

    def check(self, config: RunConfig) -> None:
        """Raise InputError where the configuration names what does not exist."""
        tables: list[tuple[str, str, Collection[str]]] = [("method", config.method, METHODS)]
        if self.own_model is None:
            tables.append(("model", config.model, {**MODELS, **self.models}))
        if self.own_data is None:
            tables.append(("dataset", _listed(config.dataset), {**DATASETS, **self.datasets}))
        for key, name, table in tables:
            if name not in table:
                raise InputError(key, name, f"must be one of {', '.join(sorted(table))}")

    def model(self, name: str) -> ModelBuilder:
        """Return the builder of a model."""
        return self.own_model or {**MODELS, **self.models}[name]

    def loader(self, name: str) -> DatasetLoader:
        """Return the loader of a data set."""
        return {**DATASETS, **self.datasets}[_listed(name)]

    def load_data(
        self, config: RunConfig, ids: Sequence[int], places: Mapping[int, Place], warn: Callable[[str], None]
    ) -> RunData:
        """Load what a run learns from: the data set, or what the app gives to the agents of this process."""
        if self.own_data is not None:
            return data_of_app(config, self.own_data, places, warn)
        return data_set(
            config, ids, self.loader(config.dataset), is_ours=config.dataset not in self.datasets, warn=warn
        )


def _listed(dataset: str) -> str:
    return HUB if dataset.startswith(PREFIX) else dataset


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)
