"""How a run shows what it is doing while a round is under way."""

from typing import Protocol


class Display(Protocol):
    """Shows people what a run waits for."""

    def say(self, line: str) -> None:
        """Show one line: what should be known at once, as that an agent is gone."""

    def exchange_begins(self, round_: int, phase: str, num_agents: int) -> None:
        """So many agents begin a phase; round 0 is what belongs to no round."""

    def reply(self) -> None:
        """One of them is done."""

    def heartbeat(self) -> None:
        """Nothing has happened for a moment."""


class Quiet:
    """A display that shows nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def exchange_begins(self, round_: int, phase: str, num_agents: int) -> None:
        """Show nothing."""

    def reply(self) -> None:
        """Show nothing."""

    def heartbeat(self) -> None:
        """Show nothing."""
