"""The first phase: agents tell who they are and what they can, and absent ones catch up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, cast

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrust, read, receive
from comdml_flwr.core.bounds import LONGEST_S, wrong_number
from comdml_flwr.core.errors import InputError, PeerFaultError, short_repr
from comdml_flwr.core.mail import Mail, Table, Tensors
from comdml_flwr.core.messages import Inbox, Outbox
from comdml_flwr.core.sharding import assign_round_robin, staggered_receivers
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.hysteresis import Pairing, latest_pairing
from comdml_flwr.planning.types import SERVER, Link, Profile

FASTEST_FLOPS, FASTEST_BYTES = 1e20, 1e15  # per second; no device and no link of today comes near


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
    """Read the introductions of all who take part, in ascending id, and catch up after an absence.

    Who introduced itself as nobody can be is left out: the others plan without it.
    """
    catch_up(agent, inbox)
    met = {sender: mail.profile for sender, mail in receive(agent, inbox, Introduction)}
    there = {sender: profile for sender, profile in met.items() if sender not in agent.gone}
    read, faults = agent.setup.met.get(tuple(there.values()), lambda: _read_profiles(agent, there))
    for fault in faults:
        distrust(agent, fault)
    return read


def catch_up(agent: Agent, inbox: Inbox) -> None:
    """Take the model that was sent to this agent at the end of a round in which it was absent.

    Nobody else has use for one. (Its transfer ended the round before, so the clock does not wait for it.)
    """
    for envelope in inbox:
        if envelope.kind == Model.kind and (
            mail := read(agent, envelope, Model, partial(_wrong_model, agent))
        ):
            agent.tensors.take_over(mail.tensors, envelope.where)
            agent.model_of = agent.round - 1


def _wrong_model(agent: Agent, sender: int, mail: Model) -> str:
    setup, before = agent.setup, agent.round - 1
    has_server = SERVER in setup.profiles_at(agent.round)
    if not has_server and agent.model_of >= before:
        return "this agent has the model"
    if sender not in ((SERVER,) if has_server else setup.present(max(1, before))):
        return "it is no holder of the model"
    return agent.tensors.wrong_shared(mail.tensors)


def latest_known_pairing(agent: Agent, inbox: Inbox) -> Pairing:
    """Return the pairing of the latest round that one of those who take part was in; the same for all."""
    there = [one for one in inbox if one.sender not in agent.gone]
    told = receive(agent, tuple(there), Introduction, partial(_wrong_pairing, agent))
    return latest_pairing(
        Pairing(round=mail.pairing_round or 0, pairs=mail.pairing or ()) for _, mail in told
    )


def _wrong_pairing(agent: Agent, sender: int, mail: Introduction) -> str:
    if mail.pairing_round is None or mail.pairing is None:
        return "pairing is not there"
    if not 0 <= mail.pairing_round < agent.round:
        return f"pairing_round is {short_repr(mail.pairing_round)}, not before this round"
    ids, cuts = agent.setup.ids, range(1, len(agent.setup.cuts) + 1)
    can_be = all(
        slow in ids and fast in ids and slow != fast and cut in cuts for slow, fast, cut in mail.pairing
    )
    is_one = len({slow for slow, _, _ in mail.pairing}) == len(mail.pairing)
    return "" if can_be and is_one else "pairing is none of these agents and cuts"


def _read_profiles(
    agent: Agent, told: Mapping[int, Table]
) -> tuple[tuple[Profile, ...], tuple[PeerFaultError, ...]]:
    """Return the profiles that can be, and the faults of those who told another one."""
    profiles, faults = [], []
    for sender, table in told.items():
        try:
            profiles.append(_read_profile(agent, sender, table))
        except PeerFaultError as fault:
            faults.append(fault)
    return tuple(profiles), tuple(faults)


def _read_profile(agent: Agent, sender: int, told: Table) -> Profile:
    try:
        profile = Profile.from_json(cast("Json", told))
        wrong = _wrong_profile(agent, sender, profile)
    except (TypeError, InputError) as error:
        wrong = str(error)
    if wrong:
        raise PeerFaultError(sender, f"{Introduction.kind} from agent {sender}: {wrong}")
    return profile


def _wrong_profile(agent: Agent, sender: int, profile: Profile) -> str:
    """Tell what is wrong with a profile by what all know of its agent: its id, its work and its peers."""
    if profile.agent != sender:
        return f"it is of agent {short_repr(profile.agent)}"
    setup = agent.setup
    known = setup.profiles_at(agent.round).get(sender)
    if known is not None and profile.num_batches != known.num_batches:
        return f"num_batches is {profile.num_batches:g}; agent {sender} has {known.num_batches:g}"
    if not profile.links.keys() <= {*setup.ids, SERVER} - {sender}:
        return "it has links with those who are no other agents"
    most_batches = FASTEST_FLOPS / max(1.0, setup.batch_flops)
    return wrong_number(
        "batches_per_s", profile.batches_per_s, profile.num_batches / LONGEST_S, most_batches
    ) or next(filter(None, map(_wrong_link, profile.links.values())), "")


def _wrong_link(link: Link) -> str:
    if wrong := wrong_number("latency_s", link.latency_s, 0, LONGEST_S):
        return wrong
    slowest = 1 / LONGEST_S if link.bytes_per_s else 0  # 0: no link
    return wrong_number("bytes_per_s", link.bytes_per_s, slowest, FASTEST_BYTES)


def hand_over(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the current model, and what else is shared, to those who lack it and take part in the next round.

    Everybody can draw both samples, so each holder knows which newcomers are his. The round is over when they
    have the model; the next one begins for all at once.
    """
    mine = assign_round_robin(agent.members, agent.newcomers)[agent.id]
    outbox = tuple(agent.send(peer, Model(tensors=agent.tensors.shared_arrays())) for peer in mine)
    agent.notes["end_s"] = max([agent.clock.now_s, *(envelope.arrives_s for envelope in outbox)])
    return outbox
