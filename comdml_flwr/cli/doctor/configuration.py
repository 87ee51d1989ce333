"""Names in a run configuration: its method, and its fleet, which must have this machine's agent."""

from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.config import RunConfig, find_fleet
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import load_fleet

METHOD, FLEET = "method", "fleet"


def check_method(config: RunConfig) -> Finding:
    """Look whether there is such a method."""
    from comdml_flwr.runs.catalogue import METHODS  # torch

    if config.method in METHODS:
        return Finding(METHOD, "ok", config.method)
    mend = f"--set method={'|'.join(sorted(METHODS))}"
    return Finding(METHOD, "wrong", f"there is no method {config.method}", mend)


def check_fleet(config: RunConfig, agent: int | None) -> Finding:
    """Read the fleet file and look for this machine's agent."""
    path = find_fleet(config.fleet)
    mend = f"--set fleet=NAME of a preset, or FILE, an absolute path; or correct {path}"
    try:
        fleet = load_fleet(path)
    except InputError as error:
        return Finding(FLEET, "wrong", str(error), mend)
    ids = sorted(device.id for device in fleet.agents)
    says, facts = f"{len(ids)} agents in {path}", {"num_agents": len(ids)}
    if agent is not None and agent not in ids:
        return Finding(FLEET, "wrong", f"{says}, but agent {agent} is not among them", mend, facts)
    return Finding(FLEET, "ok", says if agent is None else f"{says}, agent {agent} among them", facts=facts)
