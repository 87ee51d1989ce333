"""`comdml run`: a method in this process."""

from typing import Annotated

import typer

from comdml_flwr.commands.fleet import run_dry
from comdml_flwr.commands.options import Settings, parse_settings


def run(
    settings: Settings = None,
    num_agents: Annotated[int, typer.Option(min=1, help="How many agents of the fleet take part.")] = 10,
    num_workers: Annotated[
        int, typer.Option(min=1, help="Agents that train side by side; the result does not depend on it.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plans and the virtual clock only: no data, no training.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = False,
) -> None:
    """Run a method in this process, without Flower's engine; the same result as `flwr run .`, to the bit.

    With --dry-run, model, batch size and samples come from the fleet file, and with `--set hysteresis=0.1` it
    says by how much that cuts re-pairings and what it costs in makespan.

    Example: comdml run --set num-rounds=3 --set method=allreduce

    Example: comdml run --dry-run --num-agents 100 --set num-rounds=200 --set fleet=fleet.toml
    """
    if dry_run or as_json:
        return run_dry(parse_settings(settings), num_agents, dry_run=dry_run, as_json=as_json)
    from comdml_flwr.local_run import run_locally  # imports torch

    run_locally(parse_settings(settings), num_agents=num_agents, num_workers=num_workers)
