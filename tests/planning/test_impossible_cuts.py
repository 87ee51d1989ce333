"""A cut that is not possible keeps its number, and no solver's plan uses it."""

from dataclasses import replace

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.pairing import SOLVERS, is_valid_plan, pair_agents, price_pairs
from comdml_flwr.planning.types import CutTable, Plan, Profile
from tests.planning.fleets import generated_case, resnet_cuts

NUM_CASES = 24


def without(cuts: CutTable, *numbers: int) -> CutTable:
    """Return the table in which these cuts are not possible."""
    return tuple(replace(cut, is_possible=n not in numbers) for n, cut in enumerate(cuts, start=1))


def used(plan: Plan) -> set[int]:
    return {pair.cut for pair in plan.pairs}


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_plan_uses_a_cut_that_is_not_possible(solver: str) -> None:
    num_used = 0
    for number in range(NUM_CASES):
        case = generated_case(number)
        cuts = without(case.cuts, 2, 5, 7)
        try:
            best = pair_agents(case.profiles, case.cuts, solver=solver, time_model=case.time_model)
            plan = pair_agents(case.profiles, cuts, solver=solver, time_model=case.time_model)
        except InputError:  # somebody's memory cannot hold the model
            continue
        assert not used(plan) & {2, 5, 7}
        assert is_valid_plan(plan, case.profiles, cuts, shared=solver == "shared")
        num_used += bool(used(best) & {2, 5, 7})
        left = tuple(cut for cut in cuts if cut.is_possible)
        if solver != "integer-program":  # which has a time limit
            alone = pair_agents(case.profiles, left, solver=solver, time_model=case.time_model)
            assert plan.makespan_s == alone.makespan_s, "the other cuts keep their worth"
    assert num_used > 5, "the cuts were worth something"


def test_a_pair_at_such_a_cut_is_not_valid_and_has_no_price() -> None:
    case = next(c for c in map(generated_case, range(9)) if used(_plan(c.profiles, c.cuts)))
    plan = _plan(case.profiles, case.cuts)
    forbidden = without(case.cuts, *used(plan))
    assert not is_valid_plan(plan, case.profiles, forbidden)
    pairs = [(pair.slow, pair.fast, pair.cut) for pair in plan.pairs]
    priced = price_pairs(case.profiles, forbidden, pairs, time_model="overlap")
    assert priced is not None
    assert priced.pairs == ()


def test_with_no_possible_cut_all_train_alone() -> None:
    case = generated_case(0)
    plan = _plan(case.profiles, without(resnet_cuts(), *range(1, 8)))
    assert plan.pairs == ()
    assert plan.makespan_s == plan.solo_makespan_s


def _plan(profiles: list[Profile], cuts: CutTable) -> Plan:
    return pair_agents(profiles, cuts, time_model="overlap")
