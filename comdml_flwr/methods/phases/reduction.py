"""AllReduce without a server, as phases: scatter, gather, adopt.

Reduce-scatter and all-gather: the weights are cut into as many shards as agents take part; each agent owns
one, receives it from all (`scatter`), averages it and sends it back (`gather`): 2 (K - 1) / K of the model
per agent, which is the least possible (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
clusters of workstations", JPDC 2009). An agent's contribution may come in pieces from two senders (the slow
side from itself, the fast side from its helper), always under its own id, so that the order of the sum, and
with it the bits, do not depend on who trained what.

When somebody is gone before all have the average, those who are left scatter once more, in as many shards as
they are: what was trained is still there. Weights that are no finite numbers are left out of the average by
whoever trained them, for all shards alike.

Nobody speaks for another one: a contribution is taken, and left out, on the word of its agent, and of the
fast side on that of the helper which the plan gives it; an average on that of the shard's owner. Where an
owner sends none that can be one, its shard stays as it was, unless the averaging begins again without it.

Why a helper's own upper layers and its partner's do not travel as one weighted sum. It would save the second
upload: 17 % of all bytes of a round of the fleet `ten` and nothing of its time, which others set; on
generated fleets 1, 4 and 7 % of the time with 1 CPU = 1e9, 1e10 and 1e11 FLOP/s. It would cost

    the order    float32 sums depend on it: with a pair's sum as one term, up to half of the averaged floats
                 of ten agents have another last bit. The average would depend on the plan, not only on what
                 was trained, and be no longer the sum in ascending id that all methods share.
    the factors  n / total is known when all withdrawals are, after the sum is on its way.
    withdrawal   an agent whose lower layers are not finite, or whose mail is broken, says so or is found out
                 at the shards' owners. A sum cannot be parted there: both shares would be lost, or the helper
                 asked once more in a round that ends for all others, if it is still there.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import (
    distrust,
    forget_lacking,
    note_lacking,
    receive,
    wrong_samples,
    wrong_weights,
)
from comdml_flwr.core.errors import PeerFaultError, short_repr
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Floats, Inbox, Outbox
from comdml_flwr.core.sharding import shard_bounds, staggered_receivers
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.methods.phases.outer import TAKE_MEAN, OuterStep, take_outer_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution(Mail):
    """A contiguous piece of an agent's trained weights.

    Parameters
    ----------
    agent : int
        Whose it is; not always who sends it.
    num_samples : int
        How many samples stand behind it.
    start : int
        Where the piece begins in the whole vector.
    weights : ndarray
        float32, the piece.
    """

    kind: ClassVar[str] = "contribution"
    agent: int
    num_samples: int
    start: int
    weights: Floats

    def within(self, start: int, stop: int) -> "Contribution | None":
        """Return the part of it that lies in [start, stop); None if there is none."""
        low, high = max(self.start, start), min(self.start + len(self.weights), stop)
        if low >= high:
            return None
        part = self.weights[low - self.start : high - self.start]
        return Contribution(agent=self.agent, num_samples=self.num_samples, start=low, weights=part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal(Mail):
    """An agent is left out of this round's average."""

    kind: ClassVar[str] = "withdraw"
    agent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Average(Mail):
    """An averaged shard, float32, and where it begins in the whole vector."""

    kind: ClassVar[str] = "average"
    start: int
    weights: Floats


def scatter(agent: Agent, contributions: Sequence[Contribution], not_finite: Collection[int] = ()) -> Outbox:
    """Send every owner its shard of these contributions; those with NaN or infinity are withdrawn instead.

    So are those of the agents in `not_finite`, of whose training something else was not.
    """
    present = agent.members
    broken = {c.agent for c in contributions if c.agent in not_finite or not is_finite(c.weights)}
    agent.note_not_finite(broken)
    bounds = dict(zip(present, shard_bounds(len(agent.weights_P), len(present)), strict=True))
    shards = tuple(
        agent.send(owner, part)
        for owner in staggered_receivers(agent.id, present)
        for contribution in contributions
        if contribution.agent not in broken and (part := contribution.within(*bounds[owner])) is not None
    )
    return shards + tuple(mail for other in sorted(broken) for mail in withdraw(agent, other))


def withdraw(agent: Agent, other: int) -> Outbox:
    """Tell every owner to leave an agent out of this round's average."""
    present = agent.members
    return tuple(agent.send(owner, Withdrawal(agent=other)) for owner in present)


