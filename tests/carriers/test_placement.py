"""Whole runs on a device that refuses the host's tensors: nothing mixes, and the bits are the CPU's."""

import pytest

from comdml_flwr.agents.measuring.node import measure_node
from comdml_flwr.core.errors import RunError
from comdml_flwr.runs import assemble
from tests.carriers.direct_runs import run_direct
from tests.carriers.interrupted import Killed, only_run_in
from tests.carriers.test_conformance import grid, local_outcome, outcome_of
from tests.carriers.test_faults import CONFIG, FLEET, places
from tests.carriers.test_resume_locally import die_at, run, values_of
from tests.faults import FailAt, run_local_with
from tests.second_device import SecondDevice, is_on_device, kept_apart
from tests.small import run_local, small_config, small_fleet, small_setup


def train_on_second_device(patch):
    """Let runs train on the second device."""

    def find(wanted, precision, *, is_deterministic):
        return SecondDevice(precision=precision)

    patch.setattr(assemble, "find_device", find)


def on_the_cpu_and_on_the_second_device(train):
    """Return what training comes to on the CPU, and on the second device."""
    expected = train()
    with pytest.MonkeyPatch.context() as patch, kept_apart():
        train_on_second_device(patch)
        return expected, train()


@pytest.mark.parametrize(
    "keys",
    [
        {"num_chunks": 2, "local_epochs": 1},
        {"num_chunks": 2, "precision": "bfloat16", "optimizer": "sgd"},
        {"method": "allreduce"},
        {"averaging": "mixing", "topology": "ring", "num_chunks": 2, "local_epochs": 1},
        {"method": "splitfed", "cut": 2, "local_epochs": 1},
        pytest.param({"method": "splitfed", "cut": 2, "splitfed_version": 2}, marks=pytest.mark.slow),
        pytest.param({"method": "fedavg"}, marks=pytest.mark.slow),
        {"model": "drawing", "batch_size": 13, "num_chunks": 2},
    ],
    ids=["comdml", "bfloat16", "allreduce", "mixing", "splitfed", "splitfed V2", "fedavg", "drawing"],
)
def test_a_run_mixes_nothing(keys):
    config = small_config(**{"num_rounds": 1, **keys})
    expected, record = on_the_cpu_and_on_the_second_device(lambda: run_local(config, small_fleet(5))[0])
    assert record.weights_sha256 == expected.weights_sha256
    assert [r.score for r in record.rounds] == [r.score for r in expected.rounds]


def test_layers_that_are_taken_back_mix_nothing():
    config = CONFIG.model_copy(update={"num_rounds": 1})
    pair = run_local(config, FLEET)[0].rounds[0].plan["pairs"][0]
    fault = FailAt(pair["fast"], places(config)["during the offload"], round=1)
    expected, record = on_the_cpu_and_on_the_second_device(lambda: run_local_with(config, FLEET, [fault])[0])
    assert record.rounds[0].taken_back == [pair["slow"]]
    assert record.weights_sha256 == expected.weights_sha256


def test_checkpoints_and_resuming_mix_nothing(tmp_path, monkeypatch):
    keys = {"num-rounds": 2, "checkpoint-every": 1}
    expected = run(values_of(tmp_path, keys, "undisturbed"))
    train_on_second_device(monkeypatch)
    with kept_apart():
        with monkeypatch.context() as patch:
            die_at(patch, 6)
            with pytest.raises(Killed):
                run(values_of(tmp_path, keys, "killed"))
        record = run({"resume": str(only_run_in(tmp_path / "killed"))})
    assert record.weights_sha256 == expected.weights_sha256


def test_messages_of_the_grid_mix_nothing(tmp_path, monkeypatch):
    """A training pauses between them."""
    config = small_config(num_chunks=2, local_epochs=1)
    with pytest.MonkeyPatch.context() as patch, kept_apart():
        train_on_second_device(patch)
        outcome = grid(config, tmp_path, monkeypatch)
    assert outcome == local_outcome(config)


def test_peers_mix_nothing():
    """They train in threads of their own, on mail that came over sockets."""
    config = small_config(num_chunks=2, local_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        train_on_second_device(patch)
        records, digest, _ = run_direct(config, small_fleet(5))
    assert outcome_of(records, digest) == local_outcome(config)


def test_the_model_that_others_look_at_stays_on_the_host(monkeypatch):
    train_on_second_device(monkeypatch)
    setup = small_setup(small_config(num_rounds=1), small_fleet(3))
    with kept_apart():
        setup.learners.whole().begin(setup.initial_weights_P)
        setup.learners.slow_side(2)
        assert not any(is_on_device(tensor) for tensor in setup.learners.model.state_dict().values())


def test_measuring_mixes_nothing_and_tells_of_the_devices_own_memory(monkeypatch):
    train_on_second_device(monkeypatch)
    setup = small_setup(small_config(), small_fleet(3))
    with kept_apart():
        measured = measure_node(setup, 0)
    assert measured.memory_bytes == setup.device.free_memory_bytes()


def test_the_laws_above_have_teeth(monkeypatch):
    """A device that moves nothing is found out."""
    train_on_second_device(monkeypatch)
    monkeypatch.setattr(SecondDevice, "to", lambda device, tensor: tensor)
    with kept_apart(), pytest.raises(RunError, match=r"MixedDevicesError.* of the device and .* of the host"):
        run_local(small_config(num_rounds=1), small_fleet(3))
