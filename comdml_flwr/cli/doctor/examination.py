"""Which checks a machine is given, and in which order; a check that needs what is wrong is left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.carriers.transport.members import Member
from comdml_flwr.cli.doctor.certificates import are_usable, check_certificates
from comdml_flwr.cli.doctor.configuration import check_fleet, check_method
from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.cli.doctor.machine import check_cores, check_disks
from comdml_flwr.cli.doctor.network import check_port, check_superlink
from comdml_flwr.cli.doctor.own_app import check_app
from comdml_flwr.cli.doctor.policy import check_policy
from comdml_flwr.cli.doctor.software import (
    check_code,
    check_imports,
    check_packages,
    check_python,
    needed_here,
)
from comdml_flwr.core.app_folder import AppFolder
from comdml_flwr.core.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is told of the machine; None and no peers: that is not looked at.

    Parameters
    ----------
    config : RunConfig
        Of the run that it is to take part in.
    app : AppFolder, optional
        The user's own app that is to be trained.
    node_config : Mapping[str, Scalar], optional
        With `app`, what this machine's SuperNode is told.
    superlink, address, listen : str, optional
        HOST:PORT of the SuperLink, of `p2p-address` and of `p2p-listen`.
    root_certificates : Path, optional
        File with the authority of the SuperLink.
    certificates : Path, optional
        Folder with this agent's certificates.
    agent : int, optional
        Id of its agent, with `certificates`.
    peers : tuple[Member, ...]
        The other agents, with `certificates`.
    policy : Path, optional
        The file in which its owner says what the node takes part in.
    """

    config: RunConfig
    app: AppFolder | None = None
    node_config: Mapping[str, bool | int | float | str | bytes] | None = None
    superlink: str | None = None
    root_certificates: Path | None = None
    address: str | None = None
    listen: str | None = None
    certificates: Path | None = None
    agent: int | None = None
    peers: tuple[Member, ...] = ()
    policy: Path | None = None


def examine(machine: Machine, *, dial_peers: bool = True) -> Iterator[Finding]:
    """Give a machine its checks, one after the other."""
    needed = needed_here()
    yield check_python(needed)
    yield from check_packages(needed)
    imports = list(check_imports(machine.config.dataset))
    yield from imports
    yield check_code()
    if app := check_app(machine.app):
        yield app
    yield check_cores(machine.config)
    yield from check_disks(machine.config)
    fleet = check_fleet(machine.config, machine.agent)
    yield fleet
    if all(finding.state == "ok" for finding in imports):
        yield from _examine_training(machine, has_fleet=fleet.state == "ok")
    if machine.policy is not None:
        yield check_policy(machine.policy, machine.config, has_certificates=machine.certificates is not None)
    if machine.superlink is not None:
        yield check_superlink(machine.superlink, machine.root_certificates)
    if machine.address is not None:
        yield check_port(machine.address, machine.listen)
    yield from _examine_peers(machine, dial_peers)


def _examine_training(machine: Machine, *, has_fleet: bool) -> Iterator[Finding]:
    from comdml_flwr.cli.doctor.data_files import check_data  # torch, which is known to be there
    from comdml_flwr.cli.doctor.devices import check_device
    from comdml_flwr.cli.doctor.memory import check_memory
    from comdml_flwr.cli.doctor.own_training import check_own_training

    config = machine.config
    method = check_method(config)
    yield method
    if machine.app is None:
        yield check_data(config)
    finding, device = check_device(config)
    yield finding
    if device and machine.app is None:
        yield check_memory(config, device=device)
    elif device and machine.app and has_fleet and method.state == "ok":
        yield from check_own_training(machine.app, config, device, machine.node_config)


def _examine_peers(machine: Machine, dial_peers: bool) -> Iterator[Finding]:
    if machine.certificates is None or machine.agent is None:
        return
    own = list(check_certificates(machine.certificates, machine.agent))
    yield from own
    if dial_peers and are_usable(own):
        from comdml_flwr.cli.doctor.peers import check_peers

        yield from check_peers(machine.certificates, machine.agent, machine.peers)
