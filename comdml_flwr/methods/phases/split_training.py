"""Training of a model that is split between two agents: the slow agent's side, and its helper's.

The slow side has an auxiliary head and learns by its own loss; its activations go one way, and no gradient
comes back. So the fast side may train as late as it likes: its bits depend on the activations alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrust, distrusted_by, read, wrong_weights
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Envelope, Floats, Inbox, Outbox
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.learning.structure import Nested, count_samples
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases.activations import (
    Activations,
    as_fault_of,
    as_received,
    pack_activations,
    read_activations,
)
from comdml_flwr.methods.phases.role import Progress, Role, progress_of, set_progress
from comdml_flwr.planning.types import Pair

PARTNERS = Slot(name="partner/", lifetime=Lifetime.PHASE)
"""What a helper has trained of its partners' models in this round, by partner."""

AUX_HEADS = Slot(name="aux-head/", lifetime=Lifetime.ROUND)
"""An agent's auxiliary heads, by cut; those that it has not used yet are as all begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastSide(Mail):
    """The upper layers that a helper is to begin with, where models differ: float32."""

    kind: ClassVar[str] = "fast side"
    weights: Floats


def aux_head_weights(agent: Agent, cut: int) -> Tensor:
    """Return the float weights of an agent's auxiliary head for a cut."""
    return agent.tensors.get(AUX_HEADS.of(cut), agent.setup.initial_aux_heads[cut])


def take_back(agent: Agent, pair: Pair) -> None:
    """Train both sides of a slow agent whose helper is gone, from the round's beginning, batch by batch.

    The bits are those of the pair: the fast side sees what it would have seen.
    """
    if "taken_back" in agent.notes:
        return
    learners = agent.learners
    slow, fast = learners.slow_side(pair.cut), learners.fast_side(pair.cut)
    slow.begin(agent.weights_P[: slow.num_floats], aux_head_weights(agent, pair.cut))
    fast.begin(agent.weights_P[slow.num_floats :])
    for number, indices_N in enumerate(agent.batches()):
        x, y_N = agent.samples(indices_N, number)
        left = len(agent.batches()) - 1 - number
        z, _ = slow.train_batch(x, y_N, agent.draws(f"slow side, {left} left"))
        z = as_received(agent, z, f"{left} left")
        fast.step(z, y_N, agent.draws(f"fast side, {left} left"))
    agent.clock.work(agent.profile.num_batches)
    agent.suspend("own", slow, finished=True)
    agent.tensors["own/body"] = torch.cat([agent.tensors["own/body"], fast.weights()["body"]])
    agent.notes |= {"taken_back": [agent.id], "training_end_s": agent.clock.now_s}


def train_slow_side(agent: Agent, role: Role, pair: Pair, chunk: range) -> Outbox:
    """Train the slow side with its auxiliary head and send each batch's activations to the helper."""
    learner, paused = agent.learners.slow_side(pair.cut), agent.resume("own")
    if paused:
        learner.resume(paused)
    else:
        learner.begin(agent.weights_P[: learner.num_floats], aux_head_weights(agent, pair.cut))
    batches, share = agent.batches(), agent.setup.cuts[pair.cut].slow_share
    outbox = []
    if not paused and agent.setup.config.averaging == "mixing":
        rest = agent.weights_P[learner.num_floats :].numpy()
        outbox.append(agent.send(pair.fast, FastSide(weights=rest)))
    for number in chunk:
        left = len(batches) - 1 - number
        work = share * len(batches[number]) / agent.setup.config.batch_size
        with agent.observed(work):
            x, y_N = agent.samples(batches[number], number)
            z, _ = learner.train_batch(x, y_N, agent.draws(f"slow side, {left} left"))
        agent.clock.work(work)
        sent = Activations(
            num_samples=agent.num_samples,
            batches_left=left,
            tensors=pack_activations(agent, z, y_N, f"{left} left"),
            digest=role.digest,
        )
        outbox.append(agent.send(pair.fast, sent))
    agent.suspend("own", learner, finished=chunk.stop == len(batches))
    return tuple(outbox)


