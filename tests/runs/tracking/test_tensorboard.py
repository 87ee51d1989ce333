"""TensorBoard's event files hold what the run's own files hold."""

import json
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.runs.tracking.names import numbers
from tests.runs.test_results import FakeCarrier, record


def events_of(path):
    events = EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    return events


def text(events, tag):
    """Return the rows of a table that was written as text."""
    (event,) = events.Tensors(f"{tag}/text_summary")
    rows = event.tensor_proto.string_val[0].decode().splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {name: json.loads(value) for name, value in cells}


def test_events_are_the_rounds_the_configuration_and_the_summary(tmp_path):
    printed = record(tmp_path, tensorboard=True, num_rounds=3)
    (path,) = tmp_path.iterdir()
    events = events_of(path)
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    assert sorted(events.Tags()["scalars"]) == sorted(numbers(lines[0]))
    for name in numbers(lines[0]):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(line["round"], np.float32(numbers(line)[name])) for line in lines]
    assert text(events, "config") == json.loads((path / "config.json").read_text())
    assert text(events, "summary") == json.loads((path / "summary.json").read_text())
    assert "tensorboard has failed" not in printed


def test_a_run_that_failed_has_its_rounds_and_no_summary(tmp_path):
    with pytest.raises(RunError):
        record(tmp_path, FakeCarrier(fails_at=4, error=RunError("disk full")), tensorboard=True)
    (path,) = tmp_path.iterdir()
    events = events_of(path)
    assert len(events.Scalars("measured/accuracy")) == 1
    assert events.Tags()["tensors"] == ["config/text_summary"]


@pytest.mark.parametrize("where", ["__init__", "add_scalar", "flush", "add_text", "close"])
def test_tensorboard_that_raises_costs_one_line_and_nothing_else(where, tmp_path, monkeypatch):
    def spoilt(*args, **keys):
        raise OSError("no space\nleft")

    monkeypatch.setattr(SummaryWriter, where, spoilt)
    printed = record(tmp_path, tensorboard=True).splitlines()
    told = [line for line in printed if line.startswith("tensorboard")]
    assert told == ["tensorboard has failed (no space left); the run's own files have everything"]
    (path,) = tmp_path.iterdir()
    assert len((path / "rounds.jsonl").read_text().splitlines()) == 2
    assert (path / "summary.json").exists()


def test_a_missing_package_is_one_line_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError) as caught:
        record(tmp_path / "results", tensorboard=True)
    assert str(caught.value) == (
        'tensorboard = True: needs the package tensorboard: pip install "comdml-flwr[tracking]"'
    )
    assert not (tmp_path / "results").exists()
