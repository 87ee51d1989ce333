"""One place decides where modules live and in which arithmetic they train; a device must be there."""

import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import comdml_flwr
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.settings.device import check_device_name
from comdml_flwr.learning import devices
from comdml_flwr.learning.device import Device, _in_one_copy
from comdml_flwr.learning.devices import devices_here, find_device
from comdml_flwr.learning.global_generator import global_generator
from tests.learning.test_training import four


@pytest.fixture
def two_gpus(monkeypatch):
    """Let torch say that there are two, whatever this machine has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_computes_in_its_precision", lambda device: True)


@pytest.fixture
def no_gpu(monkeypatch):
    """Let torch say that there is none."""
    monkeypatch.setattr(devices, "_accelerators", lambda: iter(()))


def test_a_cpu_copies_nothing():
    device, x = Device(), torch.randn(2, 3).t()
    assert device.to(x) is x
    assert device.back(x) is x
    tensors = {"x": x}
    assert device.to_all(tensors) is device.back_all(tensors) is tensors
    model = four()
    before = [p.data_ptr() for p in model.parameters()]
    assert device.place(model) is model
    assert [p.data_ptr() for p in model.parameters()] == before


def test_a_copy_that_is_kept_is_one_on_a_cpu_too():
    x = torch.randn(3)
    kept = Device().copy_back(x)
    assert torch.equal(kept, x)
    assert kept.data_ptr() != x.data_ptr()


def test_many_tensors_cross_in_one_copy_for_each_type():
    tensors = {
        "a": torch.randn(2, 3).t(),
        "step": torch.tensor(4.0),
        "b": torch.tensor([[1, 2]]),
        "none": torch.empty(0, 3),
    }
    crossed = []
    there = _in_one_copy(tensors, lambda flat: (crossed.append(flat), flat)[1])
    assert len(crossed) == 2
    assert there.keys() == tensors.keys()
    assert all(torch.equal(there[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("auto", "cuda:0"), ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")],
)
def test_a_device_is_found_by_its_name(wanted, name, two_gpus):
    assert devices_here()[:3] == ("cpu", "cuda:0", "cuda:1")
    assert find_device(wanted).name == name


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu):
    assert find_device("auto") == find_device("cpu") == Device()


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "xpu", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(wanted, no_gpu):
    with pytest.raises(InputError) as caught:
        find_device(wanted)
    assert str(caught.value) == f"device = '{wanted}': must be one that is here: cpu (or auto)"


def test_one_gpu_too_few_is_refused(two_gpus):
    line = r"^device = 'cuda:2': must be one that is here: cpu, cuda:0, cuda:1.* \(or auto\)$"
    with pytest.raises(InputError, match=line):
        find_device("cuda:2")


@pytest.mark.parametrize("name", ["abacus", "CUDA", "cuda:", "cuda:-1", "cuda:01", "cpu:0", "", 3, None])
def test_what_is_no_device_is_refused(name):
    rule = "must be auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"
    with pytest.raises(InputError, match=f"^--node-config device = .*: {rule}$"):
        check_device_name(name, "--node-config device")


def fail():
    raise RuntimeError("Current CUDA Device does not support bfloat16")


@pytest.mark.parametrize("tell", [fail, lambda: warnings.warn("in float32, then", stacklevel=1)])
def test_a_precision_that_a_device_lacks_is_refused(tell, monkeypatch):
    """Some versions of torch raise, some warn and compute in float32."""
    monkeypatch.setattr(Device, "autocast", lambda device: tell())
    rule = "must be one that cpu computes in, such as float32"
    with pytest.raises(InputError, match=f"^precision = 'bfloat16': {rule}$"):
        find_device("cpu", "bfloat16")


def test_layers_compute_in_the_precision_and_weights_stay_float32():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    for precision, dtype in {"bfloat16": torch.bfloat16, "float16": torch.float16}.items():
        device = find_device("cpu", precision)
        with device.autocast():
            z = layer(x)
        assert z.dtype == device.dtype == dtype
        assert device.in_full(z).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
    with Device().autocast():
        assert layer(x).dtype == torch.float32


def test_all_generators_of_a_device_are_seeded_and_put_back():
    others = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    before = [generator.get_state() for generator in others]
    with global_generator(7, others):
        drawn = [torch.rand(2, generator=generator) for generator in others]
    assert torch.equal(*drawn)
    assert all(torch.equal(g.get_state(), state) for g, state in zip(others, before, strict=True))


def test_deterministic_kernels_are_an_option(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    Device().make_deterministic(1)
    assert not asked
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    Device(is_deterministic=True).make_deterministic(1)
    assert asked == [True]
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"


def test_free_memory_of_a_gpu_counts_what_torch_keeps(monkeypatch):
    assert Device().free_memory_bytes() is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda name: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda name: 20)
    assert Device("cuda:0").free_memory_bytes() == 130


@pytest.mark.parametrize(
    "word", [r"\.cuda\(", r"\.cpu\(\)", "set_num_threads", "use_deterministic", r"torch\.autocast"]
)
def test_nobody_else_moves_tensors_or_sets_up_the_process(word):
    """But for the check of data and models that a user gives, which may lie on a device."""
    package = Path(comdml_flwr.__file__).parent
    users = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if re.search(word, path.read_text())
    }
    assert users <= {"learning/device.py", "learning/data/conversion.py"}
