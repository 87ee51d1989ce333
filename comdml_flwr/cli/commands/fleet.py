"""`comdml fleet new`, which writes fleet files."""

from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.cli.commands.argument_help import Command
from comdml_flwr.cli.commands.json_output import print_json, print_nothing_else
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import write_new

fleet_app = typer.Typer(
    help="Write fleet files: devices and links of published settings.", no_args_is_help=True
)


@fleet_app.callback()
def _group() -> None:
    """Keep the command's name even while it is the only one."""


@fleet_app.command(cls=Command)
def new(
    preset: Annotated[
        str,
        typer.Argument(
            help="`ten`, `comdml-10`, `comdml-20`, `comdml-50`, `comdml-100`, `dtfl-case-1` or `dtfl-case-2`."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; without it, standard output. Never overwrites."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same fleet.")] = 1,
    zero_mbps: Annotated[
        str, typer.Option(help="What 0 Mbps belongs to: `per-link` or `per-agent`; see above.")
    ] = "per-link",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object about the fleet; with --output.",
            callback=print_nothing_else,
        ),
    ] = False,
) -> None:
    """Write the fleet of a published setting.

    comdml-10, comdml-20, comdml-50, comdml-100:
    CPUs {4, 2, 1, 0.5, 0.2}, a fifth of the agents each (1 CPU is 1e9 FLOP/s), links drawn from
    {0, 10, 20, 50, 100} Mbps, ResNet-56, 50,000 samples in equal parts, a fifth of the devices drawn again
    every 100 rounds.

    What 0 Mbps belongs to decides the result. `per-link`: two agents are not connected, but both have other
    partners; exact pairing then makes training 5 times as fast. `per-agent`: an agent is cut off and can
    never offload; among 100 agents one of the slowest always is, and nothing is gained (with 10: 2.3 times).

    dtfl-case-1, dtfl-case-2: ten agents with {2, 1, 0.2} CPUs at 30 Mbps, or {4, 1, 0.1} CPUs at
    {100, 30, 10} Mbps; 30 % of the devices drawn again every 50 rounds.

    ten: the ten devices of a run that names no fleet; CPUs {4, 2, 1, 0.5, 0.2} twice.

    Wherever a fleet file is named, the name of a preset will do: that is its fleet of seed 1.

    Example: comdml fleet new comdml-100 --output fleet.toml && comdml plan fleet.toml
    """
    from comdml_flwr.planning.fleet.presets import preset_text

    if as_json and output is None:
        raise InputError("--json", True, "needs --output: the fleet itself is TOML")
    text = preset_text(preset, seed=seed, zero_mbps=zero_mbps)
    if output is None:
        typer.echo(text, nl=False)
        return
    _write_new(output, text)
    if as_json:
        print_json(_facts(preset, seed, zero_mbps, output))
    else:
        typer.echo(f"{output}: written; try `comdml plan {output}`")


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all."""
    try:
        write_new(path, text.encode())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError("--output", str(path), f"cannot be written: {reason}") from None


def _facts(preset: str, seed: int, zero_mbps: str, path: Path) -> dict[str, object]:
    from comdml_flwr.planning.fleet.fleet_file import load_fleet

    fleet = load_fleet(path)
    links = fleet.links_by_agent()
    linked = sum(link.bytes_per_s > 0 for own in links.values() for link in own.values()) // 2
    return {
        "preset": preset,
        "seed": seed,
        "zero_mbps": zero_mbps,
        "output": str(path),
        "num_agents": len(fleet.agents),
        "num_links": linked,
        "num_agents_without_links": sum(
            not any(link.bytes_per_s > 0 for link in own.values()) for own in links.values()
        ),
    }
