"""Phases that several methods share: introduce, catch up, train alone, hand over, evaluate."""

from math import inf, isfinite

from comdml_flwr.agent import Agent, read_pairing
from comdml_flwr.errors import RunError
from comdml_flwr.learning.split import load_floats
from comdml_flwr.learning.training import Learner
from comdml_flwr.learning.training import evaluate as evaluate_model
from comdml_flwr.messages import Envelope, Inbox, Json, Outbox
from comdml_flwr.planning.clock import deal_out, receivers_in_turn, shard_bounds
from comdml_flwr.planning.hysteresis import Pairing, latest_pairing
from comdml_flwr.planning.types import Link, Profile


def introduce(agent: Agent, inbox: Inbox) -> Outbox:
    """Tell all who take part how fast this agent is, how much it has to do, and its links."""
    profile = agent.profile
    links = sorted(profile.links.items())
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
    everybody = receivers_in_turn(agent.id, agent.setup.present(agent.round))
    return tuple(agent.send(receiver, "profile", about) for receiver in everybody)


def meet(agent: Agent, inbox: Inbox) -> tuple[Profile, ...]:
    """Read the introductions of all who take part, in ascending id, and catch up after an absence."""
    for envelope in inbox:
        if envelope.kind == "model":  # its transfer ended the round before, so the clock does not wait for it
            agent.keep("weights", envelope.floats("weights"))
    return tuple(_read_profile(envelope) for envelope in agent.receive(inbox, "profile"))


def latest_known_pairing(agent: Agent, inbox: Inbox) -> Pairing:
    """Return the pairing of the latest round that one of those who take part was in; the same for all."""
    return latest_pairing(_read_pairing(mail) for mail in inbox if mail.kind == "profile")


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


def train_whole(agent: Agent, chunk: range) -> None:
    """Train the whole model on these of the round's batches; the result is the tensors `own/...`."""
    model = agent.setup.workbench.model
    state = agent.recall("own")
    if not state:
        load_floats(model, agent.weights_P)
    learner = Learner(model, None, agent.setup.optimizer, state or None)
    batches = agent.batches()
    for number in chunk:
        learner.train_batch(*agent.samples(batches[number], number))
    agent.remember("own", learner.state(finished=chunk.stop == len(batches)))


def hand_over(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the current model to those who were absent in this round and take part in the next.

    Everybody can draw both samples, so each holder knows which newcomers are his. The round is over when they
    have the model; the next one begins for all at once.
    """
    mine = deal_out(agent.setup.present(agent.round), agent.setup.newcomers(agent.round))[agent.id]
    outbox = tuple(agent.send(peer, "model", {}, {"weights": agent.weights_P.numpy()}) for peer in mine)
    agent.notes["end_s"] = max([agent.clock.now_s, *(envelope.arrives_s for envelope in outbox)])
    return outbox


def evaluate(agent: Agent, inbox: Inbox) -> Outbox:
    """Evaluate this agent's model on its share of the test set and report the round."""
    present = agent.setup.present(agent.round)
    data, model = agent.setup.dataset, agent.setup.workbench.model
    start, stop = shard_bounds(len(data.y_test_N), len(present))[present.index(agent.id)]
    load_floats(model, agent.weights_P)
    correct, loss_sum = evaluate_model(model, data.x_test_NCHW[start:stop], data.y_test_N[start:stop])
    agent.report |= {
        "correct": correct,
        "loss_sum": loss_sum,
        "num_evaluated": stop - start,
        "bytes_sent": agent.bytes_sent,
        "weights_sha256": agent.weights_sha256(),
        **agent.notes,
    }
    return ()
