"""ComDML: one round, top to bottom.

S. M. Sajjadi Mohammadabadi, L. Yang, F. Yan, J. Zhang, "Communication-Efficient Training Workload Balancing
for Decentralized Multi-Agent Learning", IEEE ICDCS 2024, pp. 680-691, arXiv 2405.00839.

    1 introduce      everyone tells everyone its speed, its work and its links
    2 balance        everyone computes the same plan from the same profiles: who helps whom at which cut,
                     as far as that makes the whole round shorter
      train          a slow agent trains its slow side and sends activations and labels, batch by batch;
                     a helper trains its own model and, as they arrive, its partner's fast side;
                     an agent without a pair trains its whole model
    3 scatter        every agent sends its contribution, shard by shard; the helper sends the partner's fast
                     side as a contribution of its own, under the partner's id
    4 gather         the owner of a shard averages it and sends it back
    5 adopt          the averaged shards are the next round's model
      evaluate       each agent evaluates its share of the test set

When a helper is gone before the average is there, its slow agent takes the upper layers back: it trains both
sides again from the round's beginning, on the same batches, so its contribution has the bits that the helper
would have given it. When a slow agent is gone, its helper drops what it trained for it. In both cases those
who are left scatter once more if they had begun (the return point of the program).

With `averaging = "mixing"` (for sparse topologies) 3 to 5 are

    3 give back      the helper sends the trained fast side back
    4 spread         every agent sends its whole model to its neighbours
    5 mix, evaluate  every agent mixes what came; the models differ from then on, so that in 2 the slow
                     agent's fast side goes to the helper first, and its auxiliary heads stay its own. That
                     the fast side travels is on the clock but not in the plan's prediction.

Where we deviate from the published method: `solver = "exact"` is the default (the published pairing is
`solver = "greedy"`); the optimizer begins afresh in every round; agents that disagree on the plan are found
by a digest, and the slow agent's share of that round is then left out of the average (its slow side alone
would not be a model). Privacy measures (patch shuffling, distance correlation, noise) are not here.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive, wrong_length, wrong_samples, wrong_weights
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Floats, Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, Run, together
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.methods.phases.activations import Activations
from comdml_flwr.methods.phases.agreement import agree, forecast
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.introduction import (
    Introduction,
    Model,
    hand_over,
    introduce,
    latest_known_pairing,
    meet,
)
from comdml_flwr.methods.phases.mixing import NeighbourModel, mix, note_neighbours, spread
from comdml_flwr.methods.phases.outer import TAKE_MEAN, OuterStep
from comdml_flwr.methods.phases.reduction import (
    Average,
    Contribution,
    Withdrawal,
    adopt,
    gather,
    scatter,
    withdraw,
)
from comdml_flwr.methods.phases.role import (
    Role,
    role_in,
    role_of,
    set_role,
)
from comdml_flwr.methods.phases.split_training import (
    AUX_HEADS,
    PARTNERS,
    FastSide,
    fast_sides,
    take_back,
    train_fast_sides,
    train_slow_side,
)
from comdml_flwr.methods.phases.training import go_back_if_not_finite, train_whole
from comdml_flwr.planning.hysteresis import Pairing, pairing_of

SLOTS = (PARTNERS, AUX_HEADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFastSide(Mail):
    """A partner's upper layers as its helper has trained them: float32."""

    kind: ClassVar[str] = "trained fast side"
    weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxHead(Mail):
    """A trained auxiliary head (float32) and how many samples stand behind it."""

    kind: ClassVar[str] = "aux head"
    num_samples: int
    weights: Floats


