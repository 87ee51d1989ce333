"""CINIC-10 from its published layout: the same bits everywhere, or one line that says what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data import cinic, published_files
from comdml_flwr.learning.data.cinic import CLASSES, MEANS, STDS, load_cinic
from tests.published import write_cinic

IMAGE = Path("CINIC-10", "train", "bird", "n02708555_1.png")


def test_train_and_test_are_read_in_the_order_of_the_names(tmp_path):
    pixels = write_cinic(tmp_path)
    data = load_cinic(tmp_path)
    assert (data.name, data.num_classes, data.augment) == ("cinic-10", 10, True)
    assert data.input_shape == (3, 32, 32)
    for part, x_NCHW, y_N in (
        ("train", data.x_train_NCHW, data.y_train_N),
        ("test", data.x_test_NCHW, data.y_test_N),
    ):
        restored_NCHW = x_NCHW * torch.tensor(STDS)[:, None, None] + torch.tensor(MEANS)[:, None, None]
        found = (restored_NCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        assert np.array_equal(found.numpy(), pixels[part])
        assert y_N.tolist() == [label for label in range(10) for _ in range(2)]
        assert (x_NCHW.dtype, y_N.dtype) == (torch.float32, torch.int64)
        assert x_NCHW.is_contiguous()


def test_it_is_what_the_authors_recipe_reads(tmp_path):
    """ImageFolder, ToTensor and Normalize, as in the data set's README; a gray image among the others."""
    write_cinic(tmp_path)
    gray = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / IMAGE)
    recipe = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEANS, STDS)])
    images = ImageFolder(str(tmp_path / "CINIC-10" / "train"), transform=recipe)
    data = load_cinic(tmp_path)
    assert images.classes == list(CLASSES), "sorted by name, as CIFAR-10's labels are"
    assert torch.equal(torch.stack([x for x, _ in images]), data.x_train_NCHW)
    assert images.targets == data.y_train_N.tolist()


def test_what_is_no_image_file_does_not_matter(tmp_path):
    write_cinic(tmp_path)
    before = load_cinic(tmp_path)
    base = tmp_path / "CINIC-10"
    (base / "README.md").write_text("as in the archive")
    (base / "train" / ".DS_Store").write_text("")
    (base / "train" / "bird" / "Thumbs.db").write_text("")
    (base / "train" / ".ipynb_checkpoints").mkdir()
    shutil.rmtree(base / "valid")
    after = load_cinic(tmp_path)
    assert torch.equal(before.x_train_NCHW, after.x_train_NCHW)


def test_images_are_decoded_once_and_anew_when_a_file_changes(tmp_path, monkeypatch):
    pixels = write_cinic(tmp_path)
    first, decoded = load_cinic(tmp_path), []
    decode = cinic._decode
    monkeypatch.setattr(cinic, "_decode", lambda paths: decoded.append(len(paths)) or decode(paths))
    again = load_cinic(tmp_path)
    assert decoded == []
    assert torch.equal(again.x_train_NCHW, first.x_train_NCHW)
    assert torch.equal(again.x_test_NCHW, first.x_test_NCHW)

    Image.fromarray(255 - pixels["train"][5]).save(tmp_path / IMAGE)
    changed = load_cinic(tmp_path)
    assert decoded == [20], "the training part only"
    differ = [not torch.equal(x, y) for x, y in zip(first.x_train_NCHW, changed.x_train_NCHW, strict=True)]
    assert differ.index(True) == 5
    assert sum(differ) == 1


@pytest.mark.parametrize("lacking", ["", "CINIC-10/train", "CINIC-10/test"])
def test_a_missing_part_names_the_folder_and_the_cure(tmp_path, lacking):
    if lacking:
        write_cinic(tmp_path)
        shutil.rmtree(tmp_path / lacking)
    line = refusal(tmp_path)
    part = lacking or "CINIC-10/train"
    says = f"CINIC-10: {tmp_path}/{part}/airplane lacks 9,000 of 9,000 images"
    assert line.startswith(f"data-dir = '{tmp_path}': {says} (and ")
    assert "unpack CINIC-10.tar.gz of doi 10.7488/ds/2448 into the folder CINIC-10 there" in line


@pytest.mark.parametrize("emptied", [True, False])
def test_a_class_without_images_is_named(tmp_path, emptied, monkeypatch):
    write_cinic(tmp_path)
    folder = tmp_path / "CINIC-10" / "test" / "horse"
    shutil.rmtree(folder)
    if emptied:
        folder.mkdir()
    monkeypatch.setattr(published_files, "CINIC_IMAGES", 2)
    says = f"CINIC-10: {folder} lacks 2 of 2 images; unpack"
    assert refusal(tmp_path).startswith(f"data-dir = '{tmp_path}': {says}")


def torn(path):
    path.write_bytes(path.read_bytes()[:1000])


def one_bit(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def header(path):
    raw = path.read_bytes()
    path.write_bytes(raw[:16] + b"\0\0\0\0" + raw[20:])


@pytest.mark.parametrize("spoil", [torn, one_bit, header, lambda path: path.write_bytes(b"")])
def test_a_corrupt_image_is_named(tmp_path, spoil):
    write_cinic(tmp_path)
    spoil(tmp_path / IMAGE)
    line = refusal(tmp_path)
    assert line.startswith(f"image = '{tmp_path / IMAGE}': cannot be decoded (")
    assert not list((tmp_path / "CINIC-10").glob("*train*npz*")), "nothing half-written"


@pytest.mark.parametrize(
    ("mode", "size", "kind", "found"),
    [
        ("RGB", (33, 32), "PNG", "33 x 32 pixels, mode RGB"),
        ("L", (32, 16), "PNG", "32 x 16 pixels, mode L"),
        ("RGBA", (32, 32), "PNG", "32 x 32 pixels, mode RGBA"),
        ("I;16", (32, 32), "PNG", "32 x 32 pixels, mode I;16"),
    ],
)
def test_another_kind_of_image_is_named(tmp_path, mode, size, kind, found):
    write_cinic(tmp_path)
    Image.new(mode, size).save(tmp_path / IMAGE, kind)
    rule = f"must be a PNG of 32 x 32 pixels, RGB or gray, not {found}"
    assert refusal(tmp_path) == f"image = '{tmp_path / IMAGE}': {rule}"


def test_a_jpeg_under_a_png_name_is_named(tmp_path):
    write_cinic(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / IMAGE, "JPEG")
    assert refusal(tmp_path).startswith(f"image = '{tmp_path / IMAGE}': cannot be decoded (")


def refusal(folder):
    with pytest.raises(InputError) as caught:
        load_cinic(folder)
    line = str(caught.value)
    assert "\n" not in line
    return line
