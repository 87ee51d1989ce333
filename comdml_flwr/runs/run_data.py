"""What a run learns from: a data set that every node loads and takes its part of, or an app's own data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.learning.data.app_data import AppData, check_form, example_of, form_of
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.data.contract import check_data, check_tests
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.data.partition import labels_to_spread, partition
from comdml_flwr.learning.data.published_files import cinic_lack
from comdml_flwr.learning.data.source import AgentData, DataSource, Place, partitioned
from comdml_flwr.learning.structure import Nested, count_samples, take
from comdml_flwr.learning.task import Task

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each agent has.

    Parameters
    ----------
    load : DataSource
        Gives an agent its samples.
    num_samples : Mapping[int, int]
        How many training samples each agent has, as far as this process knows.
    num_own_tests : Mapping[int, int]
        How many test samples of its own, likewise; without those that evaluate a share of the same samples.
    num_shared_tests : int
        How many samples these share out, likewise.
    largest_batch : int
        The most samples that a batch may have.
    """

    load: DataSource
    num_samples: Mapping[int, int]
    num_own_tests: Mapping[int, int]
    num_shared_tests: int
    largest_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """What a run learns from, before it is known how small a batch its model can train.

    Parameters
    ----------
    task : Task
        What is learned.
    example : Nested
        Two training samples.
    target : Nested
        Their targets.
    same : Mapping[str, object]
        What all nodes must have alike, by name.
    share : Callable[[int], Shares]
        Gives the agents their shares: at least so many samples for each.
    """

    task: Task
    example: Nested
    target: Nested
    same: Mapping[str, object]
    share: Callable[[int], Shares]


def data_set(
    config: RunConfig, ids: Sequence[int], load: Callable[[RunConfig], Dataset], *, is_ours: bool, warn: Warn
) -> RunData:
    """Return a data set in memory, the same at all nodes.

    Parameters
    ----------
    config : RunConfig
        Of the run: it names the data set and how samples are spread.
    ids : Sequence[int]
        All agents, ascending.
    load : Callable[[RunConfig], Dataset]
        Loads it.
    is_ours : bool
        Whether its name is one of ours, and not an app's.
    warn : Callable[[str], None]
        Is told, in one line each, what is no fault but should be known.
    """
    loaded = load(config)
    if config.dataset == "cinic-10" and is_ours and (lack := cinic_lack(Path(config.data_dir))):
        warn(lack.says)
    dataset = check_data(loaded, config.dataset, num_agents=len(ids), warn=warn)

    def share(smallest: int) -> Shares:
        parts = partition(
            labels_to_spread(dataset, config.partition),
            len(ids),
            scheme=config.partition,
            alpha=config.alpha,
            classes_per_agent=config.classes_per_agent,
            shards_per_agent=config.shards_per_agent,
            natural_ids=None if dataset.natural_ids_N is None else dataset.natural_ids_N.numpy(),
            seed=derive_seed(config.seed, SHARED, SHARED, "partition"),
            smallest=smallest,
            warn=warn,
        )
        sizes = [epoch_sizes(len(part), config.batch_size, smallest) for part in parts]
        return Shares(
            load=partitioned(dataset, parts),
            num_samples={agent: len(part) for agent, part in zip(ids, parts, strict=True)},
            num_own_tests={},
            num_shared_tests=count_samples(dataset.y_test_N),
            largest_batch=max([config.batch_size, *map(max, sizes)]),
        )

    first_two = torch.arange(2) % count_samples(dataset.y_train_N)
    return RunData(
        task=dataset.to_learn(),
        example=take(dataset.x_train_NCHW, first_two),
        target=take(dataset.y_train_N, first_two),
        same=dataset.same_everywhere(),
        share=share,
    )


def data_of_app(config: RunConfig, app: AppData, places: Mapping[int, Place], warn: Warn) -> RunData:
    """Return the data that an app's own function gives to the agents of this process.

    Parameters
    ----------
    config : RunConfig
        Of the run.
    app : AppData
        The app's own.
    places : Mapping[int, Place]
        Of the agents of this process; at least one.
    warn : Callable[[str], None]
        Is told, in one line each, what is no fault but should be known.
    """
    load = app.source(warn)
    loaded = {agent: load(place) for agent, place in places.items()}
    is_all = len(places) == next(iter(places.values())).num_partitions  # else the ServerApp sees to it
    if is_all:
        check_tests((len(data.test), data.all_have_test) for data in loaded.values())
    by_place = {place.partition_id: loaded[agent] for agent, place in places.items()}
    first = next(iter(by_place))
    example, target = example_of(by_place[first].train)
    task, form = app.task.for_samples(example, target), form_of(example, target)
    # so agents of other processes are held against it:
    same = {"task": dict(task.facts), "a sample": form[0], "its target": form[1]}

    def share(smallest: int) -> Shares:
        def load_enough(place: Place) -> AgentData:
            data = by_place[place.partition_id] if place.partition_id in by_place else load(place)
            where = f"data of partition {place.partition_id}"
            if len(data.train) < smallest:
                rule = f"must be at least {smallest}: the model cannot train on fewer at once"
                raise InputError(f"{where}: training samples", len(data.train), rule)
            check_form(data.train, form, f"{where}: a training sample", f"as at partition {first}")
            return data

        return Shares(
            load=load_enough,
            num_samples={agent: len(load_enough(place).train) for agent, place in places.items()},
            num_own_tests={agent: len(data.test) for agent, data in loaded.items() if not data.all_have_test},
            num_shared_tests=max(
                (len(data.test) for data in loaded.values() if data.all_have_test), default=0
            ),
            largest_batch=config.batch_size + smallest - 1,  # nobody knows how many others have
        )

    return RunData(task=task, example=example, target=target, same=same, share=share)