def program(num_chunks: int, averaging: str = "allreduce", outer: OuterStep = TAKE_MEAN) -> Program[Agent]:
    """Return one round of ComDML.

    Parameters
    ----------
    num_chunks : int
        In how many exchanges a slow agent's activations travel; the result does not depend on it.
    averaging : str
        "allreduce" or "mixing".
    outer : OuterStep
        What becomes of the averaged model; where neighbours are mixed, there is none.
    """
    if averaging == "mixing" and outer is not TAKE_MEAN:
        raise ValueError(f"outer = {outer!r}: must be TAKE_MEAN where neighbours are mixed: there is no mean")
    if averaging == "mixing":
        of_averaging: tuple[type[Mail], ...] = (FastSide, TrainedFastSide, NeighbourModel)
        after_training: tuple[Phase[Agent], ...] = (
            Phase(name="give back", run=together(train_rest, give_back), expects=partners_of),
            Phase(name="join and spread", run=together(join_halves, spread)),
            Phase(name="mix and evaluate", run=together(mix, hand_over, report_pair, evaluate)),
        )
    else:
        adopt_model = partial(adopt, outer=outer)
        of_averaging = (Contribution, Withdrawal, Average, AuxHead)
        after_training = (
            Phase(
                name="scatter",
                run=together(train_rest, contribute),
                expects=partners_of,
                again=contribute,
            ),
            Phase(name="gather", run=together(gather, average_aux_head)),
            Phase(
                name="adopt and evaluate",
                run=together(adopt_model, adopt_aux_head, hand_over, report_pair, evaluate),
            ),
        )

    def in_chunks(num: int) -> tuple[Phase[Agent], ...]:
        first, *later = (train_chunk(chunk, num) for chunk in range(num))
        return (
            Phase(name="introduce", run=introduce),
            Phase(name="balance and train", run=together(balance, first)),
            *(Phase(name="train", run=chunk, expects=partners_of) for chunk in later),
            *after_training,
        )

    agree = averaging == "allreduce"
    return Program(
        phases=in_chunks(num_chunks),
        slots=(*SLOTS, *outer.slots),
        models_agree=agree,
        needs_links=not agree,
        in_chunks=in_chunks,
        sends=(Introduction, Activations, *of_averaging, Model),
    )


def balance(agent: Agent, inbox: Inbox) -> Outbox:
    """Find the plan of the round, this agent's role in it, and what it predicts."""
    profiles, config = meet(agent, inbox), agent.setup.config
    previous = latest_known_pairing(agent, inbox) if config.hysteresis else Pairing()
    judged, digest = agree(agent, profiles, previous)
    role = role_in(judged.plan, agent.id, digest)
    set_role(agent, role)
    agent.pairing = pairing_of(judged.plan, agent.round)
    if config.averaging == "mixing":
        note_neighbours(agent, profiles)
    if agent.id == profiles[0].agent:
        agent.notes |= forecast(judged)
    if not role.offload:
        agent.clock.work(agent.profile.num_batches)  # a helper does its own batches first, on the clock
    return ()


