"""Measured next to forecast: the tables that the testbed prints, and the JSON that it writes.

`elapsed_s` is a stopwatch's: training, averaging, evaluation, and over the carrier `grid` what Flower takes
to carry messages. `virtual_time_s` is the cost model's, which knows neither evaluation nor Flower. So the
forecast is compared with what is left of `elapsed_s` without `evaluation_s`.
"""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_bandwidth, human_s
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS
from experiments.command import print_table
from experiments.testbed.federation import FinishedRun
from experiments.testbed.hosts import Host
from experiments.testbed.measuring import LinkSpeed

LATENCY = "not emulated; the fleet file's latency_ms counts in the forecast alone"

_GRID = (
    "carrier grid: each exchange of a round is a message through the SuperLink and a new process on each"
    " host, which loads torch and the data within the host's quota; the forecast knows nothing of that"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of hosts and links; by agent. Empty where it was not.

    Parameters
    ----------
    cpus : Mapping[int, float]
        Cores that a busy loop got.
    training : Mapping[int, tuple[float, float]]
        Batches/s, and FLOP/s that it is by the cost model's count.
    links : Sequence[LinkSpeed]
        Bandwidths.
    """

    cpus: Mapping[int, float]
    training: Mapping[int, tuple[float, float]]
    links: Sequence[LinkSpeed]


def machine() -> dict[str, Json]:
    """Return what the figures depend on: date, processor, cores, kernel, versions."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "processor": names[0] if names else platform.machine(),
        "num_cores": len(names),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("flwr", "torch")},
    }


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def relative(measured: float, asked: float) -> float:
    """Return by which share a figure is above another; negative: below.

    Examples
    --------
    >>> relative(11.0, 10.0), relative(9.0, 10.0)
    (0.1, -0.1)
    """
    return round(measured / asked - 1, 12)


def differences(run: FinishedRun) -> list[float]:
    """Return by which share training and averaging of each round took longer than their forecast."""
    return [relative(training_and_averaging_s(r), _number(r["virtual_time_s"])) for r in run.rounds]


def training_and_averaging_s(round_: Mapping[str, Json]) -> float:
    """Return what a round took without its evaluation (measured)."""
    return _number(round_["elapsed_s"]) - _number(round_["evaluation_s"])


def speed_up(runs: Mapping[str, FinishedRun], key: str) -> float | None:
    """Return how many times as fast ComDML's round is as AllReduce's, by medians of `key`; None: not run."""
    if not {"comdml", "allreduce"} <= runs.keys():
        return None
    alone, balanced = (median(_number(r[key]) for r in runs[name].rounds) for name in ("allreduce", "comdml"))
    return alone / balanced


def print_measured(hosts: Sequence[Host], measured: Measured) -> None:
    """Print what was measured of hosts and links, next to what was asked."""
    if measured.cpus or measured.training:
        _print_hosts(hosts, measured)
    if measured.links:
        _print_links(measured.links)


def _print_hosts(hosts: Sequence[Host], measured: Measured) -> None:
    rows = []
    for host in hosts:
        cpus, training = measured.cpus.get(host.agent), measured.training.get(host.agent)
        rows.append(
            (
                f"{host.agent} at {host.address}",
                f"{host.cpus:.3f}",
                *(("-", "-") if cpus is None else (f"{cpus:.3f}", f"{relative(cpus, host.cpus):+.1%}")),
                *(("-", "-") if training is None else (f"{training[0]:.3g}", f"{training[1]:.3g}")),
            )
        )
    heads = ("host", "cores asked", "measured", "difference", "batches/s", "FLOP/s")
    print_table(heads, rows, "Hosts (measured, all at the same time)")


def _print_links(links: Sequence[LinkSpeed]) -> None:
    rows = (
        (
            f"{link.sender} -> {link.receiver}",
            human_bandwidth(link.asked_bytes_per_s),
            human_bandwidth(link.measured_bytes_per_s),
            f"{relative(link.measured_bytes_per_s, link.asked_bytes_per_s):+.1%}",
        )
        for link in links
    )
    print_table(("link", "asked", "measured", "difference"), rows, "Links (measured, one after the other)")


def print_runs(runs: Mapping[str, FinishedRun]) -> None:
    """Print measured and forecast time of each round, and their summary."""
    rows = [
        (
            f"{method}, round {round_['round']}",
            human_s(_number(round_["elapsed_s"])),
            human_s(training_and_averaging_s(round_)),
            human_s(_number(round_["virtual_time_s"])),
            f"{difference:+.0%}",
            human_s(_number(round_["makespan_s"])),
            f"{_number(round_['accuracy']):.3f}",
        )
        for method, run in runs.items()
        for round_, difference in zip(run.rounds, differences(run), strict=True)
    ]
    heads = (
        *("run", "measured", "without evaluation", "forecast", "difference"),
        *("forecast, training alone", "accuracy"),
    )
    print_table(heads, rows, "Rounds")
    if any(run.summary["carrier"] == "grid" for run in runs.values()):
        print(_GRID)
    for method, run in runs.items():
        print(f"{method}: median difference {median(differences(run)):+.0%}; files: {run.folder}")
    measured, forecast = speed_up(runs, "elapsed_s"), speed_up(runs, "virtual_time_s")
    if measured is not None and forecast is not None:
        print(f"ComDML against AllReduce: {measured:.2f} times as fast, measured; forecast {forecast:.2f}")


def as_json(
    hosts: Sequence[Host], measured: Measured, runs: Mapping[str, FinishedRun], about: Mapping[str, Json]
) -> dict[str, Json]:
    """Return everything, for testbed.json; bandwidths in Mbps."""
    return {
        **machine(),
        **about,
        "latency": LATENCY,
        "hosts": [_host(host, measured) for host in hosts],
        "links": [_link(link) for link in measured.links],
        "runs": {method: _run(run) for method, run in runs.items()},
        "speed_up_measured": speed_up(runs, "elapsed_s"),
        "speed_up_forecast": speed_up(runs, "virtual_time_s"),
    }


def _host(host: Host, measured: Measured) -> dict[str, Json]:
    batches_per_s, flops_per_s = measured.training.get(host.agent, (None, None))
    return {
        "agent": host.agent,
        "address": host.address,
        "cpus_asked": host.cpus,
        "cpus_measured": measured.cpus.get(host.agent),
        "batches_per_s_measured": batches_per_s,
        "flops_per_s_measured": flops_per_s,
    }


def _link(link: LinkSpeed) -> dict[str, Json]:
    speeds = {
        name.replace("bytes_per_s", "mbps"): value / BYTES_PER_S_PER_MBPS
        for name, value in asdict(link).items()
        if isinstance(value, float)
    }
    return {"from": link.sender, "to": link.receiver, **speeds}


def _run(run: FinishedRun) -> dict[str, Json]:
    return {
        "folder": run.folder.name,
        "weights_sha256": run.summary["weights_sha256"],
        "carrier": run.summary["carrier"],
        "median_difference": median(differences(run)),
        "rounds": [
            {"difference": difference, **{key: r[key] for key in ("round", *_MEASURED, *_FORECAST, "plan")}}
            for r, difference in zip(run.rounds, differences(run), strict=True)
        ],
    }


_MEASURED = ("elapsed_s", "evaluation_s")
_FORECAST = ("virtual_time_s", "makespan_s", "predicted_s")


def _number(value: Json) -> float:
    assert isinstance(value, int | float)
    return value
