"""`comdml certificates`: an authority and certificates for a test federation."""

from pathlib import Path
from typing import Annotated

import typer

from comdml_flwr.cli.commands.options import key_and_value
from comdml_flwr.core.errors import InputError

LONGEST_DAYS = 5 * 365


def certificates(
    folder: Annotated[Path, typer.Argument(help="Folder of the federation; made where it is not there.")],
    agents: Annotated[str, typer.Option(help="Agent ids: `0,1,2` or `0-9`.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            help="AGENT=NAME,...: host names or addresses to name besides, for tools that look at them;"
            " ComDML does not. May be given several times."
        ),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=LONGEST_DAYS, help="How long the certificates are valid.")
    ] = 365,
) -> None:
    """Make the certificates with which peers that mail each other directly know each other (mutual TLS).

    FOLDER gets an authority of this federation (`ca.crt`, `ca.key`) and a folder for each agent:
    `agent-3/ca.crt`, `agent-3/agent.crt`, `agent-3/agent.key`. Copy `agent-3` to agent 3's machine, and
    nothing else. Each machine has its own key, and `ca.key` stays where you made it, away from them all.
    Whoever has `ca.key` can let anybody in.

    A certificate names its agent, as the URI `comdml://agent/3` and as the DNS name
    `agent-3.comdml.internal` (which need not exist). Certificates of your own authority do as well if they
    carry both names and may be used by TLS servers and clients.

    Call it again with new ids when agents join: the authority that is there is used. Nothing is ever
    overwritten.

    Example: comdml certificates federation --agents 0-2 --hosts 0=gpu.lab,192.168.1.4
    """
    from comdml_flwr.carriers.transport.certificates import make_certificates

    ids = _parse_agents(agents)
    made = make_certificates(folder, ids, _parse_hosts(hosts or [], ids), days)
    for agent, path in zip(ids, made, strict=True):
        typer.echo(
            f"{path}: copy it to the machine of agent {agent}, readable by who runs its SuperNode only"
        )
    typer.echo(f"{folder / 'ca.key'}: keep it to yourself; it is needed when agents join")
    typer.echo(f"valid for {days} days")


def _parse_agents(text: str) -> list[int]:
    ids: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        bounds = [first, last] if dash else [first, first]
        if not all(bound.isascii() and bound.isdigit() and len(bound) < 6 for bound in bounds):
            raise InputError("--agents", text, "must be ids of at most 5 digits, such as 0,1,2 or 0-9")
        ids.extend(range(int(bounds[0]), int(bounds[1]) + 1))
    if len(set(ids)) != len(ids) or not ids:
        raise InputError("--agents", text, "must name each agent once")
    return ids


def _parse_hosts(texts: list[str], ids: list[int]) -> dict[int, list[str]]:
    hosts: dict[int, list[str]] = {}
    for text in texts:
        agent, names = key_and_value(text, "--hosts")
        if agent not in map(str, ids):
            raise InputError("--hosts", text, "must begin with one of the agents' ids")
        hosts.setdefault(int(agent), []).extend(name.strip() for name in names.split(",") if name.strip())
    return hosts
