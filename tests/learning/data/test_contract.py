"""Data sets of one's own: what is plain is converted, the rest is one line before anything is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.contract import check_data
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.flower.loop_grid import quiet_terminal
from tests.small import few_digits, fleet_text, four_stages

Change = Callable[[Dataset], dict[str, object]]


def changed(change: Change) -> Dataset:
    """Return the small data set with other fields, as a loader of one's own may return them."""
    return replace(few_digits(), **change(few_digits()))  # type: ignore[arg-type]


def checked(change: Change, num_agents: int = 4) -> tuple[Dataset, list[str]]:
    warnings: list[str] = []
    return check_data(changed(change), "own", num_agents=num_agents, warn=warnings.append), warnings


def test_a_data_set_that_keeps_the_contract_is_handed_on_as_it_is() -> None:
    warnings: list[str] = []
    assert check_data(few_digits(), "own", num_agents=4, warn=warnings.append) is few_digits()
    assert warnings == []


def labels(convert: Callable[[Tensor], object]) -> Change:
    return lambda data: {"y_train_N": convert(data.y_train_N), "y_test_N": convert(data.y_test_N)}


def features(convert: Callable[[Tensor], object]) -> Change:
    return lambda data: {"x_train_NCHW": convert(data.x_train_NCHW), "x_test_NCHW": convert(data.x_test_NCHW)}


@pytest.mark.parametrize(
    "change",
    [
        labels(lambda y: y.int()),
        labels(lambda y: y.to(torch.uint8)),
        labels(lambda y: y.float()),
        labels(lambda y: y[:, None]),
        labels(lambda y: y.numpy()),
        labels(lambda y: y.numpy().astype(np.uint16)),
        labels(lambda y: y.tolist()),
        features(lambda x: x.double()),
        features(lambda x: x.numpy()),
        features(lambda x: np.flip(x.numpy()[:, ::-1].copy(), 1)),
        features(lambda x: x.clone().requires_grad_()),
        lambda data: {"num_classes": np.int64(10)},
    ],
    ids=[
        "int32",
        "uint8",
        "float",
        "column",
        "numpy",
        "uint16",
        "list",
        "float64",
        "numpy features",
        "negative strides",
        "requires grad",
        "numpy classes",
    ],
)
def test_what_is_plain_is_converted_to_the_same_bits(change: Change) -> None:
    data, warnings = checked(change)
    for name in ("x_train_NCHW", "y_train_N", "x_test_NCHW", "y_test_N"):
        assert torch.equal(getattr(data, name), getattr(few_digits(), name))
        assert getattr(data, name).dtype == getattr(few_digits(), name).dtype
        assert not getattr(data, name).requires_grad
    assert (data.num_classes, warnings) == (10, [])


def test_bytes_become_floats_unscaled_and_a_line_says_so() -> None:
    data, warnings = checked(features(lambda x: x.to(torch.uint8)))
    assert torch.equal(data.x_test_NCHW, few_digits().x_test_NCHW.to(torch.uint8).float())
    assert len(warnings) == 2
    assert "uint8 becomes float32 as it is" in warnings[0]


def test_whole_numbers_stay_what_an_embedding_reads() -> None:
    data, _ = checked(features(lambda x: x.int()))
    assert data.x_train_NCHW.dtype == torch.int64


