"""The doctor names the devices that are here, and looks at the memory of the one that trains."""

import pytest
import torch

from comdml_flwr.cli.doctor.devices import check_device
from comdml_flwr.cli.doctor.memory import check_memory
from comdml_flwr.core.config import parse_config
from comdml_flwr.learning import devices
from comdml_flwr.learning.device import Device


@pytest.fixture
def _one_gpu(monkeypatch):
    """Let torch say that there is one, whatever this machine has."""
    monkeypatch.setattr(devices, "_accelerators", lambda: iter(["cuda:0"]))
    monkeypatch.setattr(devices, "_computes_in_its_precision", lambda device: device.precision != "bfloat16")
    properties = type("Properties", (), {"name": "Some GPU", "total_memory": 8e9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)


def found(**keys):
    finding, device = check_device(parse_config(keys))
    assert (device is None) == (finding.state == "wrong")
    return finding


@pytest.mark.usefixtures("_one_gpu")
def test_the_devices_are_named_with_the_one_that_trains():
    here = "cpu, cuda:0 (Some GPU, 8.0 GB) are here"
    assert found().says == f"{here}; device = cpu trains on cpu in float32"
    assert found(device="auto").says == f"{here}; device = auto trains on cuda:0 in float32"
    assert found(device="auto").facts["devices"] == ["cpu", "cuda:0"]


@pytest.mark.usefixtures("_one_gpu")
def test_a_device_that_is_not_here_is_wrong():
    finding = found(device="cuda:1")
    assert finding.says.endswith("device = 'cuda:1': must be one that is here: cpu, cuda:0 (or auto)")
    assert "--node-config" in finding.mend


@pytest.mark.usefixtures("_one_gpu")
def test_a_precision_that_the_device_lacks_is_wrong():
    finding = found(device="cuda", precision="bfloat16")
    assert "precision = 'bfloat16': must be one that cuda:0 computes in" in finding.says
    assert finding.mend.startswith("precision = float32")


def test_the_memory_that_counts_is_the_devices_and_holds_no_data(monkeypatch):
    config, gpu = parse_config({}), Device("cuda:0")
    monkeypatch.setattr(Device, "free_memory_bytes", lambda device: int(needed))
    needed = check_memory(config).facts["helping_bytes"]
    finding = check_memory(config, device=gpu)
    assert finding.state == "ok"
    assert "available on cuda:0" in finding.says
    needed -= 1
    assert check_memory(config, device=gpu).state == "warning"
