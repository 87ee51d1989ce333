"""Data sets, batches, augmentation and partitions: real, complete, and the same for the same seed."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.batches import augment, batches, epoch_sizes
from comdml_flwr.learning.data.cifar import load_cifar
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.partition import partition
from comdml_flwr.learning.repair import share_out
from tests.published import write_cifar

TRAIN_SIZE = 1437


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def digit_labels() -> NDArray[np.int64]:
    return load_digits().y_train_N.numpy()


def test_digits_are_all_there_and_standardised_by_the_training_part() -> None:
    digits = load_digits()
    assert digits.input_shape == (1, 8, 8)
    assert (digits.x_train_NCHW.shape, digits.x_test_NCHW.shape) == ((TRAIN_SIZE, 1, 8, 8), (360, 1, 8, 8))
    assert (digits.x_train_NCHW.dtype, digits.y_test_N.dtype) == (torch.float32, torch.int64)
    assert digits.x_train_NCHW.mean().item() == pytest.approx(0, abs=1e-5)
    assert digits.x_train_NCHW.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.bincount(digits.y_test_N).min() >= 34
    assert not digits.augment


def test_test_digits_are_fixed_and_none_of_them_is_trained_on() -> None:
    from sklearn.datasets import load_digits as load_bunch

    digits = load_digits()
    trained = {x.numpy().tobytes() for x in digits.x_train_NCHW}
    assert not any(x.numpy().tobytes() in trained for x in digits.x_test_NCHW)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = load_digits.__wrapped__()
    assert torch.equal(again.x_test_NCHW, digits.x_test_NCHW)
    assert torch.equal(again.y_train_N, digits.y_train_N)
    assert digits.y_test_N[:8].tolist() == [7, 6, 3, 7, 7, 3, 2, 8]
    assert len(digits.y_train_N) + len(digits.y_test_N) == len(load_bunch().target)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_cifar_is_read_from_its_published_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_classes: int
) -> None:
    pixels = write_cifar(tmp_path, num_classes, monkeypatch)
    data = load_cifar(tmp_path, num_classes)
    assert (data.name, data.num_classes, data.augment) == (f"cifar-{num_classes}", num_classes, True)
    assert data.x_train_NCHW.shape == (len(pixels), 3, 32, 32)
    assert data.x_test_NCHW.shape == (4, 3, 32, 32)
    assert (data.x_train_NCHW.dtype, data.y_train_N.dtype) == (torch.float32, torch.int64)
    restored_NCHW = pixels.reshape(-1, 3, 32, 32) / 255
    for channel in range(3):  # standardising is one affine map per channel
        slope, _ = np.polyfit(
            restored_NCHW[:, channel].ravel(), data.x_train_NCHW[:, channel].numpy().ravel(), 1
        )
        assert 3.5 < slope < 4.2
    brightest = restored_NCHW[:, 0].argmax()
    assert data.x_train_NCHW[:, 0].argmax() == brightest


def test_missing_cifar_names_the_folder_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data-dir = '.*nowhere': .*`download = true`"):
        load_cifar(tmp_path / "nowhere", 10)


def test_cifar_with_a_wrong_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, 10, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"torn")
    with pytest.raises(InputError, match="data-dir"):
        load_cifar(tmp_path, 10)


def test_only_ten_or_a_hundred_classes_of_cifar(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be 10 or 100"):
        load_cifar(tmp_path, 20)


def test_batches_cover_every_sample_once_per_epoch_in_a_fresh_order() -> None:
    order = batches(10, 4, 3, seeded())
    assert [len(batch) for batch in order] == [4, 4, 2] * 3
    epochs = torch.cat(order).reshape(3, 10)
    assert torch.equal(epochs.sort(1).values, torch.arange(10).expand(3, 10))
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(torch.cat(batches(10, 4, 3, seeded())), torch.cat(order))
    with pytest.raises(InputError, match="batch size = 0"):
        batches(10, 0, 1, seeded())


def test_augmentation_is_a_shift_and_a_mirror_of_each_image() -> None:
    x_NCHW = torch.randn(200, 3, 12, 12, generator=seeded())
    state = torch.get_rng_state()
    out_NCHW = augment(x_NCHW, seeded(2))
    assert out_NCHW.shape == x_NCHW.shape
    assert torch.equal(out_NCHW, augment(x_NCHW, seeded(2)))
    assert not torch.equal(out_NCHW, augment(x_NCHW, seeded(3)))
    assert torch.equal(torch.get_rng_state(), state)
    seen = {find_move(x, out) for x, out in zip(x_NCHW, out_NCHW, strict=True)}
    assert {flip for _, _, flip in seen} == {False, True}
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(9))


def find_move(x_CHW: torch.Tensor, out_CHW: torch.Tensor) -> tuple[int, int, bool]:
    """Find (top, left, flipped) by trying all crops of the padded image."""
    padded = torch.nn.functional.pad(x_CHW, (4, 4, 4, 4))
    height, width = x_CHW.shape[1:]
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + height, left : left + width]
            for flip in (False, True):
                if torch.equal(crop.flip(2) if flip else crop, out_CHW):
                    return top, left, flip
    raise AssertionError("not a crop of the image")


@pytest.mark.parametrize(("scheme", "alpha"), [("iid", 0.0), ("dirichlet", 0.3)])
def test_partition_gives_every_sample_to_one_agent(
    scheme: str, alpha: float, capfd: pytest.CaptureFixture[str]
) -> None:
    shards = partition(digit_labels(), 7, scheme=scheme, alpha=alpha, seed=3)
    assert len(shards) == 7
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(TRAIN_SIZE))
    assert all(shard.dtype == np.int64 and np.all(np.diff(shard) > 0) and len(shard) for shard in shards)
    assert capfd.readouterr() == ("", "")  # no progress bars


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_partition_depends_on_its_seed_alone(scheme: str) -> None:
    def shards(seed: int, global_seed: int) -> bytes:
        np.random.seed(global_seed)  # noqa: NPY002
        return pickle.dumps(partition(digit_labels(), 5, scheme=scheme, alpha=0.5, seed=seed))

    assert shards(3, 1) == shards(3, 2)
    assert shards(3, 1) != shards(4, 1)


def test_iid_shares_are_equal_and_mixed() -> None:
    labels = np.sort(digit_labels())
    shards = partition(labels, 10, scheme="iid", alpha=0.0, seed=1)
    assert {len(shard) for shard in shards} == {143, 144}
    assert all(len(np.unique(labels[shard])) == 10 for shard in shards)


def test_a_small_alpha_skews_more() -> None:
    labels = digit_labels()

    def skew(alpha: float) -> float:
        """Mean over the agents of the share of their most frequent label."""
        shards = partition(labels, 5, scheme="dirichlet", alpha=alpha, seed=1)
        return float(np.mean([np.bincount(labels[shard]).max() / len(shard) for shard in shards]))

    assert skew(0.1) > skew(1.0) > skew(100.0)
    assert skew(100.0) < 0.15


def test_iid_partition_is_the_one_of_flwr_datasets() -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import IidPartitioner

    shuffled = np.arange(TRAIN_SIZE)
    np.random.default_rng(8).shuffle(shuffled)
    reference = IidPartitioner(7)
    reference.dataset = Dataset.from_dict({"row": shuffled})
    for agent, shard in enumerate(partition(digit_labels(), 7, scheme="iid", alpha=0.5, seed=8)):
        assert sorted(reference.load_partition(agent)["row"]) == shard.tolist()


def test_dirichlet_partition_is_the_one_of_flwr_datasets() -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import DirichletPartitioner

    labels = digit_labels()
    reference = DirichletPartitioner(5, "label", 0.5, min_partition_size=1, seed=8)
    reference.dataset = Dataset.from_dict({"row": np.arange(len(labels)), "label": labels})
    for agent, shard in enumerate(partition(labels, 5, scheme="dirichlet", alpha=0.5, seed=8)):
        assert sorted(reference.load_partition(agent)["row"]) == shard.tolist()


@pytest.mark.parametrize(("alpha", "num_agents", "smallest"), [(0.01, 100, 1), (1e-4, 20, 1), (0.1, 100, 3)])
def test_a_partition_that_leaves_agents_without_samples_is_repaired(
    alpha: float, num_agents: int, smallest: int
) -> None:
    def shards(warn: Callable[[str], None]) -> list[NDArray[np.int64]]:
        return partition(
            digit_labels(),
            num_agents,
            scheme="dirichlet",
            alpha=alpha,
            seed=5,
            smallest=smallest,
            warn=warn,
        )

    lines: list[str] = []
    found = shards(lines.append)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(TRAIN_SIZE))
    assert min(map(len, found)) == smallest
    assert all(np.all(np.diff(shard) > 0) for shard in found)
    assert all(map(np.array_equal, found, shards(print)))
    assert len(lines) == 1
    assert re.match(rf"partition: alpha = {alpha:g} left \d+ of {num_agents} agents with ", lines[0])


def test_a_partition_that_gives_a_sample_to_each_is_not_touched() -> None:
    lines: list[str] = []
    partition(digit_labels(), 100, scheme="dirichlet", alpha=0.5, seed=1, warn=lines.append)
    assert lines == []


def test_samples_are_moved_from_the_largest_shares() -> None:
    parts = [np.arange(6), np.arange(6, 6), np.arange(6, 14), np.arange(14, 15)]
    shares, num_moved = share_out(parts, 3, seed=1)
    assert num_moved == 5
    assert [len(share) for share in shares] == [4, 3, 5, 3]
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(15))
    assert 14 in shares[3]


@pytest.mark.parametrize("num_samples", range(1, 12))
def test_a_last_batch_that_is_too_small_joins_the_one_before(num_samples: int) -> None:
    order = torch.cat(batches(num_samples, 4, 2, seeded()))
    found = batches(num_samples, 4, 2, seeded(), smallest=2)
    assert torch.equal(torch.cat(found), order)
    sizes = epoch_sizes(num_samples, 4, 2)
    assert [len(batch) for batch in found] == 2 * sizes
    assert num_samples == 1 or min(sizes) >= 2
    assert max(sizes) <= 5


@pytest.mark.parametrize(
    ("num_agents", "scheme", "alpha", "message"),
    [
        (0, "iid", 0.5, "number of agents = 0"),
        (41, "iid", 0.5, "must be from 1 to the 40 training samples"),
        (4, "sorted", 0.5, "partition = 'sorted': must be one of iid, linear, "),
        (4, "dirichlet", 0.0, "must be a finite number > 0"),
        (4, "dirichlet", float("nan"), "must be a finite number > 0"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_impossible_partition_is_refused(num_agents: int, scheme: str, alpha: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        partition(np.arange(40) % 10, num_agents, scheme=scheme, alpha=alpha, seed=1)
