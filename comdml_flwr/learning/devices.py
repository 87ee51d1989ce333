"""Which devices this process has, and the one that a run asks for."""

import warnings
from collections.abc import Iterator

import torch

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.settings.device import Precision
from comdml_flwr.core.units import human_bytes
from comdml_flwr.learning.device import Device

AUTO = "auto"


def devices_here() -> tuple[str, ...]:
    """Return the names of the devices that this process sees: "cpu", then "cuda:0", "cuda:1", ...

    Where a scheduler grants a process some of a machine's GPUs, as Ray does, it sees no others.
    """
    return "cpu", *_accelerators()


def find_device(wanted: str, precision: Precision = "float32", *, is_deterministic: bool = False) -> Device:
    """Return the device of a run.

    Parameters
    ----------
    wanted : str
        As in the run configuration. "auto": a GPU if one is here; of several, the first, as "cuda" does.
    precision : str
        Of the run.
    is_deterministic : bool
        Whether torch may use deterministic kernels alone.

    Raises
    ------
    InputError
        It is not here, or does not compute in this precision.

    Examples
    --------
    >>> find_device("cpu").name
    'cpu'
    """
    here = devices_here()
    if wanted == AUTO:
        name = here[1] if len(here) > 1 else here[0]
    else:
        found = [name for name in here if wanted in (name, name.partition(":")[0])]
        if not found:
            raise InputError("device", wanted, f"must be one that is here: {', '.join(here)} (or auto)")
        name = found[0]
    device = Device(name, precision, is_deterministic)
    if not _computes_in_its_precision(device):
        raise InputError("precision", precision, f"must be one that {name} computes in, such as float32")
    return device


def describe_device(name: str) -> str:
    """Return a device's name with its maker's and its memory, as people know it."""
    kind, _, number = name.partition(":")
    if kind not in ("cuda", "xpu"):
        return name
    facts = getattr(torch, kind).get_device_properties(int(number))
    return f"{name} ({facts.name}, {human_bytes(facts.total_memory)})"


def _accelerators() -> Iterator[str]:
    for kind in ("cuda", "xpu"):
        module = getattr(torch, kind)
        if module.is_available():
            yield from (f"{kind}:{number}" for number in range(module.device_count()))
    if torch.backends.mps.is_available():
        yield "mps"


def _computes_in_its_precision(device: Device) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # some versions warn and compute in float32
        try:
            with device.autocast():
                return True
        except (RuntimeError, UserWarning):
            return False
