"""A folder of images: any format, one size, sorted names; what is wrong is named in one line."""

import shutil
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data import folder as of_folder
from comdml_flwr.learning.data import images as of_images
from comdml_flwr.learning.data.folder import load_folder
from comdml_flwr.learning.data.images import decode_images

RNG = np.random.default_rng(3)


def noise(width=9, height=9, mode="RGB"):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)


def write(path, image, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture
def images(tmp_path):
    """Two classes with three training images and a test image each, the later names first."""
    for number in (2, 1, 0):
        for name in ("dog", "cat"):
            write(tmp_path / "train" / name / f"{number}.png", noise())
    for name in ("dog", "cat"):
        write(tmp_path / "test" / name / "0.png", noise())
    return tmp_path


def refusal(folder, **keys):
    with pytest.raises(InputError) as caught:
        load_folder(folder, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_are_read_in_the_order_of_names_and_standardised(images):
    data = load_folder(images)
    assert (data.name, data.num_classes, data.augment, data.input_shape) == ("folder", 2, False, (3, 9, 9))
    assert (data.y_train_N.tolist(), data.y_test_N.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1])
    names = [(name, number) for name in ("cat", "dog") for number in range(3)]
    pixels = np.stack([np.asarray(Image.open(images / "train" / name / f"{k}.png")) for name, k in names])
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255
    flat = scaled.transpose(0, 1).flatten(1)
    wanted = (scaled - flat.mean(1)[:, None, None]) / flat.std(1, correction=0)[:, None, None]
    assert torch.allclose(data.x_train_NCHW.double(), wanted, atol=1e-5)


def test_images_are_decoded_once_for_each_size(images, monkeypatch):
    first, decoded = load_folder(images), []

    def count(*given):
        decoded.append(given[-1])
        return decode_images(*given)

    monkeypatch.setattr(of_folder, "decode_images", count)
    assert torch.equal(load_folder(images).x_train_NCHW, first.x_train_NCHW)
    assert decoded == []
    assert load_folder(images, image_size=5).input_shape == (3, 5, 5)
    assert decoded == ["decoding train", "decoding test"]


@pytest.mark.parametrize(
    ("mode", "name", "how"),
    [
        ("RGB", "a.jpg", {"quality": 100, "subsampling": 0}),
        ("RGB", "a.webp", {"lossless": True}),
        ("RGB", "a.bmp", {}),
        ("RGBA", "a.png", {}),
        ("P", "a.gif", {}),
        ("L", "a.pgm", {}),
        ("LA", "a.png", {}),
        ("1", "a.png", {}),
        ("CMYK", "a.tif", {}),
        ("RGB", "without a suffix", {"format": "PNG"}),
    ],
)
def test_any_format_becomes_three_channels(images, mode, name, how):
    image = noise(mode=mode)
    write(images / "train" / "cat" / name, image, **how)
    data = load_folder(images)
    assert data.input_shape == (3, 9, 9)
    found = decode_images([("x", images / "train" / "cat" / name)], 1, 0, "")[0]
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB")).astype(int)).mean() < 4


def test_sixteen_bits_keep_the_upper_eight():
    values = RNG.integers(0, 2**16, (4, 4)).astype(np.uint16)
    raw = BytesIO()
    Image.fromarray(values).save(raw, "PNG")
    assert np.array_equal(decode_images([("x", raw.getvalue())], 1, 0, "")[0, ..., 0], values >> 8)


def test_a_picture_taken_sideways_is_turned_upright():
    image, raw = noise(6, 4), BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # of the camera: turn it by a quarter
    image.save(raw, "PNG", exif=exif)
    found = decode_images([("x", raw.getvalue())], 1, 0, "")[0]
    assert np.array_equal(found, np.asarray(image.transpose(Image.Transpose.ROTATE_270)))


def test_grey_images_alone_have_one_channel(images):
    for path in images.rglob("*.png"):
        noise(mode="L").save(path)
    assert load_folder(images).input_shape == (1, 9, 9)
    noise().save(images / "test" / "dog" / "0.png")
    assert load_folder(images).input_shape == (3, 9, 9)


def test_images_of_one_colour_are_no_division_by_zero(images):
    for path in images.rglob("*.png"):
        Image.new("RGB", (9, 9), "red").save(path)
    assert torch.isfinite(load_folder(images).x_train_NCHW).all()


def test_another_size_is_named_or_scaled_and_cropped(images):
    wide = images / "train" / "dog" / "1.png"
    noise(30, 12).save(wide)
    line = refusal(images)
    first = images / "train" / "cat" / "0.png"
    assert (
        line
        == f"image = '{wide}': is 30 x 12 pixels, and {first} is 9 x 9 pixels; image-size brings all to one"
    )
    assert load_folder(images, image_size=12).input_shape == (3, 12, 12)
    middle = decode_images([("x", wide)], 1, 12, "")[0]
    assert np.array_equal(middle, np.asarray(Image.open(wide))[:, 9:21])


def test_test_images_of_another_size_are_told(images):
    for path in (images / "test").rglob("*.png"):
        noise(5, 7).save(path)
    assert "is 5 x 7 pixels, and a training image 9 x 9; image-size brings" in refusal(images)


def test_what_is_hidden_and_windows_litter_does_not_matter(images):
    before = load_folder(images).x_train_NCHW
    for name in (
        ".DS_Store",
        "train/.DS_Store",
        "train/cat/.hidden.png",
        "train/dog/Thumbs.db",
        "test/note.txt",
    ):
        (images / name).write_text("")
    (images / "train" / "cat" / ".ipynb_checkpoints").mkdir()
    (images / "train" / ".cache").mkdir()
    assert torch.equal(load_folder(images).x_train_NCHW, before)


@pytest.mark.parametrize("share", [0.34, 0.9])
def test_without_a_test_part_a_share_of_each_class_is_held_out(images, share):
    shutil.rmtree(images / "test")
    assert refusal(images).startswith(
        f"dataset = 'folder {images}': has no test part; test-share = 0.2 holds"
    )
    data = load_folder(images, test_share=share)
    held = min(round(share * 3), 2)
    assert data.y_test_N.bincount().tolist() == [held, held]
    assert data.y_train_N.bincount().tolist() == [3 - held, 3 - held]
    assert torch.equal(load_folder(images, test_share=share).x_test_NCHW, data.x_test_NCHW)


def test_a_share_that_holds_out_nothing_is_refused(images):
    shutil.rmtree(images / "test")
    assert refusal(images, test_share=0.1) == "test-share = 0.1: holds out none of the 6 training samples"


def without(name):
    return lambda images: shutil.rmtree(images / name)


def torn(images):
    path = images / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without("train"), "must have train/CLASS/ with images, and train cannot be read (No such file"),
        (without("train/dog"), "must have a folder for each of two or more classes in train, not one (cat)"),
        (
            lambda images: [shutil.rmtree(images / "train" / name) for name in ("dog", "cat")],
            "train, not none",
        ),
        (lambda images: (images / "train" / "eel").mkdir(), "an image of each class, and train/eel has none"),
        (lambda images: (images / "test" / "eel").mkdir(), "has the class 'eel' in test, which train lacks"),
        (
            lambda images: [path.unlink() for path in (images / "test").rglob("*.png")],
            "must have an image in test, and has none",
        ),
        (torn, "train/cat/1.png': cannot be decoded ("),
        (
            lambda images: (images / "train" / "cat" / "notes.txt").write_text("x"),
            "notes.txt': cannot be decoded (",
        ),
        (lambda images: (images / "train" / "cat" / "more").mkdir(), "cat/more': must be a file: "),
        (
            lambda images: Image.fromarray(np.ones((9, 9), np.float32)).save(
                images / "test" / "cat" / "f.tif"
            ),
            "f.tif': has pixels of 32 bits (mode F), of no known range",
        ),
    ],
)
def test_what_is_wrong_is_one_line(images, spoil, says):
    spoil(images)
    assert says in refusal(images)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / "nowhere").startswith(
        f"data-dir = '{tmp_path}/nowhere': must have train/CLASS/"
    )


def test_an_image_that_would_fill_the_memory_is_named(images, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "cannot be decoded (Image size (81 pixels) exceeds limit" in refusal(images)


def test_few_images_are_decoded_in_silence(images, capfd):
    load_folder(images)
    assert capfd.readouterr() == ("", "")


def test_more_images_than_memory_holds_are_one_line(images):
    with pytest.raises(InputError) as caught:
        decode_images([("x", images / "test" / "cat" / "0.png")], 10**10, 4096, "")
    assert str(caught.value).startswith("images = '10000000000 of 4096 x 4096 pixels': are ")
    assert str(caught.value).endswith("more than memory holds; image-size makes them smaller")


def test_many_images_show_a_bar_in_a_terminal(images, monkeypatch, capfd):
    monkeypatch.setattr(of_images, "SHOWN_FROM", 1)
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes standard error for a terminal
    load_folder(images)
    out, err = capfd.readouterr()
    assert (out, "decoding train" in err, "decoding test" in err) == ("", True, True)
