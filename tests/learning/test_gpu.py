"""Where there is a GPU: it learns what the CPU does; deterministic kernels give one seed the same bits."""

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS is first used in this process

from comdml_flwr.learning.device import Device
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.suspended import SuspendedTraining
from comdml_flwr.learning.training import Learner
from tests.carriers.direct_runs import run_direct
from tests.learning.test_training import SETTINGS, TASK, batches, four, over_the_wire
from tests.small import run_local, small_config, small_fleet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
TOLERANCE = 1e-3
"""Largest difference of a weight from the CPU's after one round of SGD in float32, without TF32."""
FLEET = small_fleet(5)
SGD = {"optimizer": "sgd", "learning_rate": 0.05, "num_rounds": 1}
RUNS = {
    "comdml": {"num_chunks": 2},
    "allreduce": {"method": "allreduce"},
    "mixing": {"averaging": "mixing", "topology": "ring"},
    "splitfed": {"method": "splitfed", "cut": 2},
    "dropout": {"model": "drawing", "batch_size": 13},
}


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Let no test leave its kernels to the next one."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.use_deterministic_algorithms(False)


def on_gpu(**keys):
    return small_config(device="cuda", **keys)


@pytest.mark.parametrize("keys", [RUNS[name] for name in RUNS if name != "dropout"])
def test_a_run_on_a_gpu_comes_close_to_one_on_the_cpu(keys):
    """But for dropout: a GPU's generator draws other numbers of the same seed."""
    _, on_cpu = run_local(small_config(**SGD, **keys), FLEET)
    record, agents = run_local(on_gpu(**SGD, **keys), FLEET)
    for agent, other in zip(agents, on_cpu, strict=True):
        assert not agent.weights_P.is_cuda
        assert (agent.weights_P - other.weights_P).abs().max() < TOLERANCE
    assert all(about["device"] == "cuda:0" for about in record.rounds[0].agents)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("keys", RUNS.values(), ids=RUNS)
def test_deterministic_kernels_give_the_same_bits_each_time(keys, precision):
    config = on_gpu(precision=precision, deterministic=True, num_rounds=1, **keys)
    digests = {run_local(config, FLEET)[0].weights_sha256 for _ in range(2)}
    assert len(digests) == 1


def test_deterministic_kernels_give_peers_the_bits_of_one_process():
    config = on_gpu(deterministic=True, num_rounds=1, num_chunks=2)
    assert run_direct(config, FLEET)[1] == run_local(config, FLEET)[0].weights_sha256


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_gpu_learns_in_a_shorter_type(precision):
    config = on_gpu(num_rounds=2)
    plain, _ = run_local(config, FLEET)
    short, _ = run_local(config.model_copy(update={"precision": precision}), FLEET)
    assert abs(plain.rounds[-1].score - short.rounds[-1].score) <= 0.1


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_pauses_on_a_gpu_and_goes_on_to_the_same_bits(name, precision):
    device = Device("cuda:0", precision, is_deterministic=True)
    device.make_deterministic(1)
    learner, state = Learner(four(), None, SETTINGS[name], TASK, device), None
    for x, y in batches():
        learner.step(x, y)
    for x, y in batches():
        other = Learner(four(), None, SETTINGS[name], TASK, device)
        if state is not None:
            other.resume(SuspendedTraining(over_the_wire(state)))
        other.step(x, y)
        state = dict(other.pause().state())
    assert not any(tensor.is_cuda for tensor in state.values())
    assert torch.equal(state["body"], learner.weights()["body"])


def test_a_gpus_generator_is_seeded_and_put_back():
    generators = Device("cuda:0").generators
    before = generators[1].get_state()
    drawn = []
    for _ in range(2):
        with global_generator(5, generators):
            drawn.append(torch.rand(3, device="cuda:0"))
    assert torch.equal(*drawn)
    assert torch.equal(generators[1].get_state(), before)


def test_what_a_gpu_has_left_is_no_more_than_it_has():
    total = torch.cuda.get_device_properties(0).total_memory
    assert 0 < Device("cuda:0").free_memory_bytes() <= total
