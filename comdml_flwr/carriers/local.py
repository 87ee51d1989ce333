"""The local carrier: all agents in this process, mail handed over as it is.

With `num_workers` > 1 agents run side by side in threads, each on its own modules; the result is the same to
the bit. `reverse_replies` turns the order round in which replies come in, which must not matter either.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state_files import Waiting, read_agent, write_agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.core.display import Display, Quiet
from comdml_flwr.core.messages import Envelope, Mailboxes, Outbox, Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step, agent_failed, has_second_phase


class LocalCarrier:
    """Runs all agents in this process.

    Parameters
    ----------
    agents : Sequence[Agent]
        All agents of the run.
    program : Program
        One round.
    num_workers : int
        How many agents run side by side.
    reverse_replies : bool
        Take the agents' replies in reversed order.
    display : Display, optional
        Shows when an agent has finished its part of an exchange.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        program: Program[Agent],
        *,
        num_workers: int = 1,
        reverse_replies: bool = False,
        display: Display | None = None,
    ) -> None:
        self._agents = {agent.id: agent for agent in agents}
        self._program = program
        self._mail: Mailboxes[Envelope] = Mailboxes()
        self._for_second: Mailboxes[Envelope] = Mailboxes()
        self._reverse = reverse_replies
        self._display = display or Quiet()
        self._pool = ThreadPoolExecutor(num_workers, "agent") if num_workers > 1 else None

    @property
    def agents(self) -> list[Agent]:
        """All agents as they are now, ascending; the server, if there is one, is the first."""
        return [agent for _, agent in sorted(self._agents.items())]

    def exchange(self, steps: Mapping[int, tuple[Step, ...]], absence: Absence = NOBODY) -> dict[int, Report]:
        """Run each agent's steps; see `Carrier.exchange`."""
        order = sorted(steps, reverse=self._reverse)
        side_by_side = self._pool.map if self._pool else map
        replies = list(side_by_side(lambda agent: self._run(agent, steps[agent], absence), order))
        last = self._program.last
        for boxes, is_last in ((self._mail, False), (self._for_second, True)):
            boxes.put(
                envelope
                for agent, (outbox, _) in zip(order, replies, strict=True)
                if (steps[agent][-1].phase == last) == is_last
                for envelope in outbox
            )
        return {agent: report for agent, (_, report) in zip(order, replies, strict=True)}

    def returned(self, gone: frozenset[int]) -> frozenset[int]:
        """Return all: what is in this process can be asked at any time; they begin without a state."""
        for agent in gone:
            self._agents[agent] = Agent(agent, self._agents[agent].setup)
            self._mail.take(agent)
            self._for_second.take(agent)
        return gone

    @property
    def why_gone(self) -> Mapping[int, str]:
        """Return nothing: an agent that fails in this process ends the run."""
        return {}

    def _run(self, agent: int, steps: tuple[Step, ...], absence: Absence) -> tuple[Outbox, Report]:
        try:
            inbox = self._mail.take(agent)
            if has_second_phase(steps):
                inbox = (*self._for_second.take(agent), *inbox)
            reply = run_steps(self._agents[agent], self._program, steps, inbox, absence)
        except Exception as error:
            raise agent_failed(agent, self._program.where(steps[-1]), error) from error
        self._display.reply()
        return reply

    def keep(self, folder: Path, gone: Collection[int] = ()) -> dict[int, str]:
        """Write all agents that are not gone, and their mail, for a checkpoint; return the files' digests."""
        return {
            number: write_agent(
                folder,
                agent,
                Waiting(for_first=self._mail.look(number), for_second=self._for_second.look(number)),
            )
            for number, agent in sorted(self._agents.items())
            if number not in gone
        }

    def restore(self, folder: Path, digests: Mapping[int, str]) -> None:
        """Take up what `keep` wrote. Raises InputError where it is damaged."""
        for number, sha256 in sorted(digests.items()):
            waiting = read_agent(folder, self._agents[number], sha256)
            self._mail.put(waiting.for_first)
            self._for_second.put(waiting.for_second)

    def close(self) -> None:
        """End the workers."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
