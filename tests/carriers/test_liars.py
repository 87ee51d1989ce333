"""One member lies while others crash, stall or cannot be reached: histories that broke a law once.

With each is said what went wrong then.
"""

import pytest

from comdml_flwr.carriers.simulated.history import Crash, Cut, History, Partition, Slow, Stall
from tests.carriers import draws
from tests.carriers.laws import broken_laws, liars, suspects
from tests.carriers.lies import LIES, Liar
from tests.carriers.simulation import RUNS, simulate, tiny_setup

FOUND = [
    # Absent agents accused it of a round that was to come, which it was let in for.
    (
        "comdml, one is enough",
        History(
            seed=2072653453,
            faults=(
                Partition((0,), 1.1094451134978272, 2.989139174490337),
                Liar(3, "committed: round 10^30", 1),
            ),
        ),
    ),
    # It told two one average and two another, and nobody was found to lie, round after round.
    (
        "comdml, large batches",
        History(
            seed=3847687919,
            faults=(
                Crash(3, 97, 24.285549547892774),
                Liar(0, "average: weights others for two, by agent 0", 2),
            ),
        ),
    ),
    # A newcomer waited for ever for the word of one that said nothing any more.
    (
        "comdml, some take part",
        History(
            seed=2616546218,
            faults=(
                Crash(0, 85, 13.762079012118866),
                Liar(1, "mark: training_s 0.05, then silence", 3),
            ),
        ),
    ),
    # Those who could let nobody in waited for one that said nothing, and so one for the other.
    (
        "comdml, some take part",
        History(
            seed=2450313441,
            faults=(
                Crash(0, 62),
                Crash(2, 97),
                Liar(4, "any mail: none", 2),
            ),
        ),
    ),
    # A newcomer was sent nothing by one, and asked nobody else as what the round was committed.
    (
        "comdml, some take part",
        History(
            seed=803945085,
            faults=(
                Slow(0, 10.0),
                Liar(2, "any mail: none for one", 2),
            ),
        ),
    ),
    # What it had said before it was given up still counted against others.
    (
        "comdml",
        History(
            seed=2489405650,
            faults=(
                Crash(2, 189),
                Crash(3, 66),
                Liar(2, "mark: phase always the last", 1),
            ),
        ),
    ),
    # A newcomer believed the first word on a round that others had not ended yet.
    (
        "comdml, one is enough",
        History(
            seed=1311695262,
            faults=(
                Slow(3, 3.0),
                Slow(4, 10.0),
                Liar(0, "average: weights others for each", 2),
            ),
        ),
    ),
    # It said of each phase that it had done the same one, and its word stood against another's.
    (
        "comdml, one is enough",
        History(
            seed=1378548878,
            faults=(
                Partition((1, 2), 2.075917701099258, 3.790712456897433),
                Liar(0, "mark: phase always the last", 1),
            ),
        ),
    ),
    # It was to hand the model to one that asked to be let in, and did not.
    (
        "allreduce",
        History(
            seed=1747842817,
            faults=(
                Partition((1,), 0.2411400310334555, 1.3667926190058501),
                Liar(0, "any mail: none for one", 3),
            ),
        ),
    ),
    # It accused everybody, and those accused believed it of each other.
    (
        "comdml",
        History(
            seed=3488588113,
            faults=(
                Crash(4, 178),
                Crash(0, 118),
                Liar(4, "gone: all in its own name", 2),
            ),
        ),
    ),
    # One that begins waits longer than the others, which gave it up for that.
    (
        "comdml, one is enough",
        History(
            seed=2086601196,
            faults=(
                Slow(1, 10.0),
                Slow(2, 3.0),
                Liar(4, "any mail: none for one", 2),
            ),
        ),
    ),
    # A newcomer took the digest of a round before for that of its own result.
    (
        "comdml, one is enough",
        History(
            seed=1896245891,
            faults=(
                Crash(0, 149, 13.679389619018915),
                Liar(0, "average: weights others for each, by agent 0", 3),
            ),
        ),
    ),
    # It sent one nothing; that one always went, as the others waited for it alone.
    (
        "comdml",
        History(
            seed=1217265446,
            faults=(
                Crash(0, 117, 20.29734589741662),
                Liar(4, "any mail: none for one", 1),
            ),
        ),
    ),
    # Two could not hear each other, and some gave up the one and some the other.
    (
        "comdml",
        History(
            seed=1825365521,
            faults=(
                Cut(0, 4, 0.8174446464819969, 60.817444646481995),
                Liar(1, "any mail: arrives_s 1e300, allreduce", 2),
            ),
        ),
    ),
    # One that had seen no round took its forecast at its word, and was given up for how long it waited.
    (
        "comdml, some take part",
        History(
            seed=172684932,
            faults=(
                Partition((3,), 0.9807794195575587, 1.20388848181123),
                Partition((1,), 1.7123700638443622, 1.8648573526814318),
                Partition((1,), 2.037150708578656, 2.088360354186379),
                Partition((0,), 3.7874488048871755, 4.053825469569688),
                Partition((1,), 4.493940040675411, 4.596467054073107),
                Partition((4,), 5.154643777983443, 5.359536003270277),
                Partition((4,), 6.5974585784149244, 6.633226697924388),
                Partition((4,), 7.309535449245319, 7.44610830781688),
                Liar(0, "mark: training_s 600, then silence", 1),
            ),
        ),
    ),
    # It accused three for whom all had to wait, as one of them hung.
    (
        "comdml, large batches",
        History(seed=414449706, faults=(Stall(3, 170, 60.0), Liar(0, "gone: all in the name of one", 1))),
    ),
    # What one that was gone already had said of another one was still heard.
    (
        "allreduce",
        History(
            seed=4041477940, faults=(Crash(4, 57), Crash(0, 61), Liar(0, "gone: one, in its own name", 1))
        ),
    ),
]


@pytest.mark.parametrize(("run", "history"), FOUND)
def test_what_was_found_once_stays_mended(run, history):
    setup = tiny_setup(**RUNS[run])
    _, parts = simulate(setup, history)
    assert broken_laws(setup, history, parts) == []


def test_a_liar_is_drawn_with_each_kind_of_history():
    setup = tiny_setup()
    for kind in draws.KINDS:
        history = draws.draw(kind, 5, setup.ids, with_liar=True)
        (liar,) = [fault for fault in history.faults if isinstance(fault, Liar)]
        assert liar.lie in {lie.name for lie in LIES}
        assert liars(history) == {liar.agent} <= suspects(setup, history)
        assert history.faults[:-1] == draws.draw(kind, 5, setup.ids).faults


def test_who_lies_and_who_may_fail_with_it():
    setup = tiny_setup("allreduce")
    one, two = Liar(4, LIES[0].name), (Liar(4, LIES[0].name), Crash(1, 9))
    assert suspects(setup, History(seed=1, faults=(one,))) == {4}
    assert suspects(setup, History(seed=1, faults=two)) == {1, 4}
    assert suspects(setup, History(seed=1, faults=(*two, Crash(2, 9)))) == {*setup.ids}, "three of five"
