"""SplitFed under `flwr run`: the agents are nodes, the ServerApp plays the server.

It runs the phases of methods/splitfed.py as every carrier does. Each batch costs two exchanges through
Flower, so this is for simulation of small runs.

Where mail is sealed, the server is one more peer: it has a key of its own, and adds its card to the agents'.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.sealed.key_cards import new_card, table_of_keys
from comdml_flwr.carriers.sealed.sealing import Sealer, new_private_key, public_key_of
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.messages import Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step, agent_failed
from comdml_flwr.flower.mail import PackedEnvelope, pack, unpack
from comdml_flwr.flower.records import blobs, text
from comdml_flwr.flower.serverapp.asked_run import as_result
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.grid_carrier import GridCarrier
from comdml_flwr.flower.serverapp.nodes import greet
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.assemble import assemble, program_of
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.results import recorded
from comdml_flwr.runs.terminal import Terminal
from comdml_flwr.runs.trained_models import ModelsHere


def run_splitfed(
    grid: Grid, config: RunConfig, fleet_text: str, catalogue: Catalogue, terminal: Terminal
) -> Result:
    """Run all rounds of SplitFed and write the files that every run writes.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line.
    """
    with greet(grid, fleet_text, terminal) as greeted:
        greeted.check_relay()
        greeted.tell_of_unsigned_keys()
        private_key = new_private_key()
        federation = with_server_among(greeted, public_key_of(private_key))
        setup = assemble(config, parse_fleet(fleet_text, config.fleet), len(federation.ids), catalogue)
        federation.check_server(setup)
        program = program_of(setup)
        agents = GridCarrier(federation, program, tolerates_failures=False)
        server = Agent(SERVER, setup)
        carrier = WithServer(agents, server, program, federation, private_key)
        models = ModelsHere(lambda: [server], models_agree=True)
        rounds = run_rounds(
            carrier,
            program,
            federation.ids,
            config,
            terminal,
            setup.availability,
            metrics=setup.task.metrics,
        )
        with closing(carrier):
            written = recorded(rounds, config, len(federation.ids), terminal, models=models)
            return as_result(last(written))


def with_server_among(federation: Federation, public_key: bytes) -> Federation:
    """Add the server's card to the agents', where mail is sealed."""
    if federation.shares_folder:
        return federation
    common = federation.common
    card = new_card(text(common, "token"), SERVER, public_key)
    return replace(
        federation, common=ConfigRecord({**common, "cards": [card.pack(), *blobs(common, "cards")]})
    )


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
        Tells in which folder big mail lies, and everybody's keys.
    private_key : bytes
        The server's.
    """

    def __init__(
        self,
        agents: GridCarrier,
        server: Agent,
        program: Program[Agent],
        federation: Federation,
        private_key: bytes,
    ) -> None:
        self._agents, self._server, self._program = agents, server, program
        self._federation, self._private_key = federation, private_key
        self._exchange = self._last_served = 0

    def exchange(self, steps: Mapping[int, tuple[Step, ...]], absence: Absence = NOBODY) -> dict[int, Report]:
        """Run the agents' steps at their nodes and the server's here; see `Carrier.exchange`."""
        self._exchange += 1
        packed = self._agents.take(SERVER)
        reports = self._agents.exchange({agent: todo for agent, todo in steps.items() if agent != SERVER})
        if SERVER in steps:
            reports[SERVER] = self._serve(steps[SERVER], packed)
        return reports

    def returned(self, gone: frozenset[int]) -> frozenset[int]:
        """Return nobody: an agent that fails ends the run."""
        return frozenset()

    @property
    def why_gone(self) -> Mapping[int, str]:
        """Why agents have failed."""
        return self._agents.why_gone

    def _serve(self, steps: tuple[Step, ...], packed: tuple[PackedEnvelope, ...]) -> Report:
        folder = self._federation.folder
        try:
            sealer = self._sealer()
            payloads, senders = [mail.payload for mail in packed], [mail.sender for mail in packed]
            unpacked = unpack(payloads, senders, SERVER, folder, sealer)
            inbox, faults = unpacked.those(0), unpacked.faults
            outbox, report = run_steps(self._server, self._program, steps, inbox, NOBODY, faults)
        except Exception as error:
            raise agent_failed(SERVER, self._program.where(steps[-1]), error) from error
        sealed = pack(outbox, folder, sealer, exchange=self._exchange)
        self._agents.put(
            PackedEnvelope(sender=SERVER, receiver=envelope.receiver, payload=blob)
            for envelope, blob in zip(outbox, sealed, strict=True)
        )
        return report

    def _sealer(self) -> Sealer | None:
        if self._federation.shares_folder:
            return None
        common = self._federation.common
        token, since = text(common, "token"), self._last_served
        self._last_served = self._exchange
        return Sealer(
            run=token,
            agent=SERVER,
            private_key=self._private_key,
            public_keys=table_of_keys(blobs(common, "cards"), token),
            exchange=self._exchange,
            since=since,
        )

    def close(self) -> None:
        """Give back what the agents' carrier holds."""
        self._agents.close()
