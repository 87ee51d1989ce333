"""The federation of a run: which Flower node is which agent, and how agents' nodes are asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord

from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.sealed.key_cards import KeyCard
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.program import agent_failed
from comdml_flwr.flower.clientapp.keys import UNSIGNED
from comdml_flwr.flower.mail import check_message
from comdml_flwr.flower.records import blobs, content_of
from comdml_flwr.flower.same_start import check_same_start, start_of
from comdml_flwr.flower.serverapp.messenger import Messenger
from comdml_flwr.learning.metrics import KnownTests
from comdml_flwr.learning.models.sketch import Sketch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """All nodes of a run, greeted, and the way to them.

    Parameters
    ----------
    messenger : Messenger
        Sends messages to the nodes.
    nodes : dict[int, int]
        Flower node id by agent id.
    folder : Path
        The run's folder on this machine.
    common : ConfigRecord
        Facts that go with every message.
    addresses : dict[int, str]
        HOST:PORT by agent id, of those that say where peers reach them.
    hello_s : float
        How long the slowest node took to load what the run needs and to answer (measured).
    start : dict[str, Sketch]
        What all nodes begin with, by name.
    names : dict[str, str]
        Of the model and the data set, by key of the configuration.
    metrics : str
        Those of the nodes' task, as they tell them.
    model_bytes : int
        Of the run's model.
    tests : KnownTests
        What is known of the test samples of all agents.
    """

    messenger: Messenger
    nodes: dict[int, int]
    folder: Path
    common: ConfigRecord
    addresses: dict[int, str]
    hello_s: float
    start: dict[str, Sketch]
    names: dict[str, str]
    metrics: str
    model_bytes: int
    tests: KnownTests

    @property
    def ids(self) -> tuple[int, ...]:
        """All agents, ascending."""
        return tuple(sorted(self.nodes))

    @property
    def shares_folder(self) -> bool:
        """Whether all nodes see the run's folder."""
        return bool(self.common["files"])

    def check_server(self, setup: Setup) -> None:
        """Refuse a ServerApp that plays a server and has other data, or another model, than the nodes."""
        check_same_start({f"agent {self.ids[0]}": self.start, "the ServerApp": start_of(setup)})

    def check_relay(self) -> None:
        """Refuse, before training, a model that cannot travel through Flower. Raises RunError."""
        if not self.shares_folder:
            check_message("the model", self.model_bytes)

    def tell_of_unsigned_keys(self) -> None:
        """Say where the nodes' mail is sealed with keys that are not signed."""
        if not all(KeyCard.unpack(card).is_signed for card in blobs(self.common, "cards")):
            self.messenger.display.say(UNSIGNED)

    def ask(
        self,
        message_type: str,
        facts: Mapping[int, ConfigRecord],
        read: Callable[[ConfigRecord], T],
        *,
        what: str,
        patience_s: float = inf,
    ) -> tuple[dict[int, T], dict[int, RunError]]:
        """Ask agents' nodes, and read what they reply.

        Parameters
        ----------
        message_type : str
            As the ClientApp knows it.
        facts : Mapping[int, ConfigRecord]
            What each agent's node is told, besides what goes with every message.
        read : Callable[[ConfigRecord], T]
            Takes what a node tells; RunError where it is not what was asked for.
        what : str
            What the nodes do, for progress lines and errors.
        patience_s : float
            How long to wait for replies.

        Returns
        -------
        tuple[dict[int, T], dict[int, RunError]]
            What each agent's node told, and why the others did not, in a line that names the agent.

        Raises
        ------
        RunError
            Flower did not take the messages.
        """
        contents = {
            self.nodes[agent]: content_of(ConfigRecord({**self.common, **about}))
            for agent, about in facts.items()
        }
        self.messenger.display.exchange_begins(0, what, len(contents))
        replies = self.messenger.exchange(message_type, contents, group=what, patience_s=patience_s)
        told: dict[int, T] = {}
        failed: dict[int, RunError] = {}
        for agent in facts:
            try:
                if self.nodes[agent] not in replies:
                    raise RunError("no reply")
                told[agent] = read(replies[self.nodes[agent]].facts)
            except RunError as error:
                failed[agent] = agent_failed(agent, what, error)
        return told, failed

    def say_goodbye(self) -> None:
        """Let nodes remove what they keep of the run in folders of their own, and give addresses back."""
        if not self.shares_folder or self.common.get("carrier") == "direct":
            facts = dict.fromkeys(self.ids, ConfigRecord())
            self.ask("query.goodbye", facts, lambda facts: None, what="goodbye")