def gather(agent: Agent, inbox: Inbox) -> Outbox:
    """Average the shard that this agent owns and send it to all; where nobody contributed, it stays.

    A piece that is not finite though its sender held it to be is left out as well, and so is what the sender
    has no say in.
    """
    present = agent.members
    start, stop = shard_bounds(len(agent.weights_P), len(present))[present.index(agent.id)]
    if start == stop:
        return ()
    fast_sides = _fast_sides(agent)

    def wrong_withdrawal(sender: int, mail: Withdrawal) -> str:
        may = sender == mail.agent or (sender, mail.agent) in fast_sides
        return "" if may else f"it has no say about agent {short_repr(mail.agent)}"

    def wrong_contribution(sender: int, mail: Contribution) -> str:
        first = start if sender == mail.agent else fast_sides.get((sender, mail.agent), stop)
        last = mail.start + len(mail.weights)
        if mail.agent not in present or not max(first, start) <= mail.start < last <= stop:
            return f"it has nothing to give to [{start}, {stop}) for agent {short_repr(mail.agent)}"
        return wrong_samples(agent, mail.agent, mail.num_samples) or wrong_weights(
            mail.weights, last - mail.start
        )

    withdrawn = {mail.agent for _, mail in receive(agent, inbox, Withdrawal, wrong_withdrawal)}
    pieces = (mail for _, mail in receive(agent, inbox, Contribution, wrong_contribution))
    whole = assemble_shard((piece for piece in pieces if piece.agent not in withdrawn), start, stop)
    mean = agent.weights_P[start:stop].numpy()
    if whole:
        mean = weighted_mean([c.weights for c in whole], [c.num_samples for c in whole])
    return tuple(
        agent.send(receiver, Average(start=start, weights=mean))
        for receiver in staggered_receivers(agent.id, present)
    )


def adopt(agent: Agent, inbox: Inbox, outer: OuterStep = TAKE_MEAN) -> Outbox:
    """Put the averaged shards together; what the outer step makes of them is this agent's model.

    A shard of which no average has come that can be one stays as it was.
    """
    present = agent.members
    bounds = dict(zip(present, shard_bounds(len(agent.weights_P), len(present)), strict=True))

    def wrong_average(sender: int, mail: Average) -> str:
        start, stop = bounds.get(sender, (0, 0))
        if start == stop or mail.start != start:
            return f"it owns no shard that begins at {short_repr(mail.start)}"
        return wrong_weights(mail.weights, stop - start)

    came: dict[int, Floats] = {}
    for sender, mail in receive(agent, inbox, Average, wrong_average):
        came.setdefault(sender, mail.weights)
    forget_lacking(agent)
    shards = []
    for owner, (start, stop) in bounds.items():
        if owner not in came and start < stop:
            note_lacking(agent, owner)
            reason = f"average from agent {owner}, round {agent.round}: none has come that can be one"
            distrust(agent, PeerFaultError(owner, reason))
        if start < stop:
            shards.append(came.get(owner, agent.weights_P[start:stop].numpy()))
    mean_P = agent.setup.models.get(tuple(shards), lambda: torch.from_numpy(np.concatenate(shards)))
    take_outer_step(agent, mean_P, outer)
    return ()


def _fast_sides(agent: Agent) -> dict[tuple[int, int], int]:
    """Return where the fast side begins that a helper trains for an agent, by (helper, agent)."""
    if agent.pairing.round != agent.round:
        return {}
    num_floats, floats = len(agent.weights_P), agent.setup.fast_floats
    return {(fast, slow): num_floats - floats[cut] for slow, fast, cut in agent.pairing.pairs}


def assemble_shard(pieces: Iterable[Contribution], start: int, stop: int) -> tuple[Contribution, ...]:
    """Put each agent's pieces together; an agent whose pieces do not cover [start, stop) is left out.

    Returns
    -------
    tuple[Contribution, ...]
        One a contributing agent, in ascending id.
    """
    by_agent: dict[int, list[Contribution]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.agent, piece.start)):
        by_agent.setdefault(piece.agent, []).append(piece)
    whole = []
    for agent, own in by_agent.items():
        if _cover([(piece.start, len(piece.weights)) for piece in own], start, stop):
            weights = own[0].weights if len(own) == 1 else np.concatenate([piece.weights for piece in own])
            whole.append(
                Contribution(agent=agent, num_samples=own[0].num_samples, start=start, weights=weights)
            )
    return tuple(whole)


def _cover(pieces: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Tell whether pieces (start, length), in this order, are [start, stop): nothing twice, no gap."""
    for begins, length in pieces:
        if begins != start:
            return False
        start += length
    return start == stop
