"""Messages to Flower nodes and their replies, with a sign of life while there is none."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from comdml_flwr.core.display import Display, Quiet
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.records import facts_of

UNREGISTERED = "its node was unregistered: Flower takes no message for it"
POLL_S = 0.02  # Flower's simulation hands mail over every 0.1 s
SHORTEST_PATIENCE_S = 60.0
"""How long a node may take at least: about as long as Flower takes to miss one that is dead."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A node's reply.

    Parameters
    ----------
    message : Message
        What came, which may be an error of Flower's.
    arrived_s : float
        When it came, by `time.monotonic()`.
    """

    message: Message
    arrived_s: float

    @property
    def facts(self) -> ConfigRecord:
        """What the node tells. Raises RunError where it, or Flower for it, failed."""
        return facts_of(self.message)


@dataclass(frozen=True, slots=True)
class Messenger:
    """Sends messages to Flower nodes.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    display : Display
        Shows what is waited for.
    """

    grid: Grid
    display: Display = field(default_factory=Quiet)

    def push(self, message_type: str, contents: Mapping[int, RecordDict], *, group: str) -> dict[str, int]:
        """Send a message to each node; return the nodes by the ids of their messages.

        Flower takes none for a node that was unregistered: such a one is not among them.

        Raises
        ------
        RunError
            Flower took no message.
        """
        messages = [
            Message(content=content, dst_node_id=node, message_type=message_type, group_id=group)
            for node, content in contents.items()
        ]
        ids = list(self.grid.push_messages(messages))
        if messages and (len(ids) != len(messages) or not any(ids)):
            raise RunError(f"{group}: Flower took {len([i for i in ids if i])} of {len(messages)} messages")
        return {name: node for name, node in zip(ids, contents, strict=True) if name}

    def exchange(
        self, message_type: str, contents: Mapping[int, RecordDict], *, group: str, patience_s: float = inf
    ) -> dict[int, Reply]:
        """Send a message to each node and return the replies by node id, errors included.

        A node that does not reply within `patience_s` is missing, and one that was unregistered.

        Flower's own `send_and_receive` looks for replies every 3 s, and cannot say who replied with an error:
        an error's sender may be the SuperLink, so replies are told apart by the message that they answer.
        """
        waiting = self.push(message_type, contents, group=group)
        replies: dict[int, Reply] = {}
        give_up = time.monotonic() + patience_s
        while waiting and time.monotonic() < give_up:
            for message in self.grid.pull_messages(list(waiting)):
                node = waiting.pop(message.metadata.reply_to_message_id)
                replies[node] = Reply(message, time.monotonic())
                self.display.reply()
            if waiting:
                self.display.heartbeat()
                time.sleep(POLL_S)
        return replies
