"""Phases that several methods share: introduce, catch up, train alone, hand over, evaluate."""

import time
from math import inf, isfinite

from comdml_flwr.agents.agent import Agent, read_pairing
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Envelope, Inbox, Json, Outbox, Report
from comdml_flwr.learning.averaging import is_finite
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.training import evaluate as evaluate_model
from comdml_flwr.planning.clock.clock import deal_out, receivers_in_turn, shard_bounds
from comdml_flwr.planning.hysteresis import Pairing, latest_pairing
from comdml_flwr.planning.types import Link, Profile

_REPORTED = (
    "training_end_s",
    "end_s",
    "pair",
    "refused",
    "taken_back",
    "not_finite",
    "predicted_s",
    "lower_bound_s",
    "no_offload_makespan_s",
    "no_offload_virtual_time_s",
)
"""What of its notes an agent reports."""


def introduce(agent: Agent, inbox: Inbox) -> Outbox:
    """Tell all who take part how fast this agent is, how much it has to do, and its links with them.

    (And with those who take part in the next round: they get the model at the end of this one.)
    """
    profile = agent.profile
    everybody = receivers_in_turn(agent.id, agent.members)
    met = sorted({*everybody, *agent.newcomers})
    links = [(peer, profile.links[peer]) for peer in met if peer in profile.links]
    about: dict[str, Json] = {
        "batches_per_s": profile.batches_per_s,
        "num_batches": profile.num_batches,
        "peers": [peer for peer, _ in links],
        "bytes_per_s": [link.bytes_per_s for _, link in links],
        "latency_s": [link.latency_s for _, link in links],
    }
    bounds = {"memory_bytes": profile.memory_bytes, "nic_bytes_per_s": profile.nic_bytes_per_s}
    about |= {name: value for name, value in bounds.items() if isfinite(value)}
    if agent.setup.config.hysteresis:
        about |= {"pairing_round": agent.pairing.round, "pairing": agent.pairing.pairs}
    return tuple(agent.send(receiver, "profile", about) for receiver in everybody)


def meet(agent: Agent, inbox: Inbox) -> tuple[Profile, ...]:
    """Read the introductions of all who take part, in ascending id, and catch up after an absence."""
    catch_up(agent, inbox)
    mail = agent.receive(inbox, "profile")
    if agent.gone:
        mail = tuple(envelope for envelope in mail if envelope.sender not in agent.gone)
    return agent.setup.met.answer(
        tuple(envelope.about for envelope in mail), lambda: tuple(map(_read_profile, mail))
    )


def catch_up(agent: Agent, inbox: Inbox) -> None:
    """Take the model that was sent to this agent at the end of a round in which it was absent."""
    for envelope in inbox:
        if envelope.kind == "model":  # its transfer ended the round before, so the clock does not wait for it
            agent.keep("weights", envelope.floats("weights"))


def latest_known_pairing(agent: Agent, inbox: Inbox) -> Pairing:
    """Return the pairing of the latest round that one of those who take part was in; the same for all."""
    known = (mail for mail in inbox if mail.kind == "profile" and mail.sender not in agent.gone)
    return latest_pairing(map(_read_pairing, known))


def _read_pairing(mail: Envelope) -> Pairing:
    try:
        return read_pairing(mail.about.get("pairing_round"), mail.about.get("pairing"))
    except TypeError as error:
        raise RunError(f"profile from agent {mail.sender}, round {mail.round}: {error}") from None


def _read_profile(envelope: Envelope) -> Profile:
    peers, speeds, latencies = (envelope.numbers(name) for name in ("peers", "bytes_per_s", "latency_s"))
    return Profile(
        agent=envelope.sender,
        batches_per_s=envelope.number("batches_per_s"),
        num_batches=envelope.number("num_batches"),
        links={
            int(peer): Link(bytes_per_s=speed, latency_s=latency)
            for peer, speed, latency in zip(peers, speeds, latencies, strict=True)
        },
        memory_bytes=envelope.number("memory_bytes") if "memory_bytes" in envelope.about else inf,
        nic_bytes_per_s=envelope.number("nic_bytes_per_s") if "nic_bytes_per_s" in envelope.about else inf,
    )


