"""In another precision, too, the bits do not depend on the carrier; activations travel in half the bytes."""

import pytest
import torch

from tests.carriers.test_conformance import direct, grid, local_outcome, local_side_by_side, simulated
from tests.carriers.test_faults import CONFIG, FLEET, places
from tests.faults import FailAt, run_local_with
from tests.methods.stepping import walk
from tests.small import run_local, small_config, small_setup

KEYS = {"num_chunks": 2, "local_epochs": 1, "optimizer": "sgd", "learning_rate": 0.05}


def carriers(*some):
    return pytest.mark.parametrize("carrier", some, ids=lambda carrier: carrier.__name__)


@carriers(local_side_by_side, grid, direct, simulated)
def test_every_carrier_gives_the_same_bits_in_bfloat16(carrier, tmp_path, monkeypatch):
    config = small_config(precision="bfloat16", **KEYS)
    assert carrier(config, tmp_path, monkeypatch) == local_outcome(config)


@carriers(grid, pytest.param(direct, marks=pytest.mark.slow))
def test_every_carrier_gives_the_same_bits_in_float16(carrier, tmp_path, monkeypatch):
    """The scale of the loss goes with a training that pauses."""
    config = small_config(precision="float16", num_rounds=1, **KEYS)
    assert carrier(config, tmp_path, monkeypatch) == local_outcome(config)


def test_a_precision_changes_the_bits_and_hardly_what_is_learned():
    outcomes = {p: local_outcome(small_config(precision=p, **KEYS)) for p in ("float32", "bfloat16")}
    assert outcomes["float32"].weights_sha256 != outcomes["bfloat16"].weights_sha256
    difference = outcomes["float32"].accuracy[-1] - outcomes["bfloat16"].accuracy[-1]
    assert abs(difference) <= 0.1
    assert outcomes["bfloat16"].bytes_sent < outcomes["float32"].bytes_sent


@pytest.mark.parametrize("method", ["comdml", "splitfed"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_activations_are_sent_in_the_precision_as_planned(method, precision):
    setups = {
        p: small_setup(small_config(method=method, cut=2, precision=p, num_rounds=1), FLEET)
        for p in ("float32", precision)
    }
    setup = setups[precision]
    agents, seen = walk(setup)
    mail = [envelope for envelope in seen if envelope.kind == "activations"]
    assert mail
    for envelope in mail:
        pair = agents[envelope.sender].report.get("pair", {"cut": setup.config.cut})
        plain, planned = (s.cuts[pair["cut"]].bytes_per_batch for s in setups.values())
        label_bytes = envelope.arrays["labels"].nbytes
        share = len(envelope.arrays["labels"]) / setup.config.batch_size
        assert envelope.num_bytes == planned * share
        assert envelope.num_bytes - label_bytes == (plain * share - label_bytes) / 2
        z = setup.codec.decode({name: x for name, x in envelope.arrays.items() if name != "labels"})
        assert z.dtype == getattr(torch, precision)


def test_layers_that_are_taken_back_get_the_bits_of_the_helper():
    config = CONFIG.model_copy(update={"num_rounds": 1, "precision": "bfloat16"})
    record, undisturbed = run_local(config, FLEET)
    pair = record.rounds[0].plan["pairs"][0]
    fault = FailAt(pair["fast"], places(config)["during the offload"], round=1)
    record, agents = run_local_with(config, FLEET, [fault])
    assert record.rounds[0].taken_back == [pair["slow"]]
    fast = undisturbed[pair["fast"]].tensors[f"partner/{pair['slow']}/body"]
    assert agents[pair["slow"]].tensors["own/body"][-len(fast) :].equal(fast)


def test_splitfed_trains_in_float16():
    """A gradient that overflows for its scale is no fault of the agent whose activations were sent."""
    keys = {"method": "splitfed", "cut": 2, "local_epochs": 1, "num_rounds": 1}
    records = [run_local(small_config(precision=p, **keys), FLEET)[0] for p in ("float32", "float16")]
    assert not records[1].rounds[0].not_finite
    assert abs(records[0].rounds[0].score - records[1].rounds[0].score) <= 0.1
