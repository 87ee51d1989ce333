"""Rounds that go from peer to peer, as the ServerApp sees them: it starts them, and hears how they went.

A node that fails costs the others nothing but its share (carriers/direct/driver.py). When Flower says that it
is there again, it is asked to join the rounds that run. With the next message, the others wait for it as for
everybody, unless they did so in vain twice and nothing has been heard of it since. Nobody waits for a reply
much longer than the others took for theirs.

The learning rate of all rounds of a message is told with it. So where the rate follows the metric, a message
is one round.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from flwr.app import ConfigRecord, RecordDict

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct.deadlines import FACTOR
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Report
from comdml_flwr.core.program import NOBODY, Program, agent_failed
from comdml_flwr.core.typed_json import read_table
from comdml_flwr.flower.records import NO_STATE, content_of, facts_of, integer, integers, reading, task, text
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import POLL_S, SHORTEST_PATIENCE_S, UNREGISTERED
from comdml_flwr.learning.metrics import Metrics
from comdml_flwr.learning.schedule import follows_metric
from comdml_flwr.planning.participation import check_left
from comdml_flwr.runs.loop import checkpoint_follows, has_ended, reductions_after
from comdml_flwr.runs.records import RunRecord, add_up
from comdml_flwr.runs.report_numbers import number_in
from comdml_flwr.runs.reports import usable_reports

SHORTEST_START_S = 30.0
"""What a node may take at least to start, whatever it took for its hello: a busy machine is no fault."""

_LOOK_S = 2.0  # how often it is looked whether a node that failed is there again
_MOST_INVITATIONS = 3  # of one node to the rounds of one message
_MOST_WAITS = 2  # in vain, for one that has failed, at the beginning of a message


def last_of_message(first: int, config: RunConfig) -> int:
    """Return the last round of a message that begins with a round.

    A message ends where a checkpoint is due, and with each round where the learning rate follows the metric.
    """
    if follows_metric(config):
        return first
    until = min(config.num_rounds, first + config.rounds_per_message - 1)
    return next((r for r in range(first, until) if checkpoint_follows(r, config)), until)


class DirectRun:
    """All rounds of a run, `rounds-per-message` of them for each message.

    Parameters
    ----------
    federation : Federation
        The nodes, and where their peers reach them.
    config : RunConfig
        Number of rounds, and of rounds per message.
    program : Program
        One round; its phases run at the nodes.
    metrics : Metrics
        Those of the agents' task.
    """

    def __init__(
        self, federation: Federation, config: RunConfig, program: Program[Agent], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._federation, self._config, self._program = federation, config, program
        self._grid, self._display = federation.messenger.grid, federation.messenger.display
        self._absent: frozenset[int] = frozenset()  # who does not have the current model
        self._failure: RunError | None = None  # of the last message, if nobody ran it to its end
        self._states = dict.fromkeys(federation.ids, NO_STATE)
        self._facts_for: Callable[[int], Mapping[str, str]] = lambda agent: {}
        self._waits = dict.fromkeys(federation.ids, 0)  # in vain, by agent
        self._overdue: dict[str, int] = {}  # messages that nobody waits for any more, by id

    def tell(self, facts_for: Callable[[int], Mapping[str, str]]) -> None:
        """Let these facts go with an agent's messages, besides the common ones."""
        self._facts_for = facts_for

    def rounds(self, begun: RunRecord | None = None) -> Iterator[RunRecord]:
        """Run the rounds, many a message; a message ends where a checkpoint is due.

        Parameters
        ----------
        begun : RunRecord, optional
            The rounds that are over already, of a run that goes on.

        Yields
        ------
        RunRecord
            For each round of a message that has ended, all rounds so far.

        Raises
        ------
        RunError
            Fewer than two agents are left, or the agents' models differ where they must be equal.
        """
        record, config = begun or RunRecord(), self._config
        self._absent = frozenset(record.gone)
        while (first := len(record.rounds) + 1) <= config.num_rounds and not has_ended(record.rounds, config):
            until = last_of_message(first, config)
            self._display.exchange_begins(first, f"to round {until}, peer to peer", len(self._states))
            ended_here = self._message(first, until, reductions_after(record.rounds, config))
            for round_, (reports, gone) in ended_here.items():
                usable, distrusted = usable_reports(
                    round_,
                    reports,
                    self._metrics,
                    self._federation.tests,
                    models_agree=self._program.models_agree,
                )
                elapsed_s = max((number_in(report, "elapsed_s") for report in usable.values()), default=0.0)
                ended = add_up(
                    round_,
                    usable,
                    elapsed_s,
                    gone=gone,
                    distrusted=distrusted,
                    models_agree=self._program.models_agree,
                    metrics=self._metrics,
                )
                record = record.with_round(ended, usable, self._absent)
                yield record
                if has_ended(record.rounds, config):
                    break
            if self._failure or len(record.rounds) < first:
                raise self._failure or RunError(f"rounds {first} to {until}: no agent ended one")

    def settle(self) -> dict[int, ConfigRecord]:
        """Return what a node must know to write its part of a checkpoint; its mail waits there already."""
        return {
            agent: task(steps=(), absence=NOBODY, exchange=0, previous=state, packed=(), senders=())
            for agent, state in self._states.items()
        }

    def restored(self, state: int, agents: Iterable[int]) -> None:
        """Say that these agents' nodes have a state of this number."""
        self._states |= dict.fromkeys(agents, state)

    def close(self) -> None:
        """Let nodes that keep the run's files in a folder of their own remove them."""
        self._federation.say_goodbye()

    def _message(
        self, first: int, last: int, num_reductions: int
    ) -> dict[int, tuple[dict[int, Report], tuple[int, ...]]]:
        """Let all nodes run these rounds; return the reports by round and agent, and who was gone."""
        asked = self._ask(first, last, num_reductions)
        told = asked.told
        gone = {agent: reply.gone for agent, reply in told.items()}
        stopped = {agent: reply.stopped for agent, reply in told.items() if reply.stopped}
        witness = min(
            told.keys() - stopped.keys() or told,
            key=lambda agent: (sum(agent in others for others in gone.values()), agent),
        )
        self._absent = gone[witness] | (self._states.keys() - told.keys()) | stopped.keys()
        reports: dict[int, dict[int, Report]] = {}
        for agent, reply in told.items():
            self._states[agent] = reply.state
            for round_, report in reply.reports.items():
                reports.setdefault(round_, {})[agent] = report
        if witness in stopped:
            self._failure = asked.failed[min(asked.failed)]
            try:
                check_left(max(reports, default=first - 1) + 1, self._federation.ids, gone[witness])
            except RunError as left_alone:
                if str(left_alone) == stopped[witness]:
                    self._failure = left_alone
        return {round_: _of_those_together(reports[round_], witness) for round_ in sorted(reports)}

    def _ask(self, first: int, last: int, num_reductions: int) -> "_Asked":
        """Send the message to all nodes that are there, and wait until all have replied or failed."""
        asked = _Asked(first, last, num_reductions, to_invite={*self._states})
        began, look_again = time.monotonic(), 0.0
        while asked.waiting or not asked.told:
            if asked.to_invite and time.monotonic() >= look_again:
                look_again = time.monotonic() + _LOOK_S
                self._invite(asked)
            self._take_replies(asked)
            if time.monotonic() > asked.give_up:
                self._overdue |= asked.waiting
                for agent in asked.waiting.values():
                    late = f"no reply in {self._patience_s:.0f} s after the first of the others"
                    self._failed(asked, agent, RunError(late))
                asked.waiting.clear()
            if not asked.waiting and not asked.told and asked.failed.keys() >= asked.num_invited.keys():
                if asked.failed:
                    raise asked.failed[min(asked.failed)]
                if time.monotonic() > began + self._patience_s:
                    raise RunError(f"{asked.name}: of {len(self._states)} agents no node is there")
            self._display.heartbeat()
            time.sleep(POLL_S)
        for agent in asked.lacking:
            self._waits[agent] = self._waits[agent] + 1 if agent in asked.failed else 0
        return asked

    def _invite(self, asked: "_Asked") -> None:
        """Send the message to those whose nodes can be reached; at first, to all that have the model."""
        is_first = not asked.num_invited
        reached, nodes = {*self._grid.get_node_ids()}, self._federation.nodes
        there = {
            agent
            for agent in asked.to_invite
            if nodes[agent] in reached or (is_first and agent not in self._absent)
        }
        lacking: frozenset[int] = frozenset()
        if is_first:
            lacking = asked.lacking = frozenset(
                agent for agent in self._absent & there if self._waits[agent] < _MOST_WAITS
            )
        absent = (self._absent | asked.failed.keys()) - lacking
        by_node = {nodes[agent]: agent for agent in sorted(there)}
        contents = {node: self._content(agent, asked, absent, lacking) for node, agent in by_node.items()}
        sent = self._federation.messenger.push("train.rounds", contents, group=asked.name)
        asked.waiting |= {message: by_node[node] for message, node in sent.items()}
        asked.to_invite -= there
        for agent in sorted(there - {by_node[node] for node in sent.values()}):
            self._failed(asked, agent, RunError(UNREGISTERED))
        for agent in there:
            asked.num_invited[agent] = asked.num_invited.get(agent, 0) + 1

    def _take_replies(self, asked: "_Asked") -> None:
        """Take the replies that have come."""
        for reply in self._grid.pull_messages([*asked.waiting, *self._overdue]):
            message = reply.metadata.reply_to_message_id
            if message in self._overdue:  # its node takes messages again
                self._waits[self._overdue.pop(message)] = 0
                continue
            agent = asked.waiting.pop(message)
            self._display.reply()
            try:
                told = asked.told[agent] = _read_reply(facts_of(reply), asked)
            except RunError as error:
                self._failed(asked, agent, error)
                if reply.has_error() and asked.num_invited[agent] < _MOST_INVITATIONS:
                    asked.to_invite.add(agent)  # Flower's word for a process that died
                continue
            if told.stopped:
                self._failed(asked, agent, RunError(told.stopped))
            else:
                asked.give_up = min(asked.give_up, time.monotonic() + self._patience_s)

    def _failed(self, asked: "_Asked", agent: int, error: RunError) -> None:
        asked.failed[agent] = agent_failed(agent, asked.name, error)
        self._display.say(str(asked.failed[agent]))

    @property
    def _start_s(self) -> float:
        """How long a node may take to start."""
        return max(SHORTEST_START_S, FACTOR * self._federation.hello_s)

    @property
    def _patience_s(self) -> float:
        """How long after the first reply the others may come: who finds nobody there waits for a start."""
        return max(SHORTEST_PATIENCE_S, 2 * self._start_s)

    def _content(
        self, agent: int, asked: "_Asked", absent: Iterable[int], lacking: Iterable[int]
    ) -> RecordDict:
        addresses = self._federation.addresses
        facts: Mapping[str, int | float | list[int] | list[str]] = {
            "first": asked.first,
            "last": asked.last,
            "num-reductions": asked.num_reductions,
            "previous": self._states[agent],
            "absent": sorted(absent),
            "lacking": sorted(lacking),
            "start-s": self._start_s,
            "agents": sorted(addresses),
            "addresses": [addresses[peer] for peer in sorted(addresses)],
        }
        about = {**self._federation.common, **facts, **self._facts_for(agent)}
        return content_of(ConfigRecord(about))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What a node replies to a message."""

    gone: frozenset[int]  # as it knows it
    stopped: str  # why it did not run the message to its end; empty if it did
    state: int  # number of its last one
    reports: Mapping[int, Report]  # by round


def _read_reply(facts: ConfigRecord, asked: "_Asked") -> _Reply:
    """Return what a node replies. Raises RunError where that cannot be."""
    with reading("its reply"):
        told = read_table(json.loads(text(facts, "reports")))
        reply = _Reply(
            gone=frozenset(integers(facts, "gone")),
            stopped=text(facts, "stopped"),
            state=integer(facts, "state"),
            reports={int(round_): {**read_table(report)} for round_, report in told.items()},
        )
    if wrong := [round_ for round_ in reply.reports if not asked.first <= round_ <= asked.last]:
        raise RunError(f"it reports round {wrong[0]}, which is none of the message's")
    return reply


@dataclass(slots=True)
class _Asked:
    """What has become of one message to all nodes."""

    first: int
    last: int
    num_reductions: int  # of the learning rate before
    to_invite: set[int]
    told: dict[int, _Reply] = field(default_factory=dict)
    failed: dict[int, RunError] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)  # agents, by the ids of their messages
    num_invited: dict[int, int] = field(default_factory=dict)
    lacking: frozenset[int] = frozenset()  # who takes part from the first round on, and gets the model before
    give_up: float = inf  # when nobody waits for replies any more

    @property
    def name(self) -> str:
        """Its name, for errors and logs."""
        return f"rounds {self.first} to {self.last}"


def _of_those_together(reports: dict[int, Report], witness: int) -> tuple[dict[int, Report], tuple[int, ...]]:
    """Return the reports of those who ended a round with the witness, and who was gone for them."""
    seen_by = witness if witness in reports else min(reports)
    gone = reports[seen_by].get("gone")
    missing = tuple(agent for agent in gone if isinstance(agent, int)) if isinstance(gone, list) else ()
    return {agent: report for agent, report in reports.items() if agent not in missing}, missing