def train_whole(agent: Agent, chunk: range | None = None, *, shuffle: str = "shuffle") -> None:
    """Train the whole model on these of the round's batches (or all); the result is the tensors `own/...`.

    `shuffle` names the draw of the batches' order, where an agent trains more than once in a round.
    """
    learner, paused = agent.setup.workbench.whole(), agent.take_up("own")
    learner.resume(paused) if paused else learner.begin(agent.weights_P)
    batches = agent.batches(shuffle)
    chunk = range(len(batches)) if chunk is None else chunk
    full_batches = sum(len(batches[number]) for number in chunk) / agent.setup.config.batch_size
    with agent.observed(full_batches):
        for number in chunk:
            draws = agent.draws(f"{shuffle}, batch {number}")
            learner.train_batch(*agent.samples(batches[number], number, shuffle), draws)
    agent.put_down("own", learner, finished=chunk.stop == len(batches))


def train_alone(agent: Agent, *, shuffle: str = "shuffle") -> None:
    """Train the whole model on all of the round's batches, on the clock too."""
    train_whole(agent, shuffle=shuffle)
    agent.clock.work(agent.profile.num_batches)
    agent.notes["training_end_s"] = agent.clock.now_s


def go_back_if_not_finite(agent: Agent) -> bool:
    """Undo a training that gave NaN or infinity: its result is the weights that it began with; tell whether.

    For methods in which an agent's own model goes on: it never holds, and never sends, what is not finite.
    """
    trained = [agent.tensors[name] for name in ("own/body", "own/head") if name in agent.tensors]
    if all(is_finite(tensor.numpy()) for tensor in trained):
        return False
    agent.tensors["own/body"] = agent.weights_P
    agent.note_not_finite([agent.id])
    return True


def hand_over(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the current model to those who were absent in this round and take part in the next.

    Everybody can draw both samples, so each holder knows which newcomers are his. The round is over when they
    have the model; the next one begins for all at once.
    """
    mine = deal_out(agent.members, agent.newcomers)[agent.id]
    outbox = tuple(agent.send(peer, "model", {}, {"weights": agent.weights_P.numpy()}) for peer in mine)
    agent.notes["end_s"] = max([agent.clock.now_s, *(envelope.arrives_s for envelope in outbox)])
    return outbox


def evaluate(agent: Agent, inbox: Inbox) -> Outbox:
    """Evaluate this agent's model on its share of the test set and report the round.

    Where the agents' models differ (gossip, mixing), the sum of these is the mean accuracy over the agents,
    each judged by its own share.
    """
    present = agent.members
    shards = shard_bounds(len(agent.setup.dataset.y_test_N), len(present))
    report_round(agent, *shards[present.index(agent.id)])
    return ()


def report_round(agent: Agent, start: int, stop: int) -> None:
    """Evaluate this agent's model on test samples [start, stop) and report the round."""
    began = time.monotonic()
    correct, loss_sum = evaluate_part(agent, start, stop)
    agent.report["evaluation_s"] = time.monotonic() - began
    told_loss = loss_sum if isfinite(loss_sum) else None  # a report is JSON
    agent.report |= {"correct": correct, "loss_sum": told_loss, "num_evaluated": stop - start}
    agent.report["weights_sha256"] = agent.weights_sha256()
    report_traffic(agent)


def evaluate_part(agent: Agent, start: int, stop: int) -> tuple[int, float]:
    """Return how many of the test samples [start, stop) are classified rightly, and their summed loss."""
    data, model = agent.setup.dataset, agent.setup.workbench.whole().load(agent.weights_P)
    with global_generator(agent.draws("evaluation", in_evaluation=True)):
        return evaluate_model(model, data.x_test_NCHW[start:stop], data.y_test_N[start:stop])


def report_traffic(agent: Agent) -> None:
    """Report what this agent sent and noted; in the first round also its data, speed and timeline.

    Who evaluated nothing, as a server that only averages, adds nothing to the round's accuracy.
    """
    agent.notes = {"training_end_s": 0.0, "end_s": agent.clock.now_s, **agent.notes}
    nothing: Report = {"correct": 0, "loss_sum": 0.0, "num_evaluated": 0, "evaluation_s": 0.0}
    noted = {name: agent.notes[name] for name in _REPORTED if name in agent.notes}
    agent.report = {**nothing, **agent.report, "bytes_sent": agent.bytes_sent, **noted}
    if agent.round == 1:
        spans = agent.clock.timeline()
        agent.report |= {
            "num_samples": 0 if agent.is_server else agent.num_samples,
            "label_counts": [] if agent.is_server else agent.label_counts(),
            "batches_per_s": agent.profile.batches_per_s,
            "timeline": [
                {"what": span.what, "start_s": span.start_s, "end_s": span.end_s, "peer": span.peer}
                for span in spans
            ],
        }