def train_fast_sides(agent: Agent, role: Role, inbox: Inbox) -> None:
    """Train each partner's fast side on the activations that have come; refuse those of no partner."""
    mail = [envelope for envelope in inbox if envelope.kind == Activations.kind]
    agreed = [m for m in mail if m.sender in role.partners and m.about.get("digest") == role.digest]
    refused = {envelope.sender for envelope in mail} - {envelope.sender for envelope in agreed}
    if refused:
        agent.notes["refused"] = sorted(refused.union(agent.note_ids("refused")))
    for partner, pair in sorted(role.partners.items()):
        activations = [envelope for envelope in agreed if envelope.sender == partner]
        if activations and partner not in distrusted_by(agent):
            _train_fast_side(agent, PARTNERS.of(partner), pair, activations, inbox)


def _train_fast_side(
    agent: Agent, slot: str, pair: Pair, activations: Sequence[Envelope], inbox: Inbox
) -> None:
    """Train a partner's fast side on some batches of its activations.

    It begins with this agent's own weights: after AllReduce they are the partner's, too. Otherwise the
    partner has sent its own. A partner that sends what it cannot have is not helped in this round.
    """
    learner, paused = agent.learners.fast_side(pair.cut), agent.resume(slot)
    if paused:
        learner.resume(paused)
    else:
        learner.begin(_fast_side_weights(agent, pair.slow, inbox, learner.num_floats))
    progress = progress_of(agent, pair.slow)
    for envelope in activations:
        came = read_activations(agent, envelope, pair.cut, progress.batches_left if progress else None)
        if came is None or not _step(agent, learner, envelope, *came):
            agent.forget(slot)
            return
        sent, _, y_N = came
        work = agent.setup.cuts[pair.cut].fast_share * count_samples(y_N) / agent.setup.config.batch_size
        agent.clock.work(work, pair.slow)
        progress = Progress(num_samples=sent.num_samples, batches_left=sent.batches_left)
    assert progress is not None
    set_progress(agent, pair.slow, progress)
    agent.suspend(slot, learner, finished=progress.batches_left == 0)


def _step(
    agent: Agent, learner: Learner, envelope: Envelope, sent: Activations, z: Tensor, y_N: Nested
) -> bool:
    """Train on a batch of another agent's; tell whether the layers take it."""
    agent.clock.wait(envelope.arrives_s)
    draws = agent.draws(f"fast side, {sent.batches_left} left", of=envelope.sender)
    try:
        with as_fault_of(envelope):
            learner.step(z, y_N, draws)
    except PeerFaultError as fault:
        distrust(agent, fault)
        return False
    return True


def _fast_side_weights(agent: Agent, partner: int, inbox: Inbox, length: int) -> Tensor:
    for envelope in inbox:
        if envelope.kind == FastSide.kind and envelope.sender == partner:
            sent = read(agent, envelope, FastSide, lambda _, mail: wrong_weights(mail.weights, length))
            if sent is not None:
                agent.clock.wait(envelope.arrives_s)
                return torch.from_numpy(sent.weights)
    return agent.weights_P[len(agent.weights_P) - length :]


def fast_sides(agent: Agent, role: Role) -> dict[int, tuple[int, Floats]]:
    """Return samples and weights by partner, of those trained to the end whose agents are not gone."""
    left_out = {*agent.gone, *distrusted_by(agent)}
    there = [partner for partner in sorted(role.partners) if partner not in left_out]
    progress = {partner: progress_of(agent, partner) for partner in there}
    return {
        partner: (done.num_samples, agent.tensors[f"{PARTNERS.of(partner)}/body"].numpy())
        for partner, done in progress.items()
        if done and done.batches_left == 0
    }
