"""Rounds that go from peer to peer, as the ServerApp sees them: it starts them, and hears how they went.

A node that fails costs the others nothing but its share (carriers/direct.py). When Flower says that it is
there again, it is asked to join the rounds that run; otherwise it is asked with the next message.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from comdml_flwr.config import RunConfig
from comdml_flwr.errors import RunError
from comdml_flwr.flower.grid_carrier import POLL_S, push_messages, say_goodbye
from comdml_flwr.flower.nodes import Federation
from comdml_flwr.flower.records import NO_STATE, facts_of, integer, integers, task, text
from comdml_flwr.messages import NOBODY, Report, agent_failed
from comdml_flwr.peers.deadlines import FACTOR
from comdml_flwr.rounds import (
    Keeper,
    Observer,
    Progress,
    RoundRecord,
    RunRecord,
    add_up,
    digest_of_all,
    digests_of,
    has_ended,
)

SHORTEST_START_S = 30.0
"""What a node may take at least to start, whatever it took for its hello: a busy machine is no fault."""

_LOOK_S = 2.0  # how often it is looked whether a node that failed is there again
_MOST_INVITATIONS = 3  # of one node to the rounds of one message


class DirectRun:
    """All rounds of a run, so many for each message.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    federation : Federation
        The nodes, and where their peers reach them.
    config : RunConfig
        Number of rounds, and of rounds per message.
    models_agree : bool
        Whether all who took part must hold the same weights after a round.
    on_reply, on_wait : Callable[[], None]
        Called for every reply, and now and then while there is none.
    on_gone : Callable[[str], None]
        Told in one line who failed, while the others go on.
    """

    def __init__(
        self,
        grid: Grid,
        federation: Federation,
        config: RunConfig,
        *,
        models_agree: bool,
        on_reply: Callable[[], None] = lambda: None,
        on_wait: Callable[[], None] = lambda: None,
        on_gone: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._grid, self._federation, self._config = grid, federation, config
        self._models_agree, self._on_reply, self._on_wait = models_agree, on_reply, on_wait
        self._on_gone = on_gone
        self._absent: frozenset[int] = frozenset()  # who does not have the current model
        self._states = dict.fromkeys(federation.ids, NO_STATE)
        self._facts_for: Callable[[int], Mapping[str, str]] = lambda agent: {}

    def tell(self, facts_for: Callable[[int], Mapping[str, str]]) -> None:
        """Let these facts go with an agent's messages, besides the common ones."""
        self._facts_for = facts_for

    def run(
        self,
        observer: Observer,
        checkpoints: Keeper | None = None,
        on_round: Callable[[Sequence[RoundRecord]], None] = lambda rounds: None,
    ) -> RunRecord:
        """Run all rounds and tell the observer of each; a message ends where a checkpoint is due.

        Raises
        ------
        RunError
            Nobody is left, or the agents' models differ where they must be equal.
        """
        began, last = time.monotonic(), self._config.num_rounds
        begun = checkpoints.begun if checkpoints else Progress()
        records, digests = list(begun.rounds), dict(begun.digests)
        self._absent = frozenset(begun.gone)
        while (first := len(records) + 1) <= last and not has_ended(records, self._config):
            until = min(last, first + self._config.rounds_per_message - 1)
            if checkpoints:
                until = next(filter(checkpoints.is_due, range(first, until)), until)
            observer.exchange_begins(first, f"to round {until}, peer to peer", len(self._states))
            for round_, (reports, gone) in self._message(first, until).items():
                elapsed_s = max(_seconds(report) for report in reports.values())
                agree = self._models_agree
                records.append(add_up(round_, reports, elapsed_s, gone=gone, models_agree=agree))
                digests.update(digests_of(reports))
                on_round(records)
                observer.round_ends(records[-1])
                if has_ended(records, self._config):
                    break
            is_last = has_ended(records, self._config)
            if checkpoints and checkpoints.is_due(len(records), is_last=is_last):
                gone = tuple(sorted(self._absent))
                checkpoints.save(Progress(rounds=tuple(records), digests=digests, gone=gone))
        return RunRecord(
            rounds=tuple(records),
            weights_sha256=digest_of_all(digests),
            elapsed_s=begun.elapsed_s + time.monotonic() - began,
        )

    def settle(self) -> dict[int, ConfigRecord]:
        """Return what a node must know to write its part of a checkpoint; its mail waits there already."""
        return {
            agent: task(steps=(), absence=NOBODY, exchange=0, previous=state, letters=())
            for agent, state in self._states.items()
        }

    def restored(self, state: int, agents: Iterable[int]) -> None:
        """Say that these agents' nodes have a state of this number."""
        self._states |= dict.fromkeys(agents, state)

    def close(self) -> None:
        """Let nodes that keep the run's files in a folder of their own remove them."""
        say_goodbye(self._grid, self._federation.nodes.values(), self._federation.common, self._on_wait)

    def _message(self, first: int, last: int) -> dict[int, tuple[dict[int, Report], tuple[int, ...]]]:
        """Let all nodes run these rounds; return the reports by round and agent, and who was gone."""
        told = self._told(first, last)
        gone = {agent: frozenset(integers(facts, "gone")) for agent, facts in told.items()}
        witness = min(told, key=lambda agent: (sum(agent in others for others in gone.values()), agent))
        self._absent = gone[witness] | (self._states.keys() - told.keys())
        reports: dict[int, dict[int, Report]] = {}
        for agent, facts in told.items():
            self._states[agent] = integer(facts, "state")
            for round_, report in json.loads(text(facts, "reports")).items():
                reports.setdefault(int(round_), {})[agent] = report
        return {round_: _of_those_together(reports[round_], witness) for round_ in sorted(reports)}

    def _told(self, first: int, last: int) -> dict[int, ConfigRecord]:
        """Send the message to all nodes that are there; return the facts of those who did not fail."""
        name = f"rounds {first} to {last}"
        told: dict[int, ConfigRecord] = {}
        failed: dict[int, RunError] = {}
        waiting: dict[str, int] = {}
        invitations = dict.fromkeys(self._states, 0)
        to_invite, look_again = {*self._states}, 0.0
        while waiting or not told:
            if to_invite and time.monotonic() >= look_again:
                look_again = time.monotonic() + _LOOK_S
                there = self._those_there(to_invite, first_time=not told and not failed)
                waiting |= self._invite(there, first, last, name, self._absent | failed.keys())
                to_invite -= there
                for agent in there:
                    invitations[agent] += 1
            for reply in self._grid.pull_messages(list(waiting)):
                agent = waiting.pop(reply.metadata.reply_to_message_id)
                self._on_reply()
                try:
                    told[agent] = facts_of(reply)
                except RunError as error:
                    failed[agent] = agent_failed(agent, name, error)
                    self._on_gone(str(failed[agent]))
                    if reply.has_error() and invitations[agent] < _MOST_INVITATIONS:
                        to_invite.add(agent)  # Flower's word for a process that died
            if not waiting and not told and failed.keys() >= invitations.keys() - to_invite:
                raise failed[min(failed)]
            self._on_wait()
            time.sleep(POLL_S)
        return told

    def _those_there(self, agents: Iterable[int], *, first_time: bool) -> set[int]:
        """Return those of the agents whose nodes can be reached; at first, all that have the model."""
        there = {*self._grid.get_node_ids()}
        nodes = self._federation.nodes
        return {a for a in agents if nodes[a] in there or (first_time and a not in self._absent)}

    def _invite(
        self, agents: Iterable[int], first: int, last: int, name: str, absent: Iterable[int]
    ) -> dict[str, int]:
        """Send the message to these agents; return them by its id."""
        nodes = self._federation.nodes
        by_node = {nodes[agent]: agent for agent in sorted(agents)}
        contents = {node: self._content(agent, first, last, absent) for node, agent in by_node.items()}
        sent = push_messages(self._grid, "train.rounds", contents, group=name)
        return {message: by_node[node] for message, node in sent.items()}

    def _content(self, agent: int, first: int, last: int, absent: Iterable[int]) -> RecordDict:
        addresses = self._federation.addresses
        facts: Mapping[str, int | float | list[int] | list[str]] = {
            "first": first,
            "last": last,
            "previous": self._states[agent],
            "absent": sorted(absent),
            "start-s": max(SHORTEST_START_S, FACTOR * self._federation.hello_s),
            "agents": sorted(addresses),
            "addresses": [addresses[peer] for peer in sorted(addresses)],
        }
        about = {**self._federation.common, **facts, **self._facts_for(agent)}
        return RecordDict({"facts": ConfigRecord(about)})


def _of_those_together(reports: dict[int, Report], witness: int) -> tuple[dict[int, Report], tuple[int, ...]]:
    """Return the reports of those who ended a round with the witness, and who was gone for them."""
    seen_by = witness if witness in reports else min(reports)
    gone = reports[seen_by].get("gone")
    missing = tuple(agent for agent in gone if isinstance(agent, int)) if isinstance(gone, list) else ()
    return {agent: report for agent, report in reports.items() if agent not in missing}, missing


def _seconds(report: Report) -> float:
    seconds = report["elapsed_s"]
    if not isinstance(seconds, int | float):
        raise RunError(f"a report holds {seconds!r} where a number belongs")
    return seconds
