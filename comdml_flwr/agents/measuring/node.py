"""What a node measures on first contact with a run, and where it keeps it until the run is over."""

import json
from pathlib import Path

from comdml_flwr.agents.agent import Agent, Setup
from comdml_flwr.agents.measuring.compute import sustained_seconds_per_batch
from comdml_flwr.agents.measuring.memory import available_memory_bytes
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.wire import write_file
from comdml_flwr.planning.fleet.dynamics import SpeedEstimate
from comdml_flwr.planning.measured import Measured, read_measured

ENOUGH_BYTES = 1 << 20  # of a round's mail to a peer; less tells little of a link


def measure_node(setup: Setup, agent: int) -> Measured:
    """Measure this machine's training speed and what memory is left; no link.

    Memory is what is left when data and model are loaded. It has just trained the whole model, so that at
    least this fits, whatever the system says.
    """
    speed = SpeedEstimate(batch_s=sustained_seconds_per_batch(setup, agent))
    free_bytes = available_memory_bytes()
    if free_bytes is None:
        return Measured(speed=speed)
    return Measured(speed=speed, memory_bytes=max(float(free_bytes), setup.cuts[0].whole_bytes))


def observe_traffic(agent: Agent, transport: Transport) -> None:
    """Let an agent that has measured its links take in what sending of the last round's mail took."""
    measured, traffic = agent.measured, transport.take_traffic()
    if measured is None:
        return
    for peer, sent in traffic.items():
        if peer in measured.links and sent.num_bytes >= ENOUGH_BYTES:
            round_trips_s = 2 * measured.links[peer].latency_s * sent.num_starts
            busy_s = max(sent.busy_s - round_trips_s, sent.busy_s / 10)
            measured = measured.observe_link(peer, sent.num_bytes, busy_s)
    agent.measured = measured


def keep_measured(folder: Path, agent: int, measured: Measured) -> None:
    """Keep a measurement in a folder of the run, for messages that other processes handle."""
    write_file(_path(folder, agent), to_json(measured.as_json()).encode())


def kept_measured(folder: Path, agent: int) -> Measured | None:
    """Return the measurement that was kept; None if none was.

    Raises
    ------
    RunError
        What is there is no measurement.
    """
    path = _path(folder, agent)
    try:
        return read_measured(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: {error}") from None


def _path(folder: Path, agent: int) -> Path:
    return folder / "measured" / f"{agent}.json"
