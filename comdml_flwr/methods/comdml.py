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

import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.messages import Array, Envelope, Inbox, Json, Outbox
from comdml_flwr.core.program import Phase, Program, Run, together
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.methods.phases.agreement import agree, forecast
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.introduction import hand_over, introduce, latest_known_pairing, meet
from comdml_flwr.methods.phases.mixing import mix, note_neighbours, spread
from comdml_flwr.methods.phases.reduction import Contribution, adopt, gather, scatter, withdraw
from comdml_flwr.methods.phases.training import go_back_if_not_finite, train_whole
from comdml_flwr.planning.hysteresis import Pairing, pairing_of

PARTNER = Slot(name="partner/", lifetime=Lifetime.PHASE)
"""What a helper has trained of its partner's model in this round."""

AUX_HEADS = Slot(name="aux-head/", lifetime=Lifetime.ROUND)
"""An agent's auxiliary heads, by cut; those that it has not used yet are as all begin with."""

SLOTS = (PARTNER, AUX_HEADS)


def program(num_chunks: int, averaging: str = "allreduce") -> Program[Agent]:
    """Return one round of ComDML.

    Parameters
    ----------
    num_chunks : int
        In how many exchanges a slow agent's activations travel; the result does not depend on it.
    averaging : str
        "allreduce" or "mixing".
    """
    if averaging == "mixing":
        after_training: tuple[Phase[Agent], ...] = (
            Phase(name="give back", run=together(train_rest, give_back), expects=partner_of),
            Phase(name="join and spread", run=together(join_halves, spread)),
            Phase(name="mix and evaluate", run=together(mix, hand_over, evaluate)),
        )
    else:
        after_training = (
            Phase(name="scatter", run=together(train_rest, contribute), expects=partner_of, again=contribute),
            Phase(name="gather", run=together(gather, average_aux_head)),
            Phase(name="adopt and evaluate", run=together(adopt, adopt_aux_head, hand_over, evaluate)),
        )

    def in_chunks(num: int) -> tuple[Phase[Agent], ...]:
        first, *later = (train_chunk(chunk, num) for chunk in range(num))
        return (
            Phase(name="introduce", run=introduce),
            Phase(name="balance and train", run=together(balance, first)),
            *(Phase(name="train", run=chunk, expects=partner_of) for chunk in later),
            *after_training,
        )

    agree = averaging == "allreduce"
    return Program(
        phases=in_chunks(num_chunks),
        slots=SLOTS,
        models_agree=agree,
        needs_links=not agree,
        in_chunks=in_chunks,
    )


def balance(agent: Agent, inbox: Inbox) -> Outbox:
    """Find the plan of the round; note this agent's role in it, and what it predicts."""
    profiles, config = meet(agent, inbox), agent.setup.config
    previous = latest_known_pairing(agent, inbox) if config.hysteresis else Pairing()
    judged, agent.notes["digest"] = agree(agent, profiles, previous)
    plan = judged.plan
    agent.pairing = pairing_of(plan, agent.round)
    if config.averaging == "mixing":
        note_neighbours(agent, profiles)
    for pair in plan.pairs:
        if pair.slow == agent.id:
            agent.notes |= {
                "helper": pair.fast,
                "cut": pair.cut,
                "pair": pair.as_json(),
                "same_cut": [other.slow for other in plan.pairs if other.cut == pair.cut],
            }
        elif pair.fast == agent.id:
            agent.notes |= {"partner": pair.slow, "cut": pair.cut, "partner_batches_left": -1}
    if agent.id == profiles[0].agent:
        agent.notes |= forecast(judged)
    if "helper" not in agent.notes:
        agent.clock.work(agent.profile.num_batches)  # a helper does its own batches first, on the clock
    return ()


