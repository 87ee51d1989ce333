"""Fashion-MNIST from its published files, wherever they lie; a broken file is named in one line."""

import gzip

import numpy as np
import pytest
import torch

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data import published_files
from comdml_flwr.learning.data.fashion import MEANS, STDS, load_fashion
from comdml_flwr.learning.data.published_files import FASHION_FILES
from tests.published import idx_bytes, write_fashion

IMAGES, LABELS, *_ = FASHION_FILES


@pytest.fixture(autouse=True)
def no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(published_files, "FASHION_OF_DEBIAN", tmp_path / "debian")


def refusal(folder):
    with pytest.raises(InputError) as caught:
        load_fashion(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["FashionMNIST/raw", ".", "debian"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_it_is_read_where_torchvision_debian_or_one_oneself_puts_it(tmp_path, place, ending):
    pixels, labels = write_fashion(tmp_path / place, ending)
    data = load_fashion(tmp_path)
    assert (data.name, data.num_classes, data.augment) == ("fashion-mnist", 10, False)
    assert (data.input_shape, len(data.y_test_N)) == ((1, 28, 28), 10)
    restored = (data.x_train_NCHW * STDS[0] + MEANS[0]) * 255
    assert np.array_equal(restored.round().byte().numpy()[:, 0], pixels)
    assert data.y_train_N.tolist() == labels.tolist()
    assert (data.x_train_NCHW.dtype, data.y_train_N.dtype) == (torch.float32, torch.int64)


def test_it_is_what_torchvision_reads(tmp_path):
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    write_fashion(tmp_path / "FashionMNIST" / "raw")
    recipe = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEANS, STDS)])
    for train, x_NCHW in (
        (True, load_fashion(tmp_path).x_train_NCHW),
        (False, load_fashion(tmp_path).x_test_NCHW),
    ):
        theirs = FashionMNIST(str(tmp_path), train=train, transform=recipe)
        assert torch.equal(torch.stack([x for x, _ in theirs]), x_NCHW)


def test_a_file_that_is_missing_is_named_where_the_others_are(tmp_path):
    write_fashion(tmp_path)
    (tmp_path / LABELS).unlink()
    says = f"Fashion-MNIST: {tmp_path} lacks {LABELS} (plain or .gz)"
    assert refusal(tmp_path) == f"data-dir = '{tmp_path}': {says}; to fetch them, set `download = true`"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (IMAGES, b"", "must begin with 00000803, as IDX files do, not "),
        (IMAGES, idx_bytes(np.zeros((20, 28, 28), np.uint8))[:-1], "must hold 20 x 28 x 28 values, as its"),
        (
            IMAGES,
            idx_bytes(np.zeros((20, 28, 28), np.uint8)) + b"\0",
            "must hold 20 x 28 x 28 values, as its",
        ),
        (IMAGES, idx_bytes(np.zeros((20, 28, 28), np.uint8))[:9], "must begin with 00000803"),
        (IMAGES, b"\0\0\x0d\x03" + bytes(12), "must begin with 00000803, as IDX files do, not 00000d03"),
        (
            IMAGES,
            idx_bytes(np.zeros(20, np.uint8)),
            "must begin with 00000803, as IDX files do, not 00000801",
        ),
        (IMAGES, idx_bytes(np.zeros((20, 28, 32), np.uint8)), "of 28 x 28 pixels, not 32 x 28"),
        (IMAGES, idx_bytes(np.zeros((19, 28, 28), np.uint8)), "as many images as "),
        (LABELS, idx_bytes(np.full(20, 10, np.uint8)), "must hold labels from 0 to 9, not 10"),
        (LABELS, idx_bytes(np.zeros((20, 1), np.uint8)), "must begin with 00000801"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path, name, content, says):
    write_fashion(tmp_path)
    (tmp_path / name).write_bytes(content)
    line = refusal(tmp_path)
    assert line.startswith(f"file = '{tmp_path / name}': ")
    assert says in line


def test_no_image_at_all_is_refused(tmp_path):
    write_fashion(tmp_path)
    (tmp_path / IMAGES).write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    (tmp_path / LABELS).write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    assert "must hold labels from 0 to 9, not none at all" in refusal(tmp_path)


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:-9], lambda raw: raw[:40] + b"\xff" * 8 + raw[48:], lambda raw: b"no"]
)
def test_a_torn_archive_is_named(tmp_path, spoil):
    write_fashion(tmp_path, ".gz")
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert refusal(tmp_path).startswith(f"file = '{path}': cannot be read (")
    path.write_bytes(gzip.compress(b"no"))
    assert refusal(tmp_path).startswith(f"file = '{path}': must begin with ")
