"""How an agent reads its mail: what a peer says is checked where it is read, and what cannot be is left out.

Theory of operation
-------------------
A peer that errs or lies is like one that said nothing: its envelope is missing, and every phase knows what to
do without one. So nothing that is wrong in an envelope goes beyond `read`: the mail is dropped, its sender is
named in the round's record (`distrusted`), with one line in the log, and the phase goes on. Who may say what,
and which values can be, follows from what all agents compute alike: who takes part, who owns which shard, the
plan, and how many samples everybody has. Each kind of mail has such a check beside it.

What a phase cannot do without, the average of a shard, it notes besides (`note_lacking`): where agents agree
on who is there, its owner is left out and the averaging begins again.
"""

import logging
from collections.abc import Callable
from typing import TypeAlias

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.bounds import LONGEST_S, wrong_number
from comdml_flwr.core.errors import PeerFaultError, short_repr
from comdml_flwr.core.mail import MailT
from comdml_flwr.core.messages import Envelope, Floats, Inbox
from comdml_flwr.learning.averaging import is_finite

log = logging.getLogger(__name__)

MOST_SAMPLES = 1 << 40  # of an agent of which nobody knows how many it has

Check: TypeAlias = Callable[[int, MailT], str]
"""Tells, of a sender and its mail, what is wrong with it; empty where nothing is."""


def receive(
    agent: Agent, inbox: Inbox, kind: type[MailT], check: Check[MailT] | None = None
) -> tuple[tuple[int, MailT], ...]:
    """Return (sender, mail) of one kind, and set the clock to when the last of it is here."""
    read_mail = []
    for envelope in inbox:
        if envelope.kind == kind.kind and (mail := read(agent, envelope, kind, check)) is not None:
            agent.clock.wait(envelope.arrives_s)
            read_mail.append((envelope.sender, mail))
    return tuple(read_mail)


def read(
    agent: Agent, envelope: Envelope, kind: type[MailT], check: Check[MailT] | None = None
) -> MailT | None:
    """Return what an envelope of this kind holds; None where it cannot be, which is noted."""
    try:
        mail = kind.unpack(envelope)
        if check is not None and (wrong := check(envelope.sender, mail)):
            raise PeerFaultError(envelope.sender, f"{envelope.where}: {wrong}")
    except PeerFaultError as fault:
        distrust(agent, fault)
        return None
    return mail


def distrust(agent: Agent, fault: PeerFaultError) -> None:
    """Note whose word is left out in this round; the log has the reason, once a round."""
    if fault.agent not in distrusted_by(agent):
        log.warning("agent %d, round %d, leaves out: %s", agent.id, agent.round, fault)
        agent.notes["distrusted"] = sorted({*distrusted_by(agent), fault.agent})


def distrusted_by(agent: Agent) -> tuple[int, ...]:
    """Return whose word an agent has left out in this round."""
    return agent.note_ids("distrusted")


def note_lacking(agent: Agent, owner: int) -> None:
    """Note whose average an agent lacks, having waited for it."""
    agent.notes["lacking"] = sorted({*lacking(agent), owner})


def lacking(agent: Agent) -> tuple[int, ...]:
    """Return whose averages an agent lacks in this attempt."""
    return agent.note_ids("lacking")


def forget_lacking(agent: Agent) -> None:
    """Forget whose averages are lacking: they are sent again."""
    agent.notes.pop("lacking", None)


def possible(agent: Agent, inbox: Inbox) -> Inbox:
    """Return the mail of an inbox that can have come: from a participant, and at a time that there is."""
    return tuple(envelope for envelope in inbox if _can_have_come(agent, envelope))


def _can_have_come(agent: Agent, envelope: Envelope) -> bool:
    if wrong := wrong_number("arrives_s", envelope.arrives_s, 0, LONGEST_S):
        distrust(agent, PeerFaultError(envelope.sender, f"{envelope.where}: {wrong}"))
    return not wrong


def wrong_length(values: Floats, length: int) -> str:
    """Tell what is wrong with weights that must be a vector of this length."""
    return "" if values.shape == (length,) else f"weights have the shape {values.shape}, not ({length},)"


def wrong_weights(values: Floats, length: int) -> str:
    """Tell what is wrong with weights that must be a finite vector of this length."""
    return wrong_length(values, length) or ("" if is_finite(values) else "weights hold NaN or infinity")


def wrong_samples(agent: Agent, of: int, told: int) -> str:
    """Tell what is wrong with the number of samples that is told of an agent: all know how many it has."""
    known = agent.setup.num_samples.get(of)
    if known is None:
        return wrong_number("num_samples", told, 1, MOST_SAMPLES)
    return "" if told == known else f"num_samples is {short_repr(told)}; agent {of} has {known}"
