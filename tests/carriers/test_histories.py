"""Laws of the agreement between peers, in virtual time: each history is a seed and a list of faults."""

import shlex
from math import inf

import pytest

from comdml_flwr.carriers.simulated.history import Crash, Cut, History, Partition, Stall
from tests.carriers import draws, replay
from tests.carriers.laws import broken_laws
from tests.carriers.replay import command_of
from tests.carriers.simulation import RUNS, simulate, tiny_setup


def broken_by(setup, histories):
    """Return the histories that break a law, with a line for each law."""
    found = {}
    for history in histories:
        _, parts = simulate(setup, history)
        if broken := broken_laws(setup, history, parts):
            found[history] = broken
    return found


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
def test_one_crash_at_any_action_costs_the_dead_agents_share_and_no_more(method):
    setup = tiny_setup(method)
    assert broken_by(setup, [draws.draw(draws.one_crash, seed, setup.ids) for seed in range(50)]) == {}


def test_nobody_healthy_is_given_up_when_one_dies_in_the_first_introduction():
    """Some have its introduction and go on; the others wait for it, with the deadline of a start."""
    setup = tiny_setup("allreduce")
    last = max(setup.ids)  # the others find later that it is dead than that somebody waits
    histories = [History(seed=seed, faults=(Crash(last, 6 + seed % 6),)) for seed in range(24)]
    assert broken_by(setup, histories) == {}


@pytest.mark.parametrize("kind", draws.KINDS, ids=lambda kind: kind.__name__)
def test_the_same_seed_is_the_same_history(kind):
    setup = tiny_setup()
    history = draws.draw(kind, 3, setup.ids)
    (one, parts), (other, parts_again) = (simulate(setup, history) for _ in range(2))
    assert one.now_s == other.now_s
    assert [part.gone for part in parts.values()] == [part.gone for part in parts_again.values()]
    assert one.agents[0].weights_sha256() == other.agents[0].weights_sha256()


FOUND = [
    # The last mark of one that died reached an absent agent and not all members, which began again without.
    ("comdml, some take part", History(seed=8000079, faults=(Crash(3, 37, back_after_s=3.0),))),
    ("comdml, some take part", History(seed=8000098, faults=(Crash(0, 44),))),
    ("comdml, some take part", History(seed=8000354, faults=(Crash(3, 36),))),
    # One is let in again: some heard of its request after their last sign, and only they counted it in.
    ("allreduce", History(seed=43, faults=(Crash(4, 63, back_after_s=4.0236358961037295),))),
    ("comdml", History(seed=1092, faults=(Crash(0, 99, back_after_s=3.6141118128936713),))),
    # An absent agent threw away the mail of one of whom it did not know that it had been let in again.
    ("comdml, some take part", History(seed=1085, faults=(Crash(0, 24, back_after_s=2.921103280143536),))),
    # It took the marks of the others for the end of a round that they began again without a dead one.
    ("comdml, some take part", History(seed=4100186, faults=(Crash(3, 30, 2.7086240669941986),))),
    # It was the first to have the last mark of one that hung, and had those of the others, which began again.
    ("comdml, some take part", History(seed=6000185, faults=(Stall(0, 37, 15.0),))),
    # The deadline after a start with a fault was too long, but not for one that had been absent.
    ("comdml, some take part", History(seed=6000070, faults=(Crash(4, 105), Crash(3, 4)))),
    # It waited for the last mark of one that had lost what it had and asked to be let in again.
    ("comdml, some take part", History(seed=2066, faults=(Crash(2, 41, back_after_s=0.11057210003763257),))),
    # Two accuse each other over a broken link; the others commit without one, and hear too late of its word.
    (
        "comdml, some take part",
        History(seed=2084, faults=(Cut(0, 1, 1.9941296575967806, 61.994129657596780),)),
    ),
    (
        "comdml, some take part",
        History(seed=2108, faults=(Cut(1, 0, 1.0992686603545385, 61.09926866035454),)),
    ),
    # One left after its own last round, before another one had committed it.
    ("comdml, some take part", History(seed=5111, faults=(Stall(2, 41, 15.0),))),
    ("comdml, some take part", History(seed=5045, faults=(Cut(4, 1, 2.5945347991950634, inf),))),
    # Two waited one for the other, the first for one that hung: their deadlines ended at the same time.
    ("comdml", History(seed=7023, faults=(Stall(3, 168, 60.0),))),
    ("comdml", History(seed=7092, faults=(Stall(4, 27, 15.0),))),
    ("allreduce", History(seed=7093, faults=(Stall(3, 68, 60.0),))),
    # One waited for a helper that waited for one that hung: those who waited for it knew of no such chain.
    ("comdml, large batches", History(seed=4400207, faults=(Stall(1, 131, 15.0),))),
    # An absent agent looked for a dead one as long as for a start, and the others gave it up meanwhile.
    ("comdml, some take part", History(seed=600224, faults=(Crash(3, 37, 19.766921341584602),))),
    # The only one that had the model left after its own last round.
    ("comdml, one is enough", History(seed=700020, faults=(Crash(0, 55), Crash(4, 19)))),
    # An agent that took no more part accused one that asked to be let in, of a round that was still to come.
    ("comdml, some take part", History(seed=9000052, faults=(Crash(0, 40, 2.653935657429674),))),
    # one alone had given up the dead agent in a round that was committed with it:
    ("comdml, some take part", History(seed=9100055, faults=(Crash(3, 37), Crash(1, 110)))),
    # The others had ended; two that were left behind asked each other for ever.
    ("comdml", History(seed=600575, faults=(Partition((1, 2, 3), 0.02006980126583713, 39.47474018612108),))),
    # One had accused the agent that hung, and was given up before the others could bear it out.
    (
        "comdml, large batches",
        History(seed=3656359420, faults=(Stall(4, 172, 60.0),), latency_s=(0.001, 0.05), step_s=(0.0, 0.3)),
    ),
    (
        "comdml, large batches",
        History(seed=3417500986, faults=(Stall(4, 27, 60.0),), latency_s=(0.001, 0.05), step_s=(0.0, 0.3)),
    ),
    # It had begun the averaging again before the others committed the round, and was not told of that.
    (
        "comdml",
        History(
            seed=209153909,
            faults=(Crash(0, 129, 3.161324390322765),),
            latency_s=(0.001, 0.05),
            step_s=(0.0, 0.3),
        ),
    ),
    # One that asked to be let in was waited for, as if it could tell as what the round is committed.
    (
        "comdml, some take part",
        History(
            seed=1178670497,
            faults=(Cut(4, 0, 2.3686081851136667, inf),),
            latency_s=(0.001, 0.05),
            step_s=(0.0, 0.3),
        ),
    ),
]
"""Runs and histories that broke a law once."""


@pytest.mark.parametrize(("run", "history"), FOUND)
def test_what_was_found_once_stays_mended(run, history):
    assert broken_by(tiny_setup(**RUNS[run]), [history]) == {}


def test_the_command_of_a_history_plays_it_again(capsys):
    run, history = "allreduce", History(seed=1, faults=(Crash(4, 9),))
    words = shlex.split(command_of(run, history))
    assert words[:3] == ["python", "-m", "tests.carriers.replay"]
    assert replay.main(*words[3:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("gives up agent 4" in line for line in lines)
    assert lines[-2:] == ["agent 4: rounds none; dead", "no law is broken"]
