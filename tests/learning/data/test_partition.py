"""The partitions of flwr_datasets by their names: the same shares, complete or told what is not."""

import pickle

import numpy as np
import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.partition import partition

SCHEMES = ["linear", "square", "exponential", "inner-dirichlet", "shard", "pathological", "natural-id"]
LABELS = load_digits().y_train_N.numpy()[:600]
IDS = np.random.default_rng(7).integers(100, 123, len(LABELS))


def shares(scheme, num_agents=12, seed=3, labels=LABELS, natural_ids=IDS, **keys):
    return partition(
        labels, num_agents, scheme=scheme, seed=seed, **{"alpha": 0.5, **keys}, natural_ids=natural_ids
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.filterwarnings("error")
def test_every_sample_goes_to_one_agent_or_it_is_told_which_do_not(scheme, capfd):
    told = []
    found = shares(scheme, warn=told.append)
    assert all(len(share) and share.dtype == np.int64 and np.all(np.diff(share) > 0) for share in found)
    given = np.concatenate(found)
    assert len(np.unique(given)) == len(given)
    left = len(LABELS) - len(given)
    says = [line for line in told if "leaves out" in line]
    assert says == ([f"partition: {scheme} leaves out {left} of 600 training samples"] if left else [])
    assert left == 0 or scheme == "shard"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_seed_alone_decides(scheme):
    def drawn(seed, global_seed):
        np.random.seed(global_seed)  # noqa: NPY002
        return pickle.dumps(shares(scheme, seed=seed))

    assert drawn(3, 1) == drawn(3, 2)
    assert (drawn(3, 1) == drawn(4, 1)) == (scheme == "natural-id")


def reference(scheme, num_agents):
    from flwr_datasets import partitioner as of_flower

    by = {"num_partitions": num_agents, "partition_by": "label", "seed": 3}
    sizes = [len(share) for share in np.array_split(LABELS, num_agents)]
    return {
        "linear": lambda: of_flower.LinearPartitioner(num_agents),
        "square": lambda: of_flower.SquarePartitioner(num_agents),
        "exponential": lambda: of_flower.ExponentialPartitioner(num_agents),
        "inner-dirichlet": lambda: of_flower.InnerDirichletPartitioner(sizes, "label", 0.5, seed=3),
        "shard": lambda: of_flower.ShardPartitioner(**by, num_shards_per_partition=2),
        "pathological": lambda: of_flower.PathologicalPartitioner(
            **by, num_classes_per_partition=2, class_assignment_mode="first-deterministic"
        ),
        "natural-id": lambda: of_flower.GroupedNaturalIdPartitioner(
            "id", 23 // num_agents, mode="allow-bigger", sort_unique_ids=True
        ),
    }[scheme]()


@pytest.mark.parametrize("num_agents", [3, 5])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_shares_are_those_of_flwr_datasets(scheme, num_agents):
    """Those of sizes cut a data set into ranges, as it is; we shuffle it first, as `iid` does."""
    from datasets import Dataset

    theirs = reference(scheme, num_agents)
    rows = np.arange(len(LABELS))
    if scheme in ("linear", "square", "exponential"):
        np.random.default_rng(3).shuffle(rows)
    theirs.dataset = Dataset.from_dict({"row": rows, "label": LABELS[rows], "id": IDS[rows].astype(str)})
    for agent, share in enumerate(shares(scheme, num_agents)):
        assert sorted(theirs.load_partition(agent)["row"]) == share.tolist()


def test_sizes_grow_with_the_agents_number_and_labels_are_mixed():
    in_order = np.sort(LABELS)
    for scheme, last in (("linear", 600 * 4 / 10), ("square", 600 * 16 / 30), ("exponential", 600 * 0.644)):
        found = shares(scheme, 4, labels=in_order)
        sizes = [len(share) for share in found]
        assert sizes == sorted(sizes)
        assert sizes[-1] == pytest.approx(last, abs=4)
        assert len(np.unique(in_order[found[-1]])) == 10, "a folder sorted by class is shuffled first"


def test_each_agent_has_as_many_labels_as_it_is_told():
    for classes in (1, 3, 10):
        found = shares("pathological", 12, classes_per_agent=classes)
        assert {len(np.unique(LABELS[share])) for share in found} == {classes}
    few_shards, many = (
        np.mean([len(np.unique(LABELS[share])) for share in shares("shard", 5, shards_per_agent=num)])
        for num in (1, 8)
    )
    assert few_shards < 4 < many


def test_labels_that_nobody_has_are_named():
    told = []
    found = shares("pathological", 2, classes_per_agent=2, warn=told.append)
    kept = np.unique(LABELS[np.concatenate(found)])
    lost = ", ".join(str(label) for label in range(10) if label not in kept)
    assert len(told) == 1
    assert told[0].endswith(f"of 600 training samples, all of the labels {lost} among them")


def test_samples_of_one_person_stay_together():
    found = shares("natural-id", 5)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(600))
    owners = [set(IDS[share]) for share in found]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 23
    assert {len(some) for some in owners} == {4, 5}


def test_an_agent_that_a_scheme_leaves_without_samples_gets_some():
    told = []
    found = shares("exponential", 30, smallest=2, warn=told.append)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(600))
    assert min(map(len, found)) == 2
    assert len(told) == 1
    assert told[0].startswith("partition: exponential left 24 of 30 agents with too few samples: they got ")
    assert min(map(len, shares("exponential", 599))) == 1, "numbers of agents whose exponential is infinite"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"scheme": "shard", "shards_per_agent": 51}, "shards-per-agent = 51: must be at most 50"),
        ({"scheme": "pathological", "classes_per_agent": 11}, "classes-per-agent = 11: must be at most 10,"),
        (
            {"scheme": "pathological", "num_agents": 600},
            "classes-per-agent = 2: is too many for 600 agents: Label: ",
        ),
        ({"scheme": "natural-id", "num_agents": 24}, "number of agents = 24: must be at most 23"),
        ({"scheme": "natural-id", "natural_ids": None}, "partition = 'natural-id': needs a data set that "),
        ({"scheme": "inner-dirichlet", "alpha": 0.0}, "alpha of the Dirichlet partition = 0.0: must be"),
    ],
)
def test_what_cannot_be_is_one_line(keys, line):
    with pytest.raises(InputError) as caught:
        shares(**keys)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
