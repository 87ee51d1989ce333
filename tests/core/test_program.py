"""A program says what the loop and the carriers need to know of a round; steps are in its order."""

from dataclasses import replace

import pytest

from comdml_flwr.core.program import Phase, Program, Step, together


def nothing(agent, inbox):
    return ()


def phase(name, run=nothing, again=None):
    return Phase(name=name, run=run, again=again)


def test_together_runs_what_it_is_given_in_order_on_the_same_inbox():
    seen = []

    def tell_time(agent, inbox):
        seen.append((agent, inbox))
        return ("clock",)

    def ask(agent, inbox):
        seen.append((agent, inbox))
        return ("who", "where")

    inbox = ("mail",)
    run = together(tell_time, ask)
    assert run("agent", inbox) == ("clock", "who", "where")
    assert seen == [("agent", inbox), ("agent", inbox)]
    assert seen[0][1] is seen[1][1] is inbox


def test_steps_sort_by_round_then_phase():
    assert sorted([Step(2, 0), Step(1, 2), Step(1, 0)]) == [Step(1, 0), Step(1, 2), Step(2, 0)]


def test_a_program_knows_its_names_its_last_phase_and_its_return_point():
    program = Program(phases=(phase("introduce"), phase("scatter"), phase("adopt")))
    assert (program.names, program.last, program.return_point) == (("introduce", "scatter", "adopt"), 2, None)
    assert program.where(Step(4, 1)) == "round 4, scatter"
    assert replace(program, phases=(phase("scatter", again=nothing), phase("adopt"))).return_point == 0


def test_what_runs_again_at_the_return_point_runs_without_mail():
    def tells(what):
        return lambda agent, inbox: (what, *inbox)

    program = Program(
        phases=(phase("scatter", tells("first"), tells("again")), phase("adopt", tells("adopt")))
    )
    assert program.run(Step(1, 0), "agent", ("mail",)) == ("first", "mail")
    assert program.run(Step(1, 0, attempt=1), "agent", ("mail",)) == ("again",)
    assert program.run(Step(1, 1, attempt=1), "agent", ("mail",)) == ("adopt", "mail")


def test_a_program_is_cut_into_chunks_where_it_says_how_and_stays_as_it_is_elsewhere():
    whole = Program(phases=(phase("train"),), models_agree=False)
    assert whole.cut_into(3) is whole
    divisible = replace(whole, in_chunks=lambda num: tuple(phase(f"train {n}") for n in range(num)))
    assert divisible.cut_into(3).names == ("train 0", "train 1", "train 2")
    assert not divisible.cut_into(3).models_agree
    assert divisible.cut_into(3).cut_into(2).names == ("train 0", "train 1")


@pytest.mark.parametrize("num_phases", [0, 2], ids=["no phase", "two return points"])
def test_phases_that_make_no_program_are_refused(num_phases):
    with pytest.raises(ValueError, match=r"phases = .* must be at least one, with at most one return point"):
        Program(phases=(phase("scatter", again=nothing),) * num_phases)
