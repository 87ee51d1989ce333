"""What can be in the mail of the peers' protocol, by what all of them know: who there is, and which rounds.

A phase's own mail is checked by the phase (`agents.reading`); this is of marks, accusations, commits and all
else that no phase sees. What cannot be is a fault of its sender, which is given up for it like one that is
out of reach: it has to ask to be admitted again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from comdml_flwr.carriers.direct.protocol import (
    Admission,
    Commit,
    CommitRequest,
    Gone,
    JoinRequest,
    Mark,
    ModelRequest,
    ShardDigests,
    Waiting,
)
from comdml_flwr.core.bounds import LONGEST_S, wrong_number
from comdml_flwr.core.errors import LONGEST_VALUE, short_repr
from comdml_flwr.core.mail import Mail

MOST_REQUESTS, MOST_ROUNDS = 1 << 63, 1 << 31


@dataclass(slots=True, kw_only=True)
class Bounds:
    """What all peers of a message know.

    Parameters
    ----------
    own : int
        Whose bounds these are.
    ids : frozenset[int]
        All agents of the run.
    last_phase : int
        Of a round.
    last_round : int
        Of the message.
    """

    own: int
    ids: frozenset[int]
    last_phase: int = MOST_ROUNDS
    last_round: int = MOST_ROUNDS

    def wrong(self, sender: int, mail: Mail) -> str:
        """Tell what is wrong with what a peer says; empty where it can be."""
        match mail:
            case Mark():
                return self._wrong_mark(sender, mail)
            case Gone():
                return self._wrong_accusations(sender, mail.accusations)
            case Waiting():
                return self._wrong_ids("awaited", [mail.awaited]) or wrong_number(
                    "for_s", mail.for_s, -LONGEST_S, LONGEST_S
                )
            case JoinRequest():
                return wrong_number("request", mail.request, 0, MOST_REQUESTS)
            case Admission():
                return (
                    wrong_number("next_round", mail.next_round, 1, self.last_round + 1)
                    or self._wrong_ids("gone", mail.gone)
                    or self._wrong_pairs("admissions", mail.admissions, self.last_round + 1)
                    or wrong_number("round_s", mail.round_s or 0, 0, LONGEST_S)
                )
            case Commit():
                return (
                    wrong_number("round", mail.round, 1, self.last_round)
                    or self._wrong_ids("gone", mail.gone)
                    or self._wrong_pairs("joining", mail.joining, MOST_REQUESTS)
                    or _wrong_digest(mail.digest)
                )
            case ShardDigests():
                return self._wrong_ids("gone", mail.gone) or self._wrong_shards(mail)
            case CommitRequest() | ModelRequest():
                return wrong_number("round", mail.round, 0, self.last_round)
        return ""

    def _wrong_mark(self, sender: int, mark: Mark) -> str:
        return (
            wrong_number("phase", mark.phase, 0, self.last_phase)
            or self._wrong_ids("gone", mark.gone)
            or ("gone has its receiver" if self.own in mark.gone else "")
            or self._wrong_accusations(sender, mark.accusations)
            or wrong_number("training_s", mark.training_s or 0, 0, LONGEST_S)
            or wrong_number("round_s", mark.round_s or 0, 0, LONGEST_S)
            or self._wrong_pairs("joining", mark.joining or (), MOST_REQUESTS)
            or self._wrong_pairs("admissions", mark.admissions or (), self.last_round + 1)
            or _wrong_digest(mark.digest)
        )

    def _wrong_shards(self, mail: ShardDigests) -> str:
        if len({*mail.owners}) != len(mail.digests) or len(mail.owners) != len(mail.digests):
            return "it has not one digest for each owner"
        return self._wrong_ids("owners", mail.owners) or next(
            filter(None, map(_wrong_digest, mail.digests)), ""
        )

    def _wrong_ids(self, name: str, ids: Iterable[int]) -> str:
        strange = [agent for agent in ids if agent not in self.ids]
        return f"{name} has {short_repr(strange[0])}, which is no agent" if strange else ""

    def _wrong_accusations(self, sender: int, accusations: Iterable[tuple[int, int, int]]) -> str:
        for round_, accuser, accused in accusations:
            if wrong := self._wrong_ids("accusations", (accuser, accused)):
                return wrong
            if accuser != sender:
                return f"accusations are in the name of agent {accuser}"
            if accuser == accused or not 0 <= round_ <= self.last_round:
                return f"accusations has {short_repr((round_, accuser, accused))}, which cannot be"
        return ""

    def _wrong_pairs(self, name: str, pairs: Iterable[tuple[int, int]], most: int) -> str:
        for agent, number in pairs:
            if wrong := self._wrong_ids(name, [agent]) or wrong_number(name, number, 0, most):
                return wrong
        return ""


def _wrong_digest(digest: str | None) -> str:
    return "" if digest is None or len(digest) <= LONGEST_VALUE else "digest is none"
