"""The ServerApp's part in checkpoints: it lets the nodes write them, and says which one they go on from."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord

from comdml_flwr.agents.state_files import agent_file, read_checked
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.flower.records import text
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.models import NodeModels
from comdml_flwr.runs.checkpoints import FOLDER, Checkpoint
from comdml_flwr.runs.records import RunRecord

T = TypeVar("T")


class NodeCheckpoints:
    """Checkpoints of which each node writes its agent's part.

    Parameters
    ----------
    federation : Federation
        The nodes, and the folder that they may share.
    token : str
        Under which nodes know the run when it goes on.
    settle : Callable[[], Mapping[int, ConfigRecord]]
        Takes the mail that waits, and gives by agent what a node must know to write its part: `exchange`,
        `previous` and `packed` as in `train.steps`.
    models : NodeModels
        Says what the nodes are to write beside it.
    """

    def __init__(
        self,
        federation: Federation,
        token: str,
        settle: Callable[[], Mapping[int, ConfigRecord]],
        models: NodeModels,
    ) -> None:
        self._federation, self._token = federation, token
        self._settle, self._models = settle, models

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
        told, failed = self._ask(
            "train.keep",
            facts,
            lambda facts: (text(facts, "sha256"), text(facts, "trouble")),
            what=f"checkpoint of round {round_}",
        )
        troubles = [f"agent {agent}: {trouble}" for agent, (_, trouble) in told.items() if trouble]
        for line in (*troubles, *map(str, failed.values())):
            self._federation.messenger.display.say(line)
        digests = {agent: sha256 for agent, (sha256, _) in told.items()}
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
        what = f"checkpoint of round {checkpoint.round}"
        _, failed = self._ask("train.restore", facts, lambda facts: None, what=what)
        if failed:
            raise failed[min(failed)]

    def forget(self) -> None:
        """Let nodes remove what they keep in folders of their own; one that does not costs nothing else."""
        if not self._federation.shares_folder:
            facts = {agent: ConfigRecord({"agent": agent}) for agent in self._federation.ids}
            self._ask("train.forget", facts, lambda facts: None, what="goodbye")

    def _place(self, agent: int, round_: int) -> Path:
        return self._federation.folder / FOLDER / str(agent) / str(round_)

    def _ask(
        self,
        message_type: str,
        facts: Mapping[int, ConfigRecord],
        read: Callable[[ConfigRecord], T],
        *,
        what: str,
    ) -> tuple[dict[int, T], dict[int, RunError]]:
        about = {agent: ConfigRecord({"checkpoints": self._token, **told}) for agent, told in facts.items()}
        return self._federation.ask(message_type, about, read, what=what)
