"""`comdml doctor`: what is wrong with this machine, and what mends it."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comdml_flwr.cli.commands.json_output import AsJson, print_json
from comdml_flwr.cli.commands.options import App, Settings, parse_settings
from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    from comdml_flwr.carriers.transport.members import Member
    from comdml_flwr.cli.doctor.examination import Machine
    from comdml_flwr.cli.doctor.findings import Finding
    from comdml_flwr.core.app_folder import AppFolder


def doctor(
    superlink: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The SuperLink, as given to flower-supernode.")
    ] = None,
    root_certificates: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="As given to flower-supernode; without: the system's."
        ),
    ] = None,
    p2p_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where peers reach this machine.")
    ] = None,
    p2p_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where it listens, if that is another address.")
    ] = None,
    certificates: Annotated[
        Path | None, typer.Option(help="Folder of this agent's certificates (`p2p-certificates`).")
    ] = None,
    agent: Annotated[int | None, typer.Option(min=0, help="Id of this machine's agent.")] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=HOST:PORT|FILE",
            help="Agents and their p2p-addresses, as often as you like, or a file with one a line; this"
            " machine's own may be among them. Needs --certificates.",
        ),
    ] = None,
    listen: Annotated[
        bool,
        typer.Option("--listen", help="In place of dialling the peers, be dialled by them until Ctrl-C."),
    ] = False,
    app: App = None,
    node_config: Annotated[
        str | None,
        typer.Option(
            metavar="'KEY=VALUE ...'",
            help="With --app: as given to flower-supernode, so that this node's own data are loaded. Without:"
            " those of all agents, up to ten, as in a simulation.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="File with what this machine's owner lets it take part in (`policy`)."),
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Look at a machine that is to take part in a federation: what is wrong, and what to type.

    A line for each check, `ok`, `warning` or `wrong`, and under it what mends it. Always: versions, our code,
    the Flower app in the working directory, the fleet file, the run's data, memory, cores, disk. With the
    options also: the node's policy, the SuperLink, the port, the certificates, the peers and how fast mail
    goes to them. Nothing is changed on the machine; clocks are never compared. Exit status 0 if nothing is
    wrong, 1 if something is, 2 if an option is.

    Example: comdml doctor --set dataset=cifar-10 --set data-dir=/data --set batch-size=100

    With --app, also an app of your own: whether it can be imported, what `load_data` gives, whether model and
    loss fit, where the model can be cut, and what memory that takes.

    Example: comdml doctor --app my-app --node-config 'partition-id=0 num-partitions=3 data-path="/data"'

    Example: comdml doctor --superlink 10.0.0.9:8000 --root-certificates ca.crt

    A SuperNode listens for its peers only during a run. So to try the links, type this on all machines but
    one, each with its own id and folder; the file has a line such as `0=10.0.0.1:9500` for each agent:

    Example: comdml doctor --certificates agent-1 --agent 1 --peers peers.txt --listen

    and on the one that is left the same without --listen:

    Example: comdml doctor --certificates agent-0 --agent 0 --peers peers.txt
    """
    from comdml_flwr.cli.doctor.examination import Machine, examine
    from comdml_flwr.core.app_config import defaults_here, find_app
    from comdml_flwr.core.config import parse_config

    folder, own = _own(certificates, agent)
    others, own_address = _peers(peers, own, folder)
    own_address = p2p_address or own_address
    _check_addresses(superlink, own_address, p2p_listen)
    _check_listen(listen, as_json, others, own_address)
    if root_certificates is not None and superlink is None:
        raise InputError("--root-certificates", str(root_certificates), "needs --superlink")
    own_app = None if app is None else find_app(app)
    defaults = {} if own_app is None else defaults_here(own_app)
    machine = Machine(
        config=parse_config({**defaults, **parse_settings(settings)}),
        app=own_app,
        node_config=_node_config(node_config, own_app),
        superlink=superlink,
        root_certificates=root_certificates,
        address=own_address,
        listen=p2p_listen,
        certificates=folder,
        agent=own,
        peers=others,
        policy=None if policy is None else policy.expanduser(),
    )
    if not listen:  # what the transport would log is among the findings
        logging.getLogger("comdml_flwr").addHandler(logging.NullHandler())
    findings = _tell(examine(machine, dial_peers=not listen), as_json)
    if listen:
        _answer(machine, findings)
    raise typer.Exit(int(any(finding.state == "wrong" for finding in findings)))