def train_chunk(chunk: int, num_chunks: int) -> Run[Agent]:
    """Return the run that trains this agent's own batches of a chunk and what activations have come."""

    def train(agent: Agent, inbox: Inbox) -> Outbox:
        total = len(agent.batches())
        own = range(total * chunk // num_chunks, total * (chunk + 1) // num_chunks)
        outbox: Outbox = ()
        if has_lost_helper(agent):
            return ()  # it trains both sides, from the beginning, once the others have trained
        if own and "helper" in agent.notes:
            outbox = train_slow_side(agent, own)
        elif own:
            train_whole(agent, own)
        train_fast_side(agent, inbox)
        return outbox

    return train


def train_rest(agent: Agent, inbox: Inbox) -> Outbox:
    """Train the partner's fast side on the activations of its last chunk."""
    if not has_lost_helper(agent):
        train_fast_side(agent, inbox)
    return ()


def partner_of(agent: Agent) -> tuple[int, ...]:
    """Return the slow agent that this one helps: the only one whose mail comes while all train."""
    return (agent.number("partner"),) if "partner" in agent.notes else ()


def has_lost_helper(agent: Agent) -> bool:
    """Tell whether this is a slow agent whose helper is gone."""
    return agent.notes.get("helper") in agent.gone


def has_lost_partner(agent: Agent) -> bool:
    """Tell whether this is a helper whose slow agent is gone."""
    return agent.notes.get("partner") in agent.gone


def take_back(agent: Agent) -> None:
    """Train both sides of a slow agent whose helper is gone, from the round's beginning, batch by batch.

    The bits are those of the pair: the fast side sees what it would have seen.
    """
    if "taken_back" in agent.notes:
        return
    cut, learners = agent.number("cut"), agent.setup.learners
    slow, fast = learners.slow_side(cut), learners.fast_side(cut)
    slow.begin(agent.weights_P[: slow.num_floats], aux_head_weights(agent, cut))
    fast.begin(agent.weights_P[slow.num_floats :])
    for number, indices_N in enumerate(agent.batches()):
        x_NCHW, y_N = agent.samples(indices_N, number)
        left = len(agent.batches()) - 1 - number
        z, _ = slow.train_batch(x_NCHW, y_N, agent.draws(f"slow side, {left} left"))
        fast.train_batch(z.contiguous(), y_N, agent.draws(f"fast side, {left} left"))
    agent.clock.work(agent.profile.num_batches)
    agent.suspend("own", slow, finished=True)
    agent.tensors["own/body"] = torch.cat([agent.tensors["own/body"], fast.weights()["body"]])
    agent.notes |= {"taken_back": [agent.id], "training_end_s": agent.clock.now_s}


def aux_head_weights(agent: Agent, cut: int) -> Tensor:
    """Return the float weights of an agent's auxiliary head for a cut."""
    return agent.tensors.get(AUX_HEADS.of(cut), agent.setup.initial_aux_heads[cut])


def train_slow_side(agent: Agent, chunk: range) -> Outbox:
    """Train the slow side with its auxiliary head and send each batch's activations to the helper."""
    cut, learners = agent.number("cut"), agent.setup.learners
    learner, paused = learners.slow_side(cut), agent.resume("own")
    if paused:
        learner.resume(paused)
    else:
        learner.begin(agent.weights_P[: learner.num_floats], aux_head_weights(agent, cut))
    batches, share = agent.batches(), agent.setup.cuts[cut - 1].slow_share
    outbox = []
    if not paused and agent.setup.config.averaging == "mixing":
        rest = agent.weights_P[learner.num_floats :].numpy()
        outbox.append(agent.send(agent.number("helper"), "fast side", {}, {"weights": rest}))
    for number in chunk:
        left = len(batches) - 1 - number
        work = share * len(batches[number]) / agent.setup.config.batch_size
        with agent.observed(work):
            x_NCHW, y_N = agent.samples(batches[number], number)
            z, _ = learner.train_batch(x_NCHW, y_N, agent.draws(f"slow side, {left} left"))
        agent.clock.work(work)
        about: dict[str, Json] = {
            "digest": agent.notes["digest"],
            "num_samples": agent.num_samples,
            "batches_left": left,
        }
        arrays: dict[str, Array] = {"activations": z.contiguous().numpy(), "labels": y_N.numpy()}
        outbox.append(agent.send(agent.number("helper"), "activations", about, arrays))
    agent.suspend("own", learner, finished=chunk.stop == len(batches))
    return tuple(outbox)


def train_fast_side(agent: Agent, inbox: Inbox) -> None:
    """Train the partner's fast side on the activations that have come; refuse what the plan does not hold.

    It begins with this agent's own weights: after AllReduce they are the partner's, too. Otherwise the
    partner has sent its own.
    """
    mail = [envelope for envelope in inbox if envelope.kind == "activations"]
    welcome = [envelope for envelope in mail if _is_welcome(agent, envelope)]
    refused = {envelope.sender for envelope in mail} - {envelope.sender for envelope in welcome}
    if refused:
        agent.notes["refused"] = sorted(refused.union(agent.note_ids("refused")))
    if not welcome:
        return
    cut = agent.number("cut")
    learner, paused = agent.setup.learners.fast_side(cut), agent.resume("partner")
    if paused:
        learner.resume(paused)
    else:
        learner.begin(_fast_side_weights(agent, inbox, learner.num_floats))
    for envelope in welcome:
        z, y_N = torch.from_numpy(envelope.floats("activations")), torch.from_numpy(envelope.arrays["labels"])
        agent.clock.wait(envelope.arrives_s)
        left = envelope.integer("batches_left")
        learner.train_batch(z, y_N, agent.draws(f"fast side, {left} left", of=envelope.sender))
        work = agent.setup.cuts[cut - 1].fast_share * len(y_N) / agent.setup.config.batch_size
        agent.clock.work(work, envelope.sender)
    last = welcome[-1]
    agent.notes["partner_batches_left"] = last.integer("batches_left")
    agent.notes["partner_samples"] = last.integer("num_samples")
    agent.suspend("partner", learner, finished=last.integer("batches_left") == 0)


def _fast_side_weights(agent: Agent, inbox: Inbox, length: int) -> Tensor:
    for envelope in inbox:
        if envelope.kind == "fast side" and envelope.sender == agent.notes.get("partner"):
            agent.clock.wait(envelope.arrives_s)
            return torch.from_numpy(envelope.floats("weights"))
    return agent.weights_P[len(agent.weights_P) - length :]


def _is_welcome(agent: Agent, envelope: Envelope) -> bool:
    agreed = envelope.about.get("digest") == agent.notes["digest"]
    return agreed and envelope.sender == agent.notes.get("partner")


def contribute(agent: Agent, inbox: Inbox) -> Outbox:
    """Scatter what was trained: this agent's own part, and the partner's fast side under the partner's id."""
    agent.notes.setdefault("training_end_s", agent.clock.now_s)
    if has_lost_helper(agent):
        take_back(agent)
    own = agent.tensors["own/body"].numpy()
    pieces = [Contribution(agent=agent.id, num_samples=agent.num_samples, start=0, weights=own)]
    gone = set(agent.note_ids("refused"))
    if agent.notes.get("partner_batches_left") == 0 and not has_lost_partner(agent):
        pieces.append(_partner_contribution(agent))
    elif "partner" in agent.notes:
        gone.add(agent.number("partner"))
    withdrawals = tuple(mail for other in sorted(gone) for mail in withdraw(agent, other))
    broken = () if _is_head_finite(agent) else (agent.id,)
    return scatter(agent, pieces, broken) + withdrawals + _send_aux_head(agent)


def _partner_contribution(agent: Agent) -> Contribution:
    fast = agent.tensors["partner/body"].numpy()
    return Contribution(
        agent=agent.number("partner"),
        num_samples=agent.number("partner_samples"),
        start=len(agent.weights_P) - len(fast),
        weights=fast,
    )


def _is_head_finite(agent: Agent) -> bool:
    return "own/head" not in agent.tensors or is_finite(agent.tensors["own/head"].numpy())


def _send_aux_head(agent: Agent) -> Outbox:
    """Send the trained head to the agents of the same cut, unless this agent's share is left out."""
    if "own/head" not in agent.tensors or agent.id in agent.note_ids("not_finite"):
        return ()
    arrays: dict[str, Array] = {"weights": agent.tensors["own/head"].numpy()}
    about = {"num_samples": agent.num_samples}
    same_cut = [peer for peer in agent.note_ids("same_cut") if peer not in agent.gone]
    return tuple(agent.send(peer, "aux head", about, arrays) for peer in same_cut)


def give_back(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the partner its trained fast side."""
    agent.notes.setdefault("training_end_s", agent.clock.now_s)
    if agent.notes.get("partner_batches_left") != 0 or has_lost_partner(agent):
        return ()
    weights = agent.tensors["partner/body"].numpy()
    return (agent.send(agent.number("partner"), "trained fast side", {}, {"weights": weights}),)


def join_halves(agent: Agent, inbox: Inbox) -> Outbox:
    """Put slow and fast side together; an agent whose fast side did not come back keeps the model it had.

    So does one whose training gave NaN or infinity, be it at its helper.
    """
    is_slow = "helper" in agent.notes
    if is_slow and has_lost_helper(agent):
        take_back(agent)
    elif is_slow:
        halves = [torch.from_numpy(m.floats("weights")) for m in agent.receive(inbox, "trained fast side")]
        whole = torch.cat([agent.tensors["own/body"], *halves]) if halves else agent.weights_P
        agent.tensors["own/body"] = whole
    if not go_back_if_not_finite(agent) and is_slow:
        agent.tensors[AUX_HEADS.of(agent.number("cut"))] = agent.tensors["own/head"]
    return ()


def average_aux_head(agent: Agent, inbox: Inbox) -> Outbox:
    """Average the auxiliary head among the agents that used the same cut; the others keep theirs.

    It is adopted with the model: until then, the round may begin once more from what it began with.
    """
    mail = [m for m in agent.receive(inbox, "aux head") if is_finite(m.floats("weights"))]
    if mail:
        mean = weighted_mean([m.floats("weights") for m in mail], [m.integer("num_samples") for m in mail])
        agent.keep("own/averaged head", mean)
    return ()


def adopt_aux_head(agent: Agent, inbox: Inbox) -> Outbox:
    """Make the averaged auxiliary head this agent's."""
    if "own/averaged head" in agent.tensors:
        agent.tensors[AUX_HEADS.of(agent.number("cut"))] = agent.tensors["own/averaged head"]
    return ()
