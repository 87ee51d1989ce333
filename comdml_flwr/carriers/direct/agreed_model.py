"""The model that one who lacks it gets from a single peer, held against what the others tell of it.

A peer that lies must not hand a false model to an agent that was gone or absent, which would go on with it.
Whoever committed a round tells its digest when asked; what two tell counts, or all who are there and could.
A model of another digest is not taken: those who told the digest are asked for theirs, and the one that gave
the false model is accused once a true one is there. Where nobody can tell, the model is taken as it is.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from comdml_flwr.agents.agent import Agent
from comdml_flwr.carriers.direct.deadlines import Deadlines
from comdml_flwr.carriers.direct.peers import PeerLinks
from comdml_flwr.carriers.direct.protocol import CommitRequest, ModelRequest
from comdml_flwr.carriers.direct.quorum import NoQuorumError
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.messages import Array, Inbox

log = logging.getLogger(__name__)

Given: TypeAlias = tuple[int, str, Mapping[str, Array]]
"""Who gave a model, in which envelope, and its shared slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedModel:
    """Gets an agent the model of a round that it has not ended itself.

    Parameters
    ----------
    agent, links, deadlines
        Of that agent.
    models_agree : bool
        Whether all who end a round have the same model; else none can be held against another.
    """

    agent: Agent
    links: PeerLinks
    deadlines: Deadlines
    models_agree: bool

    def digest_of(self, round_: int) -> str | None:
        """Ask those who took part in a round for the digest of its model; None: it is not known."""
        if not self.models_agree or round_ < 1:
            return None
        links = self.links
        for peer in links.peers:
            if peer in links.drawn(round_):
                links.say(peer, CommitRequest(round=round_))
        give_up = links.clock.now_s() + self.deadlines.patience_s
        while True:
            could_tell = links.could_tell(round_)  # whoever lets this agent in may lie about who is gone
            if decided := links.decisions.of(round_, could_tell):
                return decided[1].digest
            if not could_tell or links.clock.now_s() > give_up:
                return None
            links.look()

    def true_ones(self, mail: Inbox, digest: str | None) -> Inbox:
        """Return the mail that holds the model of this digest; who sent another one is accused."""
        found = []
        for envelope in mail:
            if self._is_true(envelope.arrays, digest):
                found.append(envelope)
            else:
                self._distrust(envelope.sender, envelope.where)
        return tuple(found)

    def take(
        self, round_: int, digest: str | None, given: Iterable[Given] = (), holders: Iterable[int] = ()
    ) -> None:
        """Take the model of a round: one that was given, or that of one of those who hold it.

        Parameters
        ----------
        round_ : int
            Of which round.
        digest : str, optional
            What its model is known to have; None: it is not known.
        given : Iterable
            What has come already.
        holders : Iterable[int]
            Whom to ask for it, in this order, and then those who told the digest; the distrusted come last.

        Raises
        ------
        NoQuorumError
            Nobody who has it is there.
        """
        false: list[Given] = []
        asked = dict.fromkeys([*holders, *self.links.decisions.who_told(round_, digest)])
        in_turn = sorted(asked, key=lambda holder: holder in self.links.distrusted)
        for giver, where, tensors in self._models(round_, given, in_turn):
            if self._is_true(tensors, digest):
                self.agent.tensors.take_over(tensors, where)
                for liar, of_liar, _ in false:
                    self._distrust(liar, of_liar)
                return
            false.append((giver, where, tensors))
        for _, where, tensors in false:  # perhaps it is that of a later round, as the others went on
            if not self.agent.tensors.wrong_shared(tensors):
                log.warning(
                    "agent %d: nobody has a model that others tell of: takes %s", self.agent.id, where
                )
                self.agent.tensors.take_over(tensors, where)
                return
        raise NoQuorumError(f"agent {self.agent.id}: nobody is left who has the model of round {round_}")

    def _models(self, round_: int, given: Iterable[Given], holders: Iterable[int]) -> Iterator[Given]:
        """Give what was given, and then the models of those who are asked, one after the other."""
        yield from given
        links = self.links
        for holder in holders:
            links.say(holder, ModelRequest(round=round_))
            give_up = links.clock.now_s() + self.deadlines.seconds
            while holder not in links.models and links.clock.now_s() < give_up:
                if not links.look() and links.why_gone(holder):
                    break
            if holder in links.models:
                where, model = links.models.pop(holder)
                yield holder, where, model.tensors

    def _is_true(self, tensors: Mapping[str, Array], digest: str | None) -> bool:
        """Tell whether it can be the model of this digest; without one, whether it can be a model."""
        own = self.agent.tensors
        return not own.wrong_shared(tensors) and digest in (None, own.sha256_of_shared(tensors))

    def _distrust(self, giver: int, where: str) -> None:
        self.links.distrust(PeerFaultError(giver, f"{where}: it is not the model that others tell of"))
