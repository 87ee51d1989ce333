"""Whatever a codec makes of activations, the fast side trains on the same bits, wherever it runs."""

import json

import pytest

from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs import assemble
from comdml_flwr.runs.assemble import program_of
from tests.carriers.direct_runs import run_direct_with
from tests.carriers.test_conformance import direct, grid, local, simulated
from tests.carriers.test_faults import CONFIG, FLEET, NUM_AGENTS, places
from tests.faults import FailAt, run_grid_with, run_local_with
from tests.flower.loop_grid import grid_config
from tests.methods.stepping import walk
from tests.rounding import Rounding
from tests.small import fleet_text, run_local, small_config, small_setup


@pytest.fixture
def rounding(monkeypatch):
    """Let activations be rounded."""
    monkeypatch.setattr(assemble, "CODEC", Rounding())


@pytest.fixture(scope="module")
def expected():
    """Return the outcome of a run whose activations are rounded, on the local carrier, and without."""
    config = small_config(num_chunks=2, local_epochs=1)
    plain = local(config, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "CODEC", Rounding())
        return config, local(config, None, None), plain


@pytest.mark.parametrize("carrier", [local, grid, direct, simulated], ids=lambda carrier: carrier.__name__)
def test_every_carrier_gives_the_same_outcome(carrier, expected, rounding, tmp_path, monkeypatch):
    config, rounded, plain = expected
    assert carrier(config, tmp_path, monkeypatch) == rounded
    assert rounded.weights_sha256 != plain.weights_sha256
    assert rounded.bytes_sent < plain.bytes_sent


def test_splitfeds_server_trains_on_what_was_rounded(rounding):
    keys = {"method": "splitfed", "cut": 2, "local_epochs": 1, "num_rounds": 1}
    digests = {run_local(small_config(**keys), FLEET)[0].weights_sha256 for _ in range(2)}
    assert len(digests) == 1
    assert all(
        mail.arrays.keys() == {"rounded", "scale", "labels"}
        for mail in walk(small_setup(small_config(**keys), FLEET))[1]
        if mail.kind == "activations"
    )


@pytest.mark.parametrize("method", ["comdml", "splitfed"])
def test_what_is_sent_is_as_large_as_planned(method, rounding):
    setup = small_setup(small_config(method=method, cut=2), FLEET)
    agents, seen = walk(setup)
    mail = [envelope for envelope in seen if envelope.kind == "activations"]
    assert mail
    for envelope in mail:
        pair = agents[envelope.sender].report.get("pair", {"cut": setup.config.cut})
        planned = setup.cuts[pair["cut"]].bytes_per_batch / setup.config.batch_size
        assert envelope.num_bytes == planned * len(envelope.arrays["labels"])
        assert (envelope.receiver == SERVER) == (method == "splitfed")


def test_layers_that_are_taken_back_get_the_bits_of_the_helper(rounding, tmp_path):
    config = CONFIG.model_copy(update={"num_rounds": 1})
    record, undisturbed = run_local(config, FLEET)
    pair = record.rounds[0].plan["pairs"][0]
    fault = FailAt(pair["fast"], places(config)["during the offload"], round=1)
    record, agents = run_local_with(config, FLEET, [fault])
    assert record.rounds[0].taken_back == [pair["slow"]]
    fast = undisturbed[pair["fast"]].tensors[f"partner/{pair['slow']}/body"]
    assert agents[pair["slow"]].tensors["own/body"][-len(fast) :].equal(fast)

    run_grid_with(grid_config(config, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS, [fault])
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["weights_sha256"] == record.weights_sha256


@pytest.mark.slow
def test_layers_that_are_taken_back_get_the_same_bits_peer_to_peer(rounding, monkeypatch):
    monkeypatch.setattr(deadlines, "SHORTEST_S", 3.0)
    config = CONFIG.model_copy(update={"num_rounds": 1})
    pair = run_local(config, FLEET)[0].rounds[0].plan["pairs"][0]
    _, agents = run_local_with(config, FLEET, [FailAt(pair["fast"], places(config)["after the offload"], 1)])
    direct_config = config.model_copy(update={"carrier": "direct"})
    setup = small_setup(direct_config, FLEET)
    phase = places(direct_config, program_of(setup).cut_into(setup.most_batches))["after the offload"]
    reports, digests, _ = run_direct_with(direct_config, FLEET, [FailAt(pair["fast"], phase, round=1)])
    assert reports[1][pair["slow"]]["taken_back"] == [pair["slow"]]
    assert {*digests.values()} == {agents[pair["slow"]].weights_sha256()}
