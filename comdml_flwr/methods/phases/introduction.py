"""The first phase: agents tell who they are and what they can, and absent ones catch up."""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.mail import Mail, Table, Tensors
from comdml_flwr.core.messages import Envelope, Inbox, Outbox
from comdml_flwr.core.sharding import assign_round_robin, staggered_receivers
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.hysteresis import Pairing, latest_pairing
from comdml_flwr.planning.types import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction(Mail):
    """An agent's `Profile` as JSON; with hysteresis, the last pairing that it knows and its round."""

    kind: ClassVar[str] = "profile"
    profile: Table
    pairing_round: int | None = None
    pairing: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Mail):
    """The current model and all else that agents share, by the names of their slots."""

    kind: ClassVar[str] = "model"
    tensors: Tensors


def introduce(agent: Agent, inbox: Inbox) -> Outbox:
    """Tell all who take part how fast this agent is, how much it has to do, and its links with them.

    (And with those who take part in the next round: they get the model at the end of this one.)
    """
    profile = agent.profile
    everybody = staggered_receivers(agent.id, agent.members)
    met = {*everybody, *agent.newcomers}
    links = {peer: link for peer, link in profile.links.items() if peer in met}
    own = Introduction(profile=replace(profile, links=links).to_json())
    if agent.setup.config.hysteresis:
        own = replace(own, pairing_round=agent.pairing.round, pairing=agent.pairing.pairs)
    return tuple(agent.send(receiver, own) for receiver in everybody)


def meet(agent: Agent, inbox: Inbox) -> tuple[Profile, ...]:
    """Read the introductions of all who take part, in ascending id, and catch up after an absence."""
    catch_up(agent, inbox)
    met = {sender: mail.profile for sender, mail in agent.receive(inbox, Introduction)}
    there = {sender: profile for sender, profile in met.items() if sender not in agent.gone}
    return agent.setup.met.get(
        tuple(there.values()), lambda: tuple(_read_profile(*told) for told in there.items())
    )


def catch_up(agent: Agent, inbox: Inbox) -> None:
    """Take the model that was sent to this agent at the end of a round in which it was absent."""
    for envelope in inbox:
        if (
            envelope.kind == Model.kind
        ):  # its transfer ended the round before, so the clock does not wait for it
            agent.tensors.take_over(Model.unpack(envelope).tensors, envelope.where)


def latest_known_pairing(agent: Agent, inbox: Inbox) -> Pairing:
    """Return the pairing of the latest round that one of those who take part was in; the same for all."""
    mail = [one for one in inbox if one.kind == Introduction.kind and one.sender not in agent.gone]
    return latest_pairing(map(_read_pairing, mail))


def _read_pairing(envelope: Envelope) -> Pairing:
    told = Introduction.unpack(envelope)
    if told.pairing_round is None or told.pairing is None:
        raise RunError(f"{envelope.where}: pairing is not there")
    return Pairing(round=told.pairing_round, pairs=told.pairing)


def _read_profile(sender: int, told: Table) -> Profile:
    what = f"{Introduction.kind} from agent {sender}"
    try:
        profile = Profile.from_json(cast("Json", told))
    except (TypeError, InputError) as error:
        raise RunError(f"{what}: {error}") from None
    if profile.agent != sender:
        raise RunError(f"{what}: it is of agent {profile.agent}")
    return profile


def hand_over(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the current model, and what else is shared, to those who lack it and take part in the next round.

    Everybody can draw both samples, so each holder knows which newcomers are his. The round is over when they
    have the model; the next one begins for all at once.
    """
    mine = assign_round_robin(agent.members, agent.newcomers)[agent.id]
    outbox = tuple(agent.send(peer, Model(tensors=agent.tensors.shared_arrays())) for peer in mine)
    agent.notes["end_s"] = max([agent.clock.now_s, *(envelope.arrives_s for envelope in outbox)])
    return outbox
