"""One peer that lies cannot hand a false model to an agent that was gone or absent."""

from dataclasses import replace

import numpy as np
import pytest

from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.simulated.carrier import SimulatedCarrier
from comdml_flwr.carriers.simulated.history import Crash, History
from comdml_flwr.core.sharding import assign_round_robin
from comdml_flwr.runs.assemble import participants_of, program_of
from tests.carriers.simulation import EVEN, tiny_setup

GIVES = ("admitted", "current model", "model")
ONE_BACK = History(seed=3, step_s=(0.1, 0.3), faults=(Crash(2, 40, back_after_s=1.0),))
"""Agent 2 loses all that it had, and is let in again by the lowest of the others."""


def false(mail):
    """Give a model of other numbers, and everything else as it is."""
    if mail.kind not in GIVES:
        return (mail,)
    return (replace(mail, arrays={name: np.full_like(x, 0.125) for name, x in mail.arrays.items()}),)


def short(mail):
    """Give a model that is none."""
    return (replace(mail, arrays={}) if mail.kind in GIVES else mail,)


def run_with(setup, history, lies):
    """Run with liars; return the digest of the model, who named whom, and who was gone in some round."""
    carrier = SimulatedCarrier(participants_of(setup), program_of(setup), run_steps=run_steps, lies=lies)
    num_rounds = setup.config.num_rounds
    parts = carrier.run(1, num_rounds, history)
    named = {
        agent: {liar for report in part.reports.values() for liar in report.get("distrusted", ())}
        for agent, part in parts.items()
    }
    assert not any(part.error for part in parts.values())
    last = setup.present(num_rounds)
    assert all(num_rounds in parts[agent].reports for agent in last)
    (digest,) = {carrier.agents[agent].weights_sha256() for agent in last}
    gone = {other for part in parts.values() for report in part.reports.values() for other in report["gone"]}
    return digest, named, gone


@pytest.mark.parametrize("lie", [false, short])
def test_a_returner_is_given_the_model_that_the_others_tell_of(lie):
    setup = tiny_setup("allreduce", num_rounds=6)
    honest, nobody, _ = run_with(setup, ONE_BACK, {})
    found, named, _ = run_with(setup, ONE_BACK, {0: lie})
    assert not any(nobody.values())
    assert 0 in named[2]
    assert found == honest


@pytest.mark.parametrize("liar", range(5))
def test_a_newcomer_is_given_the_model_that_the_others_tell_of(liar):
    """With every liar, who may take no part in a round, or hand the model to nobody after it."""
    setup = tiny_setup("allreduce", num_rounds=5, participation=0.6)
    honest, *_ = run_with(setup, EVEN, {})
    found, named, gone = run_with(setup, EVEN, {liar: false})
    assert found == honest or gone == {liar}, "two have named it"
    gives = {one for n in range(1, 5) for one in handed_by(setup, liar, n)}
    assert {agent for agent, liars in named.items() if liars} == gives


def handed_by(setup, holder, round_):
    """Return to whom an agent hands the model at the end of a round."""
    present = setup.present(round_)
    return assign_round_robin(present, setup.newcomers(round_)).get(holder, ())


def test_who_begins_a_message_without_the_model_is_given_that_which_the_others_tell_of():
    setup = tiny_setup("allreduce", num_rounds=6)
    crash = History(seed=3, step_s=(0.1, 0.3), faults=(Crash(2, 40),))
    ended = []
    for lies in ({}, {3: false}, {4: false}):
        carrier = SimulatedCarrier(participants_of(setup), program_of(setup), lies=lies)
        carrier.run(1, 3, crash)
        parts = carrier.run(4, 6, EVEN)
        assert all(6 in part.reports for part in parts.values())
        (digest,) = {one.weights_sha256() for one in carrier.agents.values()}
        ended.append((digest, [*parts[2].reports[4].get("distrusted", ())]))
    assert ended == [(ended[0][0], []), (ended[0][0], [3]), (ended[0][0], [])], "it asks agent 3 first"