def _node_config(text: str | None, app: "AppFolder | None") -> dict[str, bool | int | float | str] | None:
    if text is None:
        return None
    if app is None:
        raise InputError("--node-config", text, "needs --app")
    from comdml_flwr.cli.doctor.node_config import parse_node_config

    return parse_node_config(text)


def _own(certificates: Path | None, agent: int | None) -> tuple[Path | None, int | None]:
    if (certificates is None) != (agent is None):
        rule = "need each other: a certificate is an agent's"
        raise InputError("--certificates, --agent", f"{certificates}, {agent}", rule)
    return None if certificates is None else certificates.expanduser(), agent


def _peers(
    texts: list[str] | None, agent: int | None, folder: Path | None
) -> "tuple[tuple[Member, ...], str | None]":
    """Return the others, and this machine's own address where it is among them."""
    if not texts:
        return (), None
    if folder is None or agent is None:
        raise InputError("--peers", texts[0], "needs --certificates and --agent")
    from comdml_flwr.cli.doctor.peers import parse_peers

    members = parse_peers(texts)
    own = members.pop(agent, None)
    return tuple(members[peer] for peer in sorted(members)), None if own is None else own.address


def _check_addresses(superlink: str | None, address: str | None, listen: str | None) -> None:
    from comdml_flwr.carriers.transport.members import split_address

    options = (("--superlink", superlink), ("--p2p-address", address), ("--p2p-listen", listen))
    for what, given in options:
        if given is not None:
            split_address(given, what)
    if listen is not None and address is None:
        raise InputError("--p2p-listen", listen, "needs --p2p-address, or this agent among --peers")


def _check_listen(listen: bool, as_json: bool, peers: "tuple[Member, ...]", address: str | None) -> None:
    if listen and as_json:
        raise InputError("--listen", True, "cannot go with --json: it prints a line for each peer")
    if listen and not peers:
        raise InputError("--listen", True, "needs --peers, --certificates and --agent")
    if listen and address is None:
        raise InputError("--listen", True, "needs --p2p-address, or this agent among --peers")


def _tell(examination: "Iterator[Finding]", as_json: bool) -> "list[Finding]":
    """Print what is found, each as soon as it is; or at the end, as JSON."""
    findings = []
    for finding in examination:
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong, warnings, well = (
        sum(finding.state == state for finding in findings) for state in ("wrong", "warning", "ok")
    )
    if as_json:
        told = [finding.as_json() for finding in findings]
        print_json({"ok": not wrong, "findings": told})
    else:
        typer.echo(f"{wrong} wrong, {warnings} warning{'s' * (warnings != 1)}, {well} ok")
    return findings


def _print(finding: "Finding") -> None:
    colour = {"ok": "green", "warning": "yellow", "wrong": "red"}[finding.state]
    typer.echo(f"{typer.style(f'{finding.state:<8}', fg=colour)} {finding.check}: {finding.says}")
    if finding.mend:
        typer.echo(f"{'':<8} -> {finding.mend}")


def _answer(machine: "Machine", findings: "list[Finding]") -> None:
    """Let peers' doctors send to this machine until Ctrl-C, unless what that takes is wrong."""
    from comdml_flwr.cli.doctor import certificates, network, peers

    assert machine.certificates is not None
    assert machine.agent is not None
    assert machine.address is not None
    is_port_free = all(finding.state != "wrong" for finding in findings if finding.check == network.PORT)
    if not (is_port_free and certificates.are_usable(findings)):
        typer.echo("not listening: it takes the port and the certificates")
        return
    where = machine.listen or machine.address
    names = ", ".join(f"agent {peer.agent}" for peer in machine.peers)
    typer.echo(f"listening on {where} for {names}; end it with Ctrl-C")
    with suppress(KeyboardInterrupt):
        peers.answer_peers(machine.certificates, machine.agent, where, machine.peers, typer.echo)
