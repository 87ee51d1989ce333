"""Data sets of the Hugging Face hub's kind, from folders; without a network a name is one line."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, DatasetDict, Features, Image, Sequence, Value
from datasets import Dataset as Table
from PIL import Image as Pillow

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.hub import HubSettings, folder_of, load_hub
from comdml_flwr.learning.data.partition import partition

LABELS = [0, 1, 0, 1, 0, 1]
CLASSES = ClassLabel(names=["cat", "dog"])


def table(labels=tuple(LABELS), feature=CLASSES, seed=0, side=6, **more):
    rng = np.random.default_rng(seed)
    images = [Pillow.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in labels]
    columns = {"img": images, "label": list(labels), **{name: values for name, (values, _) in more.items()}}
    kinds = {"img": Image(), "label": feature, **{name: kind for name, (_, kind) in more.items()}}
    return Table.from_dict(columns, features=Features(kinds))


def saved(tmp_path, **parts):
    DatasetDict(parts or {"train": table(), "test": table(seed=1)}).save_to_disk(str(tmp_path / "set"))
    return f"hf:{tmp_path / 'set'}"


def refusal(name, **settings):
    with pytest.raises(InputError) as caught:
        load_hub(name, HubSettings(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_columns_of_images_and_labels_are_found(tmp_path):
    name = saved(tmp_path)
    data = load_hub(name, HubSettings())
    assert (data.name, data.num_classes, data.augment, data.input_shape) == (name, 2, False, (3, 6, 6))
    assert (data.y_train_N.tolist(), data.y_test_N.tolist()) == (LABELS, LABELS)
    pixels = np.stack([np.asarray(image) for image in table()["img"][:]]).astype(np.float64)
    scaled = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    assert torch.allclose(data.x_train_NCHW.double(), torch.from_numpy(scaled).permute(0, 3, 1, 2), atol=1e-5)
    again = load_hub(name, HubSettings())
    assert torch.equal(again.x_test_NCHW, data.x_test_NCHW), "now from the pixels that were kept"
    assert len(list((tmp_path / "set").rglob("*.pixels.npz"))) == 2
    assert load_hub(name, HubSettings(image_size=5)).input_shape == (3, 5, 5)


def test_the_folder_of_flwr_datasets_create_is_one_set_and_knows_its_partitions(tmp_path):
    for number in range(12):
        table([0, 1, 0, 1], seed=number).save_to_disk(str(tmp_path / f"partition_{number}"))
    name = f"hf:{tmp_path}"
    assert "has no test part" in refusal(name)
    data = load_hub(name, HubSettings(test_share=0.5))
    assert (len(data.y_train_N), len(data.y_test_N)) == (24, 24), "half of each partition"
    shares = partition(
        data.y_train_N.numpy(),
        12,
        scheme="natural-id",
        alpha=1,
        seed=1,
        natural_ids=data.natural_ids_N.numpy(),
    )
    assert [set(data.natural_ids_N[share].tolist()) for share in shares] == [{number} for number in range(12)]


def test_one_partition_alone_is_a_set_without_a_test_part(tmp_path):
    table().save_to_disk(str(tmp_path / "partition_3"))
    assert load_hub(f"hf:{tmp_path / 'partition_3'}", HubSettings(test_share=0.4)).y_test_N.tolist() == [0, 1]


def test_a_validation_part_stands_in_for_a_test_part(tmp_path):
    name = saved(tmp_path, train=table(), validation=table([1, 0], seed=2))
    assert load_hub(name, HubSettings()).y_test_N.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (list("babcab"), Value("string"), [1, 0, 1, 2, 0, 1]),
        ([7, 3, 7, 9, 3, 7], Value("int64"), [1, 0, 1, 2, 0, 1]),
    ],
)
def test_labels_may_be_text_or_whole_numbers_of_a_named_column(tmp_path, values, kind, wanted):
    name = saved(tmp_path, train=table(fine=(values, kind)), test=table(fine=(values, kind)))
    data = load_hub(name, HubSettings(label_column="fine"))
    assert (data.num_classes, data.y_train_N.tolist()) == (3, wanted)


def test_a_column_says_whose_each_sample_is(tmp_path):
    whose = (["eve", "ann", "eve", "bob", "ann", "eve"], Value("string"))
    name = saved(tmp_path, train=table(writer=whose), test=table(writer=whose))
    assert load_hub(name, HubSettings(partition_by="writer")).natural_ids_N.tolist() == [2, 0, 2, 1, 0, 2]
    assert load_hub(name, HubSettings()).natural_ids_N is None
    line = refusal(name, partition_by="Writer")
    assert line.endswith("img (Image), label (ClassLabel), writer (string)")
    assert line.startswith("partition-by = 'Writer': must be a column of hf:")


def columns(**more):
    return lambda path: saved(path, train=table(**more), test=table(**more))


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (lambda path: f"hf:{path}/nowhere", {}, "/nowhere': must be a folder: there is no /"),
        (lambda path: f"hf:{path}", {}, "cannot be loaded (FileNotFoundError: Directory "),
        (lambda path: saved(path, train=table()), {}, "has no test part; test-share = 0.2 holds out a fifth"),
        (lambda path: saved(path, a=table(), b=table()), {}, "has no part train; its parts are a, b"),
        (
            lambda path: saved(path, train=table(), test=table([-1, -1])),
            {},
            "label = -1: must be one of the 2",
        ),
        (
            lambda path: saved(path, train=table([0, 1, None]), test=table()),
            {},
            "label = None: must be one of",
        ),
        (
            columns(feature=Value("int64")),
            {},
            "one column of class labels, or label-column names it; it has img",
        ),
        (columns(fine=(LABELS, CLASSES)), {}, "it has img (Image), label (ClassLabel), fine (ClassLabel)"),
        (columns(), {"label_column": "lable"}, "label-column = 'lable': must be a column of hf:"),
        (
            columns(score=([0.5] * 6, Value("float32"))),
            {"label_column": "score"},
            "label-column = 'score': must hold text or whole numbers; ",
        ),
        (
            columns(many=([[0, 1]] * 6, Sequence(Value("int64")))),
            {"label_column": "many"},
            "label-column = 'many': must hold text or whole numbers; ",
        ),
        (
            columns(one=(["x"] * 6, Value("string"))),
            {"label_column": "one"},
            "two or more classes in one, not 1",
        ),
        (
            lambda path: saved(
                path,
                train=table(kind=(list("aabbab"), Value("string"))),
                test=table(kind=(list("aabbac"), Value("string"))),
            ),
            {"label_column": "kind"},
            "kind = 'c': must be one of the 2 classes of the training part (row 5 of test)",
        ),
        (
            lambda path: saved(path, train=table(), test=table(side=7)),
            {},
            "is 7 x 7 pixels, and a training image",
        ),
        (
            columns(other=([None] * 6, Image())),
            {},
            "must have one column of images; it has img (Image), label",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, make, settings, says):
    assert says in refusal(make(tmp_path), **settings)


@pytest.mark.parametrize(
    "other",
    [
        table().remove_columns("label"),
        table(feature=ClassLabel(names=["dog", "cat"])),
        table().rename_column("img", "image"),
        table().rename_column("img", "x").add_column("img", ["x"] * 6),
    ],
)
def test_a_test_part_with_other_columns_is_refused(tmp_path, other):
    line = refusal(saved(tmp_path, train=table(), test=other))
    assert "must be in the test part what it is in the training part, not: " in line


def test_tables_without_images_are_refused(tmp_path):
    numbers = Table.from_dict({"x": [1.0, 2.0], "y": [0, 1]})
    name = saved(tmp_path, train=numbers, test=numbers)
    assert refusal(name).endswith("must have one column of images; it has x (float64), y (int64)")


@pytest.mark.parametrize("content", [b"no image", None])
def test_an_image_that_is_none_is_named_by_its_row(tmp_path, content):
    broken = table().cast_column("img", Image(decode=False)).to_dict()
    broken["img"][4] = content and {"bytes": content, "path": None}
    kinds = Features({"img": Image(), "label": CLASSES})
    name = saved(tmp_path, train=Table.from_dict(broken, features=kinds), test=table())
    line = refusal(name)
    assert line.startswith(f"image = 'row 4 of train of {name}': ")
    assert ("cannot be decoded" in line) == (content is not None)


def test_a_torn_file_is_one_line(tmp_path):
    name = saved(tmp_path)
    part = next((tmp_path / "set" / "train").glob("*.arrow"))
    part.write_bytes(part.read_bytes()[:200])
    assert refusal(name).startswith(f"dataset = '{name}': cannot be loaded (ArrowInvalid: ")


def test_without_a_network_a_name_is_one_line(monkeypatch):
    def unreachable(*given, **named):
        raise OSError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    line = refusal("hf:nobody/nothing")
    says = "needs the network, and the Hugging Face hub cannot be reached (Name or service not known);"
    assert line.startswith(f"dataset = 'hf:nobody/nothing': {says} HF_HUB_OFFLINE=1 reads what this machine")


def test_offline_what_was_never_fetched_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert refusal("hf:nobody/nothing").startswith("dataset = 'hf:nobody/nothing': cannot be loaded (")


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:no spaces", "hf:--"])
def test_what_is_no_name_is_one_line(name):
    assert refusal(name).startswith(f"dataset = '{name}': is no name of a data set (")


def test_a_path_is_told_from_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert folder_of("hf:uoft-cs/cifar10") is None
    assert folder_of("hf:./x") == tmp_path / "x"
    assert folder_of("hf:here") == tmp_path / "here"
    assert folder_of("hf:/data/x").as_posix() == "/data/x"
