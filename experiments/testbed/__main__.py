"""`python -m experiments.testbed`: see the package's docstring; `--help` teaches the rest."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from experiments.command import run
from experiments.testbed.cgroups import find_hierarchy
from experiments.testbed.hosts import CPU_FLOPS_PER_S, hosts_of
from experiments.testbed.leftovers import only_one, remove_leftovers
from experiments.testbed.session import Session, read_run_config


def main(
    fleet: Annotated[
        Path | None, typer.Argument(help="Fleet file; every agent is a host. Left out only with --clean.")
    ] = None,
    run_config: Annotated[
        list[str] | None,
        typer.Option(help="Keys of the run configuration, as for `flwr run`: 'local-epochs=1 seed=3'."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method, as often as you like: one run for each, in turn.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=0, help="Rounds of each run; 0: measure hosts and links, run nothing.")
    ] = None,
    flops_per_cpu: Annotated[
        float, typer.Option(min=1.0, help="flops_per_s of the fleet file that stand for one core of quota.")
    ] = CPU_FLOPS_PER_S,
    check: Annotated[
        bool, typer.Option(help="First measure the quotas and bandwidths that there really are.")
    ] = True,
    calibrate: Annotated[
        bool, typer.Option(help="Measure each host's training speed, and forecast with it.")
    ] = True,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also run each method in this process and compare the weights.")
    ] = False,
    node_config: Annotated[
        str,
        typer.Option(
            help="Added to every SuperNode's --node-config, beside partition-id, num-partitions and"
            " p2p-address; {agent} stands for its agent's id."
        ),
    ] = "",
    tls: Annotated[
        bool, typer.Option("--tls", help="TLS to the SuperLink, by certificates made here.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=1.0, help="How long one run may take.")] = 3600.0,
    output: Annotated[Path, typer.Option(help="Where a folder with all results is made.")] = Path(
        "results/testbed"
    ),
    clean: Annotated[
        bool, typer.Option("--clean", help="Only remove what a killed testbed left, and say what it was.")
    ] = False,
) -> None:
    """Run methods on real SuperNodes, on unequal hosts that this machine plays.

    Every agent of the fleet file becomes a network namespace with a CPU quota of flops_per_s / 1e9 cores and
    with the file's bandwidths, and in it a SuperNode. The SuperLink and `flwr run` stand beside them. Printed
    and written to testbed.json: what quotas and links really give, and the measured time of each round next
    to the forecast.

    Needs Linux, root, iproute2 (`ip`, `tc`), a cgroup hierarchy with the cpu controller, and about 1.2 GB of
    memory for each host. The sum of the quotas and 0.15 for the SuperLink must fit the machine's cores. The
    machine's own network is not touched; latency is not emulated.

    All is removed at the end and after Ctrl-C. After a kill -9 the next testbed removes it, or --clean does.

    Example: python -m experiments.testbed experiments/fleets/testbed.toml --rounds 3 --method comdml --method
    allreduce

    Example: python -m experiments.testbed experiments/fleets/testbed.toml --rounds 0

    Example: python -m experiments.testbed --clean; ip netns list
    """
    _check_machine()
    hierarchy = find_hierarchy(Path("/proc/self/mounts").read_text())
    if clean:
        with only_one():
            print(f"removed: {remove_leftovers(hierarchy)}")
        return
    if fleet is None:
        raise InputError("FLEET", None, "must be a fleet file; see --help")
    asked = load_fleet(fleet)
    session = Session(
        fleet=asked,
        hosts=hosts_of(asked, flops_per_cpu=flops_per_cpu, num_cores=len(os.sched_getaffinity(0))),
        methods=tuple(dict.fromkeys(method or ["comdml"])) if rounds != 0 else (),
        run_config=read_run_config(run_config or [], fleet, rounds),
        tls=tls,
        node_config=node_config,
        timeout_s=timeout_s,
    )
    session.check_names()
    session.go(hierarchy, output, check=check, calibrate=calibrate, verify=verify)


def _check_machine() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise RunError("the testbed makes network namespaces and CPU quotas: it needs Linux, and root")
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        raise RunError(f"{' and '.join(missing)} not found: install iproute2 (apt-get install iproute2)")


if __name__ == "__main__":
    run(main)
