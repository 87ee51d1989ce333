"""The grid carrier: Flower's messages; the ServerApp only forwards mail.

It sorts packed envelopes by receiver and hands them on with the next message. It holds no weight and no plan,
and it opens no envelope.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from math import inf

from flwr.app import ConfigRecord, RecordDict

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct.deadlines import FACTOR
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Mailboxes, Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step, agent_failed
from comdml_flwr.flower.mail import PackedEnvelope, check_message
from comdml_flwr.flower.records import (
    NO_STATE,
    blobs,
    content_of,
    integers,
    reading,
    task,
    text,
    unpack_report,
)
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import SHORTEST_PATIENCE_S, UNREGISTERED, Reply


class GridCarrier:
    """Runs phases at Flower nodes.

    Parameters
    ----------
    federation : Federation
        The nodes.
    program : Program
        One round; its phases run at the nodes.
    tolerates_failures : bool
        Whether the others go on without an agent that fails; otherwise its failure ends the run.
    reverse_replies : bool
        Take replies in reversed order, which must not matter.
    """

    def __init__(
        self,
        federation: Federation,
        program: Program[Agent],
        *,
        tolerates_failures: bool = True,
        reverse_replies: bool = False,
    ) -> None:
        self._federation, self._nodes, self._program = federation, federation.nodes, program
        self._tolerates_failures, self._reverse = tolerates_failures, reverse_replies
        self._mail: Mailboxes[PackedEnvelope] = Mailboxes()
        self._for_second: Mailboxes[PackedEnvelope] = Mailboxes()  # `has_second_phase` says why
        self._last_seen: dict[int, int] = {}
        self._exchange = 0
        self._longest_s: dict[int, float] = {}  # by phase
        self._facts_for: Callable[[int], Mapping[str, str]] = lambda agent: {}
        self._why_gone: dict[int, str] = {}
        self._say_revoked: dict[int, frozenset[int]] = {}  # by who says it
        self._revoked: dict[int, RunError] = {}

    def exchange(self, steps: Mapping[int, tuple[Step, ...]], absence: Absence = NOBODY) -> dict[int, Report]:
        """Run each agent's steps; see `Carrier.exchange`."""
        self._exchange += 1
        contents = {
            self._nodes[agent]: self._content(agent, todo, absence)
            for agent, todo in steps.items()
            if agent not in self._revoked
        }
        began, phase = time.monotonic(), max(step.phase for todo in steps.values() for step in todo)
        replies = self._federation.messenger.exchange(
            "train.steps",
            contents,
            group=self._program.where(next(iter(steps.values()))[-1]),
            patience_s=self._patience_s,
        )
        self._longest_s[phase] = max(self._longest_s.get(phase, 0.0), time.monotonic() - began)
        self._last_seen |= dict.fromkeys(steps, self._exchange)
        reports: dict[int, Report] = {}
        last = self._program.last
        packed: list[PackedEnvelope] = []
        for_second: list[PackedEnvelope] = []
        failures: list[RunError] = []
        for agent in sorted(steps, reverse=self._reverse):
            try:
                facts = self._reply(replies, agent).facts
                with reading("its reply"):
                    report = unpack_report(text(facts, "report"))
                    revoked = frozenset(integers(facts, "revoked") if "revoked" in facts else ())
                    mail = [
                        PackedEnvelope(sender=agent, receiver=receiver, payload=sealed)
                        for receiver, sealed in zip(
                            integers(facts, "receivers"), blobs(facts, "packed"), strict=True
                        )
                    ]
            except RunError as error:
                failures.append(agent_failed(agent, self._program.where(steps[agent][-1]), error))
                self._why_gone[agent] = str(failures[-1])
                continue
            reports[agent], self._say_revoked[agent] = report, revoked
            (for_second if steps[agent][-1].phase == last else packed).extend(mail)
        for agent in self._newly_revoked() & reports.keys():
            del reports[agent]
            failures.append(agent_failed(agent, self._program.where(steps[agent][-1]), self._revoked[agent]))
            self._why_gone[agent] = str(failures[-1])
        self._tell(failures, has_survivors=bool(reports))
        self._mail.put(mail for mail in packed if mail.sender not in self._revoked)
        self._for_second.put(mail for mail in for_second if mail.sender not in self._revoked)
        return reports

    def _newly_revoked(self) -> frozenset[int]:
        """Return who is left out from now on: whom more than half of the others hold revoked."""
        new = set()
        for agent in self._nodes.keys() - self._revoked.keys():
            by = sorted(other for other, revoked in self._say_revoked.items() if agent in revoked - {other})
            if 2 * len(by) > len(self._nodes) - 1:
                new.add(agent)
                why = f"its certificate or key is revoked, by the policy of agents {', '.join(map(str, by))}"
                self._revoked[agent] = RunError(why)
        return frozenset(new)

    def returned(self, gone: frozenset[int]) -> frozenset[int]:
        """Return those of the agents whose nodes Flower can reach again; their states are not asked for."""
        there = set(self._federation.messenger.grid.get_node_ids())
        back = frozenset(agent for agent in gone - self._revoked.keys() if self._nodes[agent] in there)
        for agent in back:
            self._last_seen.pop(agent, None)
        return back

    @property
    def why_gone(self) -> Mapping[int, str]:
        """The last failure of each agent, in a line."""
        return self._why_gone

    def tell(self, facts_for: Callable[[int], Mapping[str, str]]) -> None:
        """Let these facts go with an agent's messages, besides the common ones."""
        self._facts_for = facts_for

    def settle(self) -> dict[int, ConfigRecord]:
        """Take all mail that waits, for an exchange of another kind than steps; see `NodeCheckpoints`."""
        self._exchange += 1
        return {agent: self._task(agent, (), NOBODY) for agent in self._nodes}

    def restored(self, state: int, agents: Iterable[int]) -> None:
        """Say that these agents' nodes have a state of this number."""
        self._last_seen = dict.fromkeys(agents, state)

    def take(self, receiver: int) -> tuple[PackedEnvelope, ...]:
        """Take the mail that waits for one who is no node: a server that the ServerApp plays."""
        return self._mail.take(receiver)

    def put(self, packed: Iterable[PackedEnvelope]) -> None:
        """Put mail of one who is no node among the mail of the next exchange."""
        self._mail.put(packed)

    @property
    def _patience_s(self) -> float:
        """How long a node may take for a phase: three times what a round took at most; at first, for ever.

        In any phase an agent may have to train what it had given away. A node that has died is told of by
        Flower; this is for one that lives and does not reply.
        """
        if not self._tolerates_failures or len(self._longest_s) <= self._program.last:
            return inf
        return max(SHORTEST_PATIENCE_S, FACTOR * sum(self._longest_s.values()))

    def _reply(self, replies: Mapping[int, Reply], agent: int) -> Reply:
        if agent in self._revoked:
            raise self._revoked[agent]
        node = self._nodes[agent]
        if node not in replies:
            if node not in {*self._federation.messenger.grid.get_node_ids()}:
                raise RunError(UNREGISTERED)
            raise RunError("no reply in three times as long as a round has taken")
        return replies[node]

    def _tell(self, failures: list[RunError], *, has_survivors: bool) -> None:
        """Say who is gone; raise where that ends the run."""
        for failure in sorted(failures, key=str):
            if not (self._tolerates_failures and has_survivors):
                raise failure
            self._federation.messenger.display.say(str(failure))

    def _content(self, agent: int, steps: tuple[Step, ...], absence: Absence) -> RecordDict:
        about = {**self._federation.common, **self._task(agent, steps, absence), **self._facts_for(agent)}
        return content_of(ConfigRecord(about))

    def _task(self, agent: int, steps: tuple[Step, ...], absence: Absence) -> ConfigRecord:
        for_second = self._for_second.take(agent)
        packed = (*for_second, *self._mail.take(agent))
        check_message(f"the mail for agent {agent}", sum(len(mail.payload) for mail in packed))
        return task(
            steps=steps,
            absence=absence,
            exchange=self._exchange,
            previous=self._last_seen.get(agent, NO_STATE),
            packed=[mail.payload for mail in packed],
            senders=[mail.sender for mail in packed],
            num_for_second=len(for_second),
        )

    def close(self) -> None:
        """Let nodes that keep the run's files in a folder of their own remove them."""
        self._federation.say_goodbye()