def train_chunk(chunk: int, num_chunks: int) -> Run[Agent]:
    """Return the run that trains this agent's own batches of a chunk and what activations have come."""

    def train(agent: Agent, inbox: Inbox) -> Outbox:
        total = len(agent.batches())
        own = range(total * chunk // num_chunks, total * (chunk + 1) // num_chunks)
        outbox: Outbox = ()
        role = role_of(agent)
        if role.has_lost_helper(agent):
            return ()  # it trains both sides, from the beginning, once the others have trained
        if own and role.offload:
            outbox = train_slow_side(agent, role, role.offload, own)
        elif own:
            train_whole(agent, own)
        train_fast_sides(agent, role, inbox)
        return outbox

    return train


def train_rest(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the partners' fast sides on the activations of their last chunk."""
    role = role_of(agent)
    if not role.has_lost_helper(agent):
        train_fast_sides(agent, role, inbox)
    return ()


def partners_of(agent: Agent) -> tuple[int, ...]:
    """Return the slow agents that this one helps: the only ones whose mail comes while all train."""
    return tuple(sorted(role_of(agent).partners))


def contribute(agent: Agent, inbox: Inbox) -> Outbox:
    """Scatter what was trained: this agent's own part, and partners' fast sides under the partners' ids."""
    agent.notes.setdefault("training_end_s", agent.clock.now_s)
    role = role_of(agent)
    if role.offload and role.has_lost_helper(agent):
        take_back(agent, role.offload)
    own, trained = agent.tensors["own/body"].numpy(), fast_sides(agent, role)
    pieces = [
        Contribution(agent=agent.id, num_samples=agent.num_samples, start=0, weights=own),
        *(
            Contribution(
                agent=partner,
                num_samples=num_samples,
                start=len(agent.weights_P) - len(weights),
                weights=weights,
            )
            for partner, (num_samples, weights) in trained.items()
        ),
    ]
    left_out = {*agent.note_ids("refused"), *(role.partners.keys() - trained.keys())}
    withdrawals = tuple(mail for other in sorted(left_out) for mail in withdraw(agent, other))
    broken = () if _is_head_finite(agent) else (agent.id,)
    return scatter(agent, pieces, broken) + withdrawals + _send_aux_head(agent, role)


def _is_head_finite(agent: Agent) -> bool:
    return "own/head" not in agent.tensors or is_finite(agent.tensors["own/head"].numpy())


def _send_aux_head(agent: Agent, role: Role) -> Outbox:
    """Send the trained head to the agents of the same cut, unless this agent's share is left out."""
    if "own/head" not in agent.tensors or agent.id in agent.note_ids("not_finite"):
        return ()
    head = AuxHead(num_samples=agent.num_samples, weights=agent.tensors["own/head"].numpy())
    same_cut = [peer for peer in role.same_cut if peer not in agent.gone]
    return tuple(agent.send(peer, head) for peer in same_cut)


def give_back(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the partners their trained fast sides."""
    agent.notes.setdefault("training_end_s", agent.clock.now_s)
    return tuple(
        agent.send(partner, TrainedFastSide(weights=weights))
        for partner, (_, weights) in fast_sides(agent, role_of(agent)).items()
    )


def join_halves(agent: Agent, inbox: Inbox) -> Outbox:
    """Put slow and fast side together; an agent whose fast side did not come back keeps the model it had.

    So does one whose training gave NaN or infinity, be it at its helper.
    """
    role = role_of(agent)
    if role.offload and role.has_lost_helper(agent):
        take_back(agent, role.offload)
    elif role.offload:
        slow_side = agent.tensors["own/body"]
        length, helper = len(agent.weights_P) - len(slow_side), role.offload.fast

        def wrong_half(sender: int, mail: TrainedFastSide) -> str:
            if sender != helper:
                return "it is not this agent's helper"
            return wrong_length(mail.weights, length)

        halves = [
            torch.from_numpy(half.weights) for _, half in receive(agent, inbox, TrainedFastSide, wrong_half)
        ]
        whole = torch.cat([slow_side, halves[0]]) if halves else agent.weights_P
        agent.tensors["own/body"] = whole
    if not go_back_if_not_finite(agent) and role.offload:
        agent.tensors[AUX_HEADS.of(role.offload.cut)] = agent.tensors["own/head"]
    return ()


def average_aux_head(agent: Agent, inbox: Inbox) -> Outbox:
    """Average the auxiliary head among the agents that used the same cut; the others keep theirs.

    It is adopted with the model: until then, the round may begin once more from what it began with.
    """
    role = role_of(agent)

    def wrong_head(sender: int, head: AuxHead) -> str:
        if role.offload is None or sender not in role.same_cut:
            return "it does not have this agent's cut"
        length = len(agent.setup.initial_aux_heads[role.offload.cut])
        return wrong_samples(agent, sender, head.num_samples) or wrong_weights(head.weights, length)

    by_sender = dict(receive(agent, inbox, AuxHead, wrong_head))
    heads = [head for _, head in sorted(by_sender.items())]
    if heads:
        mean = weighted_mean([head.weights for head in heads], [head.num_samples for head in heads])
        agent.keep("own/averaged head", mean)
    return ()


def adopt_aux_head(agent: Agent, inbox: Inbox) -> Outbox:
    """Make the averaged auxiliary head this agent's."""
    pair = role_of(agent).offload
    if pair and "own/averaged head" in agent.tensors:
        agent.tensors[AUX_HEADS.of(pair.cut)] = agent.tensors["own/averaged head"]
    return ()


def report_pair(agent: Agent, inbox: Inbox) -> Outbox:
    """Report the pair in which this agent is the slow one."""
    if pair := role_of(agent).offload:
        agent.report["pair"] = pair.to_json()
    return ()
