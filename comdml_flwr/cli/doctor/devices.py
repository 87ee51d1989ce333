"""Which devices this machine trains on, and whether the one that the run asks for is there."""

from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.devices import describe_device, devices_here, find_device

CHECK = "device"


def check_device(config: RunConfig) -> tuple[Finding, Device | None]:
    """Look for the run's device; return what was found, and the device where it is there."""
    here = devices_here()
    facts = {"devices": list(here), "device": config.device, "precision": config.precision}
    names = ", ".join(describe_device(name) for name in here)
    says = f"{names} {'is' if len(here) == 1 else 'are'} here"
    try:
        device = find_device(config.device, config.precision)
    except InputError as error:
        mend = "device = auto, or in this SuperNode's --node-config 'device=\"cpu\"'"
        if error.what == "precision":
            mend = "precision = float32, on all machines"
        return Finding(CHECK, "wrong", f"{says}; {error}", mend, facts), None
    says = f"{says}; device = {config.device} trains on {device.name} in {config.precision}"
    return Finding(CHECK, "ok", says, facts=facts), device
