"""The first phase: agents tell who they are and what they can, and absent ones catch up."""

from dataclasses import replace

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.messages import Envelope, Inbox, Outbox
from comdml_flwr.core.sharding import assign_round_robin, staggered_receivers
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.hysteresis import Pairing, latest_pairing, read_pairing
from comdml_flwr.planning.types import Profile


def introduce(agent: Agent, inbox: Inbox) -> Outbox:
    """Tell all who take part how fast this agent is, how much it has to do, and its links with them.

    (And with those who take part in the next round: they get the model at the end of this one.)
    """
    profile = agent.profile
    everybody = staggered_receivers(agent.id, agent.members)
    met = {*everybody, *agent.newcomers}
    links = {peer: link for peer, link in profile.links.items() if peer in met}
    about: dict[str, Json] = {"profile": replace(profile, links=links).to_json()}
    if agent.setup.config.hysteresis:
        about |= {"pairing_round": agent.pairing.round, "pairing": agent.pairing.pairs}
    return tuple(agent.send(receiver, "profile", about) for receiver in everybody)


def meet(agent: Agent, inbox: Inbox) -> tuple[Profile, ...]:
    """Read the introductions of all who take part, in ascending id, and catch up after an absence."""
    catch_up(agent, inbox)
    mail = agent.receive(inbox, "profile")
    if agent.gone:
        mail = tuple(envelope for envelope in mail if envelope.sender not in agent.gone)
    return agent.setup.met.get(
        tuple(envelope.about for envelope in mail), lambda: tuple(map(_read_profile, mail))
    )


def catch_up(agent: Agent, inbox: Inbox) -> None:
    """Take the model that was sent to this agent at the end of a round in which it was absent."""
    for envelope in inbox:
        if envelope.kind == "model":  # its transfer ended the round before, so the clock does not wait for it
            agent.take_over(envelope.arrays, envelope.where)


def latest_known_pairing(agent: Agent, inbox: Inbox) -> Pairing:
    """Return the pairing of the latest round that one of those who take part was in; the same for all."""
    known = (mail for mail in inbox if mail.kind == "profile" and mail.sender not in agent.gone)
    return latest_pairing(map(_read_pairing, known))


def _read_pairing(mail: Envelope) -> Pairing:
    try:
        return read_pairing(mail.about.get("pairing_round"), mail.about.get("pairing"))
    except TypeError as error:
        raise RunError(f"{mail.where}: {error}") from None


def _read_profile(mail: Envelope) -> Profile:
    try:
        profile = Profile.from_json(mail.about.get("profile"))
    except (TypeError, InputError) as error:
        raise RunError(f"{mail.where}: {error}") from None
    if profile.agent != mail.sender:
        raise RunError(f"{mail.where}: it is of agent {profile.agent}")
    return profile


def hand_over(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the current model, and what else is shared, to those who lack it and take part in the next round.

    Everybody can draw both samples, so each holder knows which newcomers are his. The round is over when they
    have the model; the next one begins for all at once.
    """
    mine = assign_round_robin(agent.members, agent.newcomers)[agent.id]
    outbox = tuple(agent.send(peer, "model", {}, agent.tensors.shared_arrays()) for peer in mine)
    agent.notes["end_s"] = max([agent.clock.now_s, *(envelope.arrives_s for envelope in outbox)])
    return outbox
