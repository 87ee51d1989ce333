"""Rounds that go from peer to peer, as the ServerApp sees them: it starts them, and hears how they went."""

import json
import time
from collections.abc import Callable, Mapping
from itertools import count

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from comdml_flwr.config import RunConfig
from comdml_flwr.errors import RunError
from comdml_flwr.flower.grid_carrier import exchange_messages
from comdml_flwr.flower.nodes import Federation
from comdml_flwr.flower.records import NO_STATE, facts_of, integer, text
from comdml_flwr.messages import Report, agent_failed
from comdml_flwr.rounds import Observer, RoundRecord, RunRecord, add_up, digest_of_all, digests_of


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
    ) -> None:
        self._grid, self._federation, self._config = grid, federation, config
        self._models_agree, self._on_reply, self._on_wait = models_agree, on_reply, on_wait
        self._states = dict.fromkeys(federation.ids, NO_STATE)

    def run(self, observer: Observer) -> RunRecord:
        """Run all rounds and tell the observer of each.

        Raises
        ------
        RunError
            An agent failed or is gone, or the agents' models differ where they must be equal.
        """
        began, last = time.monotonic(), self._config.num_rounds
        records: list[RoundRecord] = []
        digests: dict[int, str] = {}
        for first in count(1, self._config.rounds_per_message):
            if first > last:
                break
            until = min(last, first + self._config.rounds_per_message - 1)
            observer.exchange_begins(first, f"to round {until}, peer to peer", len(self._states))
            for round_, reports in self._message(first, until).items():
                elapsed_s = max(_seconds(report) for report in reports.values())
                records.append(add_up(round_, reports, elapsed_s, models_agree=self._models_agree))
                digests.update(digests_of(reports))
                observer.round_ends(records[-1])
        return RunRecord(
            rounds=tuple(records),
            weights_sha256=digest_of_all(digests),
            elapsed_s=time.monotonic() - began,
        )

    def _message(self, first: int, last: int) -> dict[int, dict[int, Report]]:
        """Let all nodes run these rounds; return the reports by round and agent."""
        name = f"rounds {first} to {last}"
        nodes = self._federation.nodes
        contents = {nodes[agent]: self._content(agent, first, last) for agent in self._states}
        replies = exchange_messages(
            self._grid,
            "train.rounds",
            contents,
            group=name,
            on_reply=self._on_reply,
            on_wait=self._on_wait,
        )
        told: dict[int, ConfigRecord] = {}
        failures: list[RunError] = []
        for agent in self._states:
            try:
                told[agent] = facts_of(replies[nodes[agent]])
            except RunError as error:
                failures.append(agent_failed(agent, name, error))
        if failures:
            raise _first_cause(failures)
        by_round: dict[int, dict[int, Report]] = {round_: {} for round_ in range(first, last + 1)}
        for agent, facts in told.items():
            self._states[agent] = integer(facts, "state")
            for round_, report in json.loads(text(facts, "reports")).items():
                by_round[int(round_)][agent] = report
        return by_round

    def _content(self, agent: int, first: int, last: int) -> RecordDict:
        addresses = self._federation.addresses
        facts: Mapping[str, int | list[int] | list[str]] = {
            "first": first,
            "last": last,
            "previous": self._states[agent],
            "agents": sorted(addresses),
            "addresses": [addresses[peer] for peer in sorted(addresses)],
        }
        return RecordDict({"facts": ConfigRecord({**self._federation.common, **facts})})


def _first_cause(failures: list[RunError]) -> RunError:
    """Return the failure that is not a consequence of another: that a peer is gone mostly is one."""
    return min(failures, key=lambda failure: "is gone" in str(failure))


def _seconds(report: Report) -> float:
    seconds = report["elapsed_s"]
    if not isinstance(seconds, int | float):
        raise RunError(f"a report holds {seconds!r} where a number belongs")
    return seconds
