"""A run in this process: the local carrier, the same results folder and the same lines as under Flower."""

from collections.abc import Mapping
from contextlib import closing

from comdml_flwr.agent import Agent
from comdml_flwr.assemble import METHODS, Catalogue, assemble
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.config import find_fleet, parse_config
from comdml_flwr.errors import InputError
from comdml_flwr.messages import phase_name
from comdml_flwr.planning.fleet_file import load_fleet
from comdml_flwr.results import record_run
from comdml_flwr.rounds import RunRecord
from comdml_flwr.terminal import Terminal


def run_locally(
    values: Mapping[str, object],
    *,
    num_agents: int,
    num_workers: int = 1,
    catalogue: Catalogue | None = None,
    terminal: Terminal | None = None,
) -> RunRecord:
    """Run a method over the local carrier, write its files, and return what it came to.

    Parameters
    ----------
    values : Mapping[str, object]
        Keys of the run configuration; `carrier` is "local" unless it is given.
    num_agents : int
        How many agents of the fleet take part: those with the lowest ids.
    num_workers : int
        Agents that train side by side.
    catalogue : Catalogue, optional
        Models and data sets of your own.
    terminal : Terminal, optional
        Where to print.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    config = parse_config({"carrier": "local", **values})
    if config.carrier != "local":
        raise InputError("carrier", config.carrier, "must be 'local' here; 'grid' is for `flwr run`")
    setup = assemble(config, load_fleet(find_fleet(config.fleet)), num_agents, catalogue)
    program = METHODS[config.method](config)
    terminal = terminal or Terminal(config.num_rounds)
    agents = [Agent(agent, setup) for agent in setup.ids]
    carrier = LocalCarrier(agents, program, num_workers=num_workers, on_reply=terminal.reply)
    names = tuple(map(phase_name, program))
    with closing(carrier):
        return record_run(carrier, names, setup.ids, config, terminal, setup.availability)
