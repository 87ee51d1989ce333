"""What a node measures on first contact with a run, and where it keeps it until the run is over."""

from pathlib import Path

from comdml_flwr.agents.measuring.compute import sustained_seconds_per_batch
from comdml_flwr.agents.measuring.memory import available_memory_bytes
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.core.strict_json import read_json_file, to_json
from comdml_flwr.learning.device import Device
from comdml_flwr.planning.measured import Measured, SpeedEstimate


def free_memory_bytes(device: Device) -> int | None:
    """Return what is left where a device's modules live; None where the system does not tell."""
    return available_memory_bytes() if device.is_host else device.free_memory_bytes()


def measure_node(setup: Setup, agent: int) -> Measured:
    """Measure the training speed of this machine's device and what memory is left there; no link.

    Memory is what is left when data and model are loaded: of a GPU's own, where that trains. It has just
    trained the whole model, so that at least this fits, whatever the system says.
    """
    speed = SpeedEstimate(batch_s=sustained_seconds_per_batch(setup, agent))
    free_bytes = free_memory_bytes(setup.device)
    if free_bytes is None:
        return Measured(speed=speed)
    return Measured(speed=speed, memory_bytes=max(float(free_bytes), setup.cuts[1].whole_bytes))


def keep_measured(folder: Path, agent: int, measured: Measured) -> None:
    """Keep a measurement in a folder of the run, for messages that other processes handle."""
    write_file(_path(folder, agent), to_json(measured.to_json()).encode())


def kept_measured(folder: Path, agent: int) -> Measured | None:
    """Return the measurement that was kept; None if none was.

    Raises
    ------
    RunError
        What is there is no measurement.
    """
    path = _path(folder, agent)
    try:
        return Measured.from_json(read_json_file(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: {error}") from None


def _path(folder: Path, agent: int) -> Path:
    return folder / "measured" / f"{agent}.json"
