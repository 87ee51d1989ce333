"""The ServerApp's part in checkpoints: it lets the nodes write them, and says which one they go on from."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from comdml_flwr.agents.state_files import agent_file, read_checked
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.core.program import agent_failed
from comdml_flwr.flower.records import facts_of, text
from comdml_flwr.flower.serverapp.grid_carrier import exchange_messages
from comdml_flwr.flower.serverapp.models import NodeModels
from comdml_flwr.flower.serverapp.nodes import Federation
from comdml_flwr.runs.checkpoints import FOLDER, Checkpoint
from comdml_flwr.runs.records import RunRecord


class NodeCheckpoints:
    """Checkpoints of which each node writes its agent's part.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    federation : Federation
        The nodes, and the folder that they may share.
    token : str
        Under which nodes know the run when it goes on.
    settle : Callable[[], Mapping[int, ConfigRecord]]
        Takes the mail that waits, and gives by agent what a node must know to write its part: `exchange`,
        `previous` and `packed` as in `train.steps`.
    on_wait : Callable[[], None]
        Called now and then while there is no reply.
    on_gone : Callable[[str], None]
        Told in one line which node did not write its part.
    models : NodeModels
        Says what the nodes are to write beside it.
    """

    def __init__(
        self,
        grid: Grid,
        federation: Federation,
        token: str,
        settle: Callable[[], Mapping[int, ConfigRecord]],
        models: NodeModels,
        on_wait: Callable[[], None] = lambda: None,
        on_gone: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._grid, self._federation, self._token = grid, federation, token
        self._settle, self._models = settle, models
        self._on_wait, self._on_gone = on_wait, on_gone

    def keep(self, folder: Path, record: RunRecord) -> dict[int, str]:
        """Let all nodes write a checkpoint; return the SHA-256 of each agent's file, by id.

        A node that is gone, or fails to write, has no file: its agent restarts without state.
        """
        round_ = len(record.rounds)
        facts = {
            agent: ConfigRecord({**about, "round": round_, **self._models.facts(agent, writes_last=True)})
            for agent, about in self._settle().items()
            if agent not in record.gone
        }
        replies = self._exchange("train.keep", facts, f"checkpoint of round {round_}")
        digests: dict[int, str] = {}
        for agent in facts:
            try:
                told = facts_of(replies[self._federation.nodes[agent]])
                digests[agent] = text(told, "sha256")
                if trouble := text(told, "trouble"):
                    self._on_gone(f"agent {agent}: {trouble}")
            except RunError as error:
                self._on_gone(str(agent_failed(agent, f"checkpoint of round {round_}", error)))
        if self._federation.shares_folder:
            self._take(folder, round_, digests)
        self._models.collect()
        return digests

    def _take(self, folder: Path, round_: int, digests: Mapping[int, str]) -> None:
        for agent, sha256 in digests.items():
            blob = read_checked(self._place(agent, round_), agent, sha256)
            write_file(folder / agent_file(agent), bytes(blob), sync=True)
        shutil.rmtree(self._federation.folder / FOLDER)

    def restore(self, folder: Path, checkpoint: Checkpoint) -> None:
        """Let all nodes go on from a checkpoint.

        Raises
        ------
        InputError, RunError
            A file is not there or damaged, or lies where it is not looked for.
        """
        if checkpoint.at_nodes == self._federation.shares_folder:
            place = "on its nodes" if checkpoint.at_nodes else "in this folder"
            rule = f"is {place}: whether all nodes see the run's folder must be as it was"
            raise InputError("checkpoint", str(folder), rule)
        if self._federation.shares_folder:
            for agent, sha256 in checkpoint.files.items():
                blob = read_checked(folder, agent, sha256)
                write_file(self._place(agent, checkpoint.round) / agent_file(agent), bytes(blob))
        facts = {
            agent: ConfigRecord({"round": checkpoint.round, "sha256": sha256, **self._models.facts(agent)})
            for agent, sha256 in checkpoint.files.items()
        }
        self._ask("train.restore", facts, f"checkpoint of round {checkpoint.round}")

    def forget(self) -> None:
        """Let nodes remove what they keep in folders of their own; one that does not costs nothing else."""
        if not self._federation.shares_folder:
            facts = {agent: ConfigRecord({"agent": agent}) for agent in self._federation.ids}
            self._exchange("train.forget", facts, "goodbye")

    def _place(self, agent: int, round_: int) -> Path:
        return self._federation.folder / FOLDER / str(agent) / str(round_)

    def _ask(self, kind: str, facts: Mapping[int, ConfigRecord], group: str) -> dict[int, ConfigRecord]:
        replies = self._exchange(kind, facts, group)
        told: dict[int, ConfigRecord] = {}
        for agent in facts:
            try:
                told[agent] = facts_of(replies[self._federation.nodes[agent]])
            except RunError as error:
                raise agent_failed(agent, group, error) from None
        return told

    def _exchange(self, kind: str, facts: Mapping[int, ConfigRecord], group: str) -> dict[int, Message]:
        nodes, common = self._federation.nodes, {**self._federation.common, "checkpoints": self._token}
        return exchange_messages(
            self._grid,
            kind,
            {
                nodes[agent]: RecordDict({"facts": ConfigRecord({**common, **about})})
                for agent, about in facts.items()
            },
            group=group,
            on_reply=self._on_wait,
            on_wait=self._on_wait,
        )
