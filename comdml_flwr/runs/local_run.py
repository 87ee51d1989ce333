"""A run in this process: the local carrier, the same results folder and the same lines as under Flower."""

from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.config import find_fleet, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import load_fleet, self_contained_text
from comdml_flwr.runs.assemble import agent_ids, assemble, participants_of, program_of
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.checkpoints import Checkpoints
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.results import recorded
from comdml_flwr.runs.resuming import find_run
from comdml_flwr.runs.terminal import Terminal
from comdml_flwr.runs.trained_models import ModelsHere


def run_locally(
    values: Mapping[str, object],
    *,
    num_agents: int | None = None,
    num_workers: int = 1,
    catalogue: Catalogue | None = None,
    terminal: Terminal | None = None,
) -> RunRecord:
    """Run a method over the local carrier, write its files, and return the record of all its rounds.

    Parameters
    ----------
    values : Mapping[str, object]
        Keys of the run configuration; `carrier` is "local" unless it is given. With `resume`, those that are
        not given are those of the run that goes on.
    num_agents : int, optional
        How many agents of the fleet take part: those with the lowest ids. May be left out for a run that goes
        on: it has its own.
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
    return last(
        local_rounds(
            values,
            num_agents=num_agents,
            num_workers=num_workers,
            catalogue=catalogue,
            terminal=terminal,
        )
    )


def local_rounds(
    values: Mapping[str, object],
    *,
    num_agents: int | None = None,
    num_workers: int = 1,
    catalogue: Catalogue | None = None,
    terminal: Terminal | None = None,
    leaves_models: bool = True,
) -> Generator[RunRecord]:
    """Yield the record of a run over the local carrier whenever a round has ended and is written down.

    Of a run that goes on, the rounds that are over come first. The last files are written when all rounds
    have been drawn. Parameters and errors are those of `run_locally`, and:

    Parameters
    ----------
    leaves_models : bool
        Whether the run writes its models into its folder.
    """
    config = parse_config({"carrier": "local", **values})
    if config.carrier != "local":
        raise InputError("carrier", config.carrier, "must be 'local' here; the others are for `flwr run`")
    if config.profiles == "measured":
        raise InputError("profiles", config.profiles, "must be 'fleet' (or 'auto') here, on one machine")
    resumed = find_run(config.resume, {"carrier": "local", **values}) if config.resume else None
    if resumed:
        config, fleet = resumed.config, resumed.fleet
        num_agents = num_agents or len(resumed.checkpoint.ids)
        resumed.check_agents(agent_ids(fleet, num_agents))
    else:
        fleet = load_fleet(find_fleet(config.fleet))
    if num_agents is None:
        raise InputError("num_agents", num_agents, "must be given for a run that begins")
    config = config.model_copy(update={"profiles": "fleet"})
    setup = assemble(config, fleet, num_agents, catalogue)
    config = setup.config  # with the names of the app's own model and data
    program = program_of(setup)
    terminal = terminal or Terminal(config.num_rounds)
    terminal.warn(setup.warnings)
    carrier = LocalCarrier(participants_of(setup), program, num_workers=num_workers, display=terminal)

    def holders() -> list[Agent]:
        return [agent for agent in carrier.agents if agent.is_server == program.has_server]

    models = ModelsHere(holders, models_agree=program.models_agree) if leaves_models else None

    def keep(folder: Path, record: RunRecord) -> dict[int, str]:
        if models:
            models.keep_last(record.rounds)
        return carrier.keep(folder, record.gone)

    checkpoints = None
    if resumed or config.checkpoint_every:
        fleet_text = resumed.checkpoint.fleet if resumed else self_contained_text(find_fleet(config.fleet))
        checkpoints = Checkpoints(config=config, fleet_text=fleet_text, ids=setup.ids, keep=keep)
    with closing(carrier):
        if resumed:
            carrier.restore(resumed.checkpoint_folder, resumed.checkpoint.files)
        rounds = run_rounds(
            carrier,
            program,
            setup.ids,
            config,
            terminal,
            setup.availability,
            begun=resumed.record if resumed else None,
            metrics=setup.task.metrics,
        )
        yield from recorded(rounds, config, len(setup.ids), terminal, checkpoints, resumed, models)