def at(place: int, value: float, x: Tensor) -> Tensor:
    x = x.clone()
    x[place] = value
    return x


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (labels(lambda y: y + 1), r"y_train_N = 10: must be from 0 to 9, as num_classes is 10"),
        (lambda d: {"y_train_N": at(5, -1, d.y_train_N)}, r"y_train_N = -1: must be from 0 to 9"),
        (lambda d: {"y_test_N": at(5, 10, d.y_test_N)}, r"y_test_N = 10: must be .* \(1 sample outside\)"),
        (
            labels(lambda y: nn.functional.one_hot(y, 10)),
            r"y_train_N = 'shape \(200, 10\)': must be \(samples,\)",
        ),
        (labels(lambda y: y + 0.5), r"y_train_N = \d\.5: must be a whole number"),
        (
            labels(lambda y: torch.full_like(y, torch.nan, dtype=torch.float32)),
            r"y_train_N = nan: must be a whole",
        ),
        (labels(lambda y: y.to(torch.complex64)), "y_train_N = .*: must be a whole number"),
        (
            lambda d: {"y_train_N": d.y_train_N[:-7]},
            "'200 training samples': must be as many as the 193 labels",
        ),
        (
            lambda d: {"x_test_NCHW": d.x_test_NCHW[:0], "y_test_N": d.y_test_N[:0]},
            "x_test_NCHW = '0 samples'",
        ),
        (lambda d: {"x_test_NCHW": d.x_test_NCHW.expand(-1, 3, -1, -1)}, r"\(3, 8, 8\): must be \(1, 8, 8\)"),
        (
            features(lambda x: x.permute(0, 2, 3, 1)),
            r"x_train_NCHW = \(8, 8, 1\): must be \(channels, height",
        ),
        (lambda d: {"x_train_NCHW": d.x_train_NCHW.permute(0, 2, 3, 1)}, r"\(1, 8, 8\): must be \(8, 8, 1\)"),
        (lambda d: {"x_test_NCHW": d.x_test_NCHW.int()}, r"x_test_NCHW = torch.int64: must be torch.float32"),
        (
            lambda d: {"x_test_NCHW": at(3, torch.nan, d.x_test_NCHW)},
            r"x_test_NCHW = 'NaN or infinity': .* in 1\)",
        ),
        (features(lambda x: x[:, 0, 0, 0]), r"'shape \(200,\)': must be \(samples, ...\)"),
        (features(lambda x: x.to(torch.complex64)), "must be real numbers"),
        (features(lambda x: [object()]), "x_train_NCHW = 'list': must be a tensor or an array of numbers"),
        (lambda d: {"num_classes": 1}, "num_classes = 1: must be a whole number of at least 2"),
        (lambda d: {"augment": True, **features(lambda x: x.flatten(1))(d)}, r"augment = True: .* \(64,\)"),
        (
            lambda data: {"natural_ids_N": data.y_train_N.int()},
            "natural_ids_N = torch.int32: must be a tensor of",
        ),
        (lambda data: {"natural_ids_N": ["ann", "bob"]}, "natural_ids_N = 'list': must be a tensor of int64"),
        (
            lambda data: {"natural_ids_N": data.y_train_N[1:]},
            r"shape of natural_ids_N = \(199,\): must be one id for each of the 200 training samples",
        ),
    ],
)
def test_everything_else_is_one_line_with_field_value_and_rule(change: Change, line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        checked(change)
    assert str(error.value).startswith("data set own: ")


def test_a_loader_returns_a_data_set() -> None:
    with pytest.raises(
        InputError, match=r"^data set own = 'tuple': must be a comdml_flwr.learning.data.dataset.Dataset"
    ):
        check_data((1, 2), "own", num_agents=1, warn=print)


def test_a_training_sample_with_nan_is_told_and_not_refused() -> None:
    data, warnings = checked(lambda d: {"x_train_NCHW": at(3, torch.nan, d.x_train_NCHW)})
    assert torch.isnan(data.x_train_NCHW).any()
    assert len(warnings) == 1
    assert "1 training sample with NaN or infinity" in warnings[0]


def test_a_large_sum_is_not_taken_for_an_infinity() -> None:
    _, warnings = checked(features(lambda x: torch.full_like(x, 3e38)))
    assert warnings == []


def test_a_run_with_fewer_test_samples_than_agents_says_so_once_and_ends(tmp_path: Path) -> None:
    few = changed(lambda d: {"x_test_NCHW": d.x_test_NCHW[:3], "y_test_N": d.y_test_N[:3]})
    (tmp_path / "fleet.toml").write_text(fleet_text(4))
    values = {
        "model": "own",
        "dataset": "own",
        "num-rounds": 1,
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(tmp_path),
    }
    catalogue = Catalogue(models={"own": four_stages}, datasets={"own": lambda config: few})
    terminal = quiet_terminal(1)
    with terminal.console.capture() as printed:
        record = run_locally(values, num_agents=4, catalogue=catalogue, terminal=terminal)
    assert record.rounds[0].score in (0, 1 / 3, 2 / 3, 1)
    line = "warning: data set own: 3 test samples for 4 agents: some evaluate nothing\n"
    assert printed.get().count(line) == 1
