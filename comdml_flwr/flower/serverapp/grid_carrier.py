"""The grid carrier: Flower's messages; the ServerApp only forwards mail.

It sorts packed envelopes by receiver and hands them on with the next message. It holds no weight and no plan,
and it opens no envelope.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from math import inf

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct.deadlines import FACTOR
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Mailboxes, Report
from comdml_flwr.core.program import NOBODY, Absence, Program, Step, agent_failed
from comdml_flwr.flower.mail import PackedEnvelope, check_message
from comdml_flwr.flower.records import NO_STATE, blobs, facts_of, integers, task, text, unpack_report

POLL_S = 0.02  # Flower's simulation hands mail over every 0.1 s
SHORTEST_PATIENCE_S = 60.0
"""How long a node may take at least: about as long as Flower takes to miss one that is dead."""


def push_messages(
    grid: Grid, message_type: str, contents: Mapping[int, RecordDict], *, group: str
) -> dict[str, int]:
    """Send a message to each node; return the nodes by the ids of their messages.

    Raises
    ------
    RunError
        Flower did not take them all.
    """
    messages = [
        Message(content=content, dst_node_id=node, message_type=message_type, group_id=group)
        for node, content in contents.items()
    ]
    ids = list(grid.push_messages(messages))
    if len(ids) != len(messages) or not all(ids):
        raise RunError(f"{group}: Flower took {len([i for i in ids if i])} of {len(messages)} messages")
    return dict(zip(ids, contents, strict=True))


def exchange_messages(
    grid: Grid,
    message_type: str,
    contents: Mapping[int, RecordDict],
    *,
    group: str,
    on_reply: Callable[[], None],
    on_wait: Callable[[], None],
    arrived_s: dict[int, float] | None = None,
    patience_s: float = inf,
) -> dict[int, Message]:
    """Send a message to each node and return the replies by node id, errors included.

    When each came (`time.monotonic()`), by node id, is put into `arrived_s`. Who does not reply in time is
    missing.

    Flower's own `send_and_receive` looks for replies every 3 s, and cannot say who replied with an error:
    an error's sender may be the SuperLink, so replies are told apart by the message that they answer.
    """
    waiting = push_messages(grid, message_type, contents, group=group)
    replies: dict[int, Message] = {}
    give_up = time.monotonic() + patience_s
    while waiting and time.monotonic() < give_up:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id)
            replies[node] = reply
            if arrived_s is not None:
                arrived_s[node] = time.monotonic()
            on_reply()
        if waiting:
            on_wait()
            time.sleep(POLL_S)
    return replies


class GridCarrier:
    """Runs phases at Flower nodes.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    nodes : Mapping[int, int]
        Flower node id by agent id.
    program : Program
        One round; its phases run at the nodes.
    common : ConfigRecord
        Facts that go with every message.
    on_reply, on_wait : Callable[[], None]
        Called for every reply, and now and then while there is none.
    on_gone : Callable[[str], None], optional
        Told in one line who is gone, while the others go on; without it, that ends the run.
    reverse_replies : bool
        Take replies in reversed order, which must not matter.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[int, int],
        program: Program[Agent],
        common: ConfigRecord,
        *,
        on_reply: Callable[[], None] = lambda: None,
        on_wait: Callable[[], None] = lambda: None,
        on_gone: Callable[[str], None] | None = None,
        reverse_replies: bool = False,
    ) -> None:
        self._grid, self._nodes, self._program = grid, nodes, program
        self._common, self._reverse = common, reverse_replies
        self._on_reply, self._on_wait, self._on_gone = on_reply, on_wait, on_gone
        self._mail: Mailboxes[PackedEnvelope] = Mailboxes()
        self._for_second: Mailboxes[PackedEnvelope] = Mailboxes()  # `has_second_phase` says why
        self._last_seen: dict[int, int] = {}
        self._exchange = 0
        self._longest_s: dict[int, float] = {}  # by phase
        self._facts_for: Callable[[int], Mapping[str, str]] = lambda agent: {}
        self._why_gone: dict[int, str] = {}

    def exchange(self, steps: Mapping[int, tuple[Step, ...]], absence: Absence = NOBODY) -> dict[int, Report]:
        """Run each agent's steps; see `Carrier.exchange`."""
        self._exchange += 1
        contents = {self._nodes[agent]: self._content(agent, todo, absence) for agent, todo in steps.items()}
        began, phase = time.monotonic(), max(step.phase for todo in steps.values() for step in todo)
        replies = exchange_messages(
            self._grid,
            "train.steps",
            contents,
            group=self._program.where(next(iter(steps.values()))[-1]),
            on_reply=self._on_reply,
            on_wait=self._on_wait,
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
                facts = facts_of(self._reply(replies, agent))
            except RunError as error:
                failures.append(agent_failed(agent, self._program.where(steps[agent][-1]), error))
                self._why_gone[agent] = str(failures[-1])
                continue
            reports[agent] = unpack_report(text(facts, "report"))
            box = for_second if steps[agent][-1].phase == last else packed
            box += [
                PackedEnvelope(sender=agent, receiver=receiver, payload=sealed)
                for receiver, sealed in zip(integers(facts, "receivers"), blobs(facts, "packed"), strict=True)
            ]
        self._tell(failures, has_survivors=bool(reports))
        self._mail.put(packed)
        self._for_second.put(for_second)
        return reports

    def returned(self, gone: frozenset[int]) -> frozenset[int]:
        """Return those of the agents whose nodes Flower can reach again; their states are not asked for."""
        there = set(self._grid.get_node_ids())
        back = frozenset(agent for agent in gone if self._nodes[agent] in there)
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
        if self._on_gone is None or len(self._longest_s) <= self._program.last:
            return inf
        return max(SHORTEST_PATIENCE_S, FACTOR * sum(self._longest_s.values()))

    def _reply(self, replies: Mapping[int, Message], agent: int) -> Message:
        node = self._nodes[agent]
        if node not in replies:
            raise RunError("no reply in three times as long as a round has taken")
        return replies[node]

    def _tell(self, failures: list[RunError], *, has_survivors: bool) -> None:
        """Say who is gone; raise where that ends the run."""
        for failure in sorted(failures, key=str):
            if self._on_gone is None or not has_survivors:
                raise failure
            self._on_gone(str(failure))

    def _content(self, agent: int, steps: tuple[Step, ...], absence: Absence) -> RecordDict:
        about = {**self._common, **self._task(agent, steps, absence), **self._facts_for(agent)}
        return RecordDict({"facts": ConfigRecord(about)})

    def _task(self, agent: int, steps: tuple[Step, ...], absence: Absence) -> ConfigRecord:
        for_second = self._for_second.take(agent)
        packed = [packed.payload for packed in (*for_second, *self._mail.take(agent))]
        check_message(f"the mail for agent {agent}", sum(map(len, packed)))
        return task(
            steps=steps,
            absence=absence,
            exchange=self._exchange,
            previous=self._last_seen.get(agent, NO_STATE),
            packed=packed,
            num_for_second=len(for_second),
        )

    def close(self) -> None:
        """Let nodes that keep the run's files in a folder of their own remove them."""
        say_goodbye(self._grid, self._nodes.values(), self._common, self._on_wait)


def say_goodbye(grid: Grid, nodes: Iterable[int], common: ConfigRecord, on_wait: Callable[[], None]) -> None:
    """Let nodes that keep the run's files in a folder of their own remove them, and give addresses back."""
    if not common["files"] or common.get("carrier") == "direct":
        contents = dict.fromkeys(nodes, RecordDict({"facts": common}))
        exchange_messages(grid, "query.goodbye", contents, group="goodbye", on_reply=on_wait, on_wait=on_wait)
