"""SplitFed under `flwr run`: the agents are nodes, the ServerApp plays the server.

It runs the phases of methods/splitfed.py as every carrier does. Each batch costs two exchanges through
Flower, so this is for simulation of small runs.
"""

from collections.abc import Mapping
from contextlib import closing

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from comdml_flwr.agent import Agent, run_steps
from comdml_flwr.assemble import Catalogue, assemble, program_of
from comdml_flwr.config import RunConfig
from comdml_flwr.flower.grid_carrier import GridCarrier
from comdml_flwr.flower.mail import SealedLetter, seal, unseal
from comdml_flwr.flower.nodes import Federation, greet
from comdml_flwr.flower.peer_strategy import as_result
from comdml_flwr.messages import Program, Report, Step, agent_failed, phase_name
from comdml_flwr.planning.fleet_file import parse_fleet
from comdml_flwr.planning.types import SERVER
from comdml_flwr.results import record_run
from comdml_flwr.rounds import Observer, RunRecord, run_rounds
from comdml_flwr.terminal import Terminal


def run_splitfed(
    grid: Grid, config: RunConfig, fleet_text: str, catalogue: Catalogue, terminal: Terminal
) -> Result:
    """Run all rounds of SplitFed and write the files that every run writes.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    with greet(grid, fleet_text, terminal) as federation:
        setup = assemble(config, parse_fleet(fleet_text, config.fleet), len(federation.ids), catalogue)
        program = program_of(setup)
        names = tuple(map(phase_name, program))
        agents = GridCarrier(
            grid,
            federation.nodes,
            names,
            federation.common,
            on_reply=terminal.reply,
            on_wait=terminal.sign_of_life,
        )
        carrier = WithServer(agents, Agent(SERVER, setup), program, federation)

        def run(observer: Observer) -> RunRecord:
            return run_rounds(
                carrier, names, federation.ids, config, observer, setup.availability, has_server=True
            )

        with closing(carrier):
            return as_result(record_run(run, config, len(federation.ids), terminal))


class WithServer:
    """A carrier of which one end, the server, is in this process.

    Parameters
    ----------
    agents : GridCarrier
        The other ends.
    server : Agent
        The server.
    program : Program
        One round.
    federation : Federation
        Tells in which folder big mail lies.
    """

    def __init__(
        self, agents: GridCarrier, server: Agent, program: Program[Agent], federation: Federation
    ) -> None:
        self._agents, self._server, self._program = agents, server, program
        self._federation, self._exchange = federation, 0

    def exchange(self, steps: Mapping[int, tuple[Step, ...]]) -> dict[int, Report]:
        """Run the agents' steps at their nodes and the server's here; see `Carrier.exchange`."""
        self._exchange += 1
        letters = self._agents.take(SERVER)
        reports = self._agents.exchange({agent: todo for agent, todo in steps.items() if agent != SERVER})
        if SERVER in steps:
            reports[SERVER] = self._serve(steps[SERVER], letters)
        return reports

    def _serve(self, steps: tuple[Step, ...], letters: tuple[SealedLetter, ...]) -> Report:
        folder, shared = self._federation.folder, self._federation.shares_folder
        try:
            inbox = unseal([letter.sealed for letter in letters], folder)
            outbox, report = run_steps(self._server, self._program, steps, inbox)
        except Exception as error:
            last = steps[-1]
            where = f"round {last.round}, {phase_name(self._program[last.phase])}"
            raise agent_failed(SERVER, where, error) from error
        sealed = seal(outbox, folder, shared=shared, exchange=self._exchange)
        self._agents.put(
            SealedLetter(sender=SERVER, receiver=envelope.receiver, sealed=blob)
            for envelope, blob in zip(outbox, sealed, strict=True)
        )
        return report

    def close(self) -> None:
        """Give back what the agents' carrier holds."""
        self._agents.close()
