"""Agents that fail at a chosen place of a chosen round, on each carrier."""

from dataclasses import dataclass

from flwr.app import Error, Message

from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.program import NOBODY, Step
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.records import integers
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.small import CATALOGUE, run_local


@dataclass(frozen=True)
class FailAt:
    """Agent `agent` dies in a phase of a round, before it has done anything of it; it may be back later."""

    agent: int
    phase: int
    round: int
    back_in: int | None = None

    def hits(self, agent, steps):
        """Tell whether the agent is dead in one of these steps."""
        return agent == self.agent and any(self._is_dead(step) for step in steps)

    def is_back(self, round_):
        """Tell whether the agent can be asked again, for a round that it may take part in."""
        return self.back_in is not None and round_ >= self.back_in

    def _is_dead(self, step):
        died = (step.round, step.phase) >= (self.round, self.phase)
        return died and not self.is_back(step.round)


class FaultyLocalCarrier(LocalCarrier):
    """The local carrier, some of whose agents die; who has not died is there at once."""

    def __init__(self, agents, program, faults, **keys):
        super().__init__(agents, program, **keys)
        self._faults, self._round = faults, 0

    def exchange(self, steps, absence=NOBODY):
        self._round = max(step.round for todo in steps.values() for step in todo)
        dead = {agent for agent, todo in steps.items() if any(f.hits(agent, todo) for f in self._faults)}
        alive = {agent: todo for agent, todo in steps.items() if agent not in dead}
        return super().exchange(alive, absence)

    def returned(self, gone):
        dead = {f.agent for f in self._faults if not f.is_back(self._round + 1)}
        return super().returned(frozenset(gone - dead))


def run_local_with(config, fleet, faults):
    """Run over the local carrier; return the record and the agents that are left."""
    carriers = []

    def make_carrier(agents, program, **keys):
        carriers.append(FaultyLocalCarrier(agents, program, faults, **keys))
        return carriers[0]

    record, _ = run_local(config, fleet, make_carrier=make_carrier)
    return record, carriers[0]._agents


class FaultyGrid(LoopGrid):
    """Replies for dead nodes as Flower does: with an error."""

    def __init__(self, *args, faults, **keys):
        super().__init__(*args, **keys)
        self._faults, self._round = faults, 0

    def get_node_ids(self):
        dead = {f.agent for f in self._faults if not f.is_back(self._round + 1)}
        return [
            node for node in super().get_node_ids() if self._agent_of(node) not in dead or not self._round
        ]

    def _agent_of(self, node):
        return self._contexts[node].node_config["partition-id"]

    def _handle(self, message):
        facts = message.content.config_records.get("facts", {})
        if not facts.get("rounds"):  # no steps to run
            return super()._handle(message)
        steps = tuple(map(Step, integers(facts, "rounds"), integers(facts, "phases")))
        self._round = max(step.round for step in steps)
        if not any(f.hits(self._agent_of(message.metadata.dst_node_id), steps) for f in self._faults):
            return super()._handle(message)
        self._count += 1
        name = f"message-{self._count}"
        message.metadata.__dict__["_message_id"] = name
        error = Error(code=5, reason="the node is dead")
        self._replies[name] = Message(error=error, reply_to=message)
        return name


def run_grid_with(config, fleet_text, num_nodes, faults):
    """Run a whole method over a LoopGrid some of whose nodes die."""
    app = peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = FaultyGrid(app, num_nodes, config.with_defaults_named(), faults=faults)
    return run_serverless(grid, config, fleet_text, quiet_terminal(config.num_rounds))
