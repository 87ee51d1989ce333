"""The integer program, and the other solvers judged by it."""

import doctest
import subprocess
import sys
from collections.abc import Iterator

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.pairing import is_valid_plan, pair_agents
from comdml_flwr.planning.solvers import integer_program
from comdml_flwr.planning.solvers.integer_program import Solved, solve
from comdml_flwr.planning.types import Plan
from tests.planning.fleets import Case, generated_case

NUM_FLEETS = 500

Rows = list[tuple[Case, Plan | None, Solved | None]]


def plan_of(case: Case, solver: str) -> Plan | None:
    try:
        return pair_agents(case.profiles, case.cuts, solver=solver, time_model=case.time_model)
    except InputError:
        return None


def solved(case: Case, *, shared: bool) -> Solved | None:
    try:
        return solve(case.profiles, case.cuts, time_model=case.time_model, shared=shared, time_limit_s=20)
    except InputError:
        return None


def ends_and_traffic(plan: Plan) -> tuple[float, float]:
    return sum(pair.finish_s for pair in plan.pairs), sum(pair.traffic_bytes for pair in plan.pairs)


@pytest.fixture(scope="module")
def one_to_one() -> Rows:
    cases = [generated_case(number) for number in range(NUM_FLEETS)]
    return [(case, plan_of(case, "exact"), solved(case, shared=False)) for case in cases]


@pytest.fixture(scope="module")
def with_sharing() -> Rows:
    cases = [generated_case(number) for number in range(NUM_FLEETS)]
    return [(case, plan_of(case, "shared"), solved(case, shared=True)) for case in cases]


def both(rows: Rows) -> Iterator[tuple[Case, Plan, Solved]]:
    for case, plan, proof in rows:
        if plan is not None and proof is not None:
            yield case, plan, proof


def test_exact_equals_the_integer_program(one_to_one: Rows) -> None:
    assert sum(1 for _ in both(one_to_one)) > 400
    for case, plan, proof in both(one_to_one):
        assert proof.proven
        assert plan.makespan_s == pytest.approx(proof.plan.makespan_s, rel=1e-6)
        assert is_valid_plan(proof.plan, case.profiles, case.cuts)


def test_both_find_that_memory_leaves_no_plan(one_to_one: Rows, with_sharing: Rows) -> None:
    for rows in (one_to_one, with_sharing):
        assert any(plan is None for _, plan, _ in rows)
        assert all((plan is None) == (proof is None) for _, plan, proof in rows)


def test_exact_ends_as_early_and_sends_as_little_as_the_integer_program(one_to_one: Rows) -> None:
    for _, plan, proof in both(one_to_one):
        assert ends_and_traffic(plan) == pytest.approx(ends_and_traffic(proof.plan), rel=1e-6)


def test_sharing_is_never_worse_than_exact(one_to_one: Rows, with_sharing: Rows) -> None:
    better = 0
    for (_, exact, _), (case, shared, _) in zip(one_to_one, with_sharing, strict=True):
        if exact is not None:
            assert shared is not None
            assert shared.makespan_s <= exact.makespan_s
            assert is_valid_plan(shared, case.profiles, case.cuts, shared=True)
            better += shared.makespan_s < exact.makespan_s
    assert better > 80


def test_sharing_is_near_the_proven_optimum(with_sharing: Rows) -> None:
    ratios = []
    for case, plan, proof in both(with_sharing):
        assert is_valid_plan(proof.plan, case.profiles, case.cuts, shared=True)
        assert plan.makespan_s >= proof.bound_s * (1 - 1e-6)
        if proof.proven:
            ratios.append(plan.makespan_s / proof.plan.makespan_s)
    assert len(ratios) > 400
    assert sum(ratio <= 1.1 for ratio in ratios) >= 0.95 * len(ratios)
    assert sum(ratios) / len(ratios) < 1.01


def pairs_of(plan: Plan) -> list[tuple[int, int, int]]:
    return [(pair.slow, pair.fast, pair.cut) for pair in plan.pairs]


def test_forbidden_and_forced_pairs() -> None:
    case = generated_case(0)
    free = solve(case.profiles, case.cuts, time_model=case.time_model)
    taken = pairs_of(free.plan)
    assert taken
    without = solve(case.profiles, case.cuts, time_model=case.time_model, forbidden=taken[:1])
    assert taken[0] not in pairs_of(without.plan)
    assert without.plan.makespan_s >= free.plan.makespan_s
    slow, fast, _ = taken[0]
    for shared in (False, True):
        forced = solve(
            case.profiles, case.cuts, time_model=case.time_model, forced=[(slow, fast, 1)], shared=shared
        )
        assert (slow, fast, 1) in pairs_of(forced.plan)
        assert forced.proven


def test_constraints_that_contradict_each_other_are_one_line() -> None:
    case = generated_case(0)
    taken = pairs_of(solve(case.profiles, case.cuts, time_model=case.time_model).plan)[0]
    both_ways = {"forced": [taken, (taken[0], taken[1], taken[2] % 7 + 1)]}
    with pytest.raises(InputError, match=r"^agents = .* have no plan that meets all constraints"):
        solve(case.profiles, case.cuts, time_model=case.time_model, **both_ways)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must not be both forbidden and forced"):
        solve(case.profiles, case.cuts, time_model=case.time_model, forced=[taken], forbidden=[taken])


@pytest.mark.parametrize("triple", [(0, 0, 1), (0, 999, 1), (0, 3, 0), (0, 3, 8)])
def test_a_triple_that_is_no_pair_is_one_line(triple: tuple[int, int, int]) -> None:
    case = generated_case(0)
    for name in ("forbidden", "forced"):
        with pytest.raises(InputError, match=r"^\(slow, fast, cut\) = .* is no possible pair of this fleet$"):
            solve(case.profiles, case.cuts, **{name: [triple]})  # type: ignore[arg-type]


def test_the_time_limit_is_positive_and_kept() -> None:
    case = generated_case(0)
    with pytest.raises(InputError, match=r"^time_limit_s = 0: must be > 0$"):
        solve(case.profiles, case.cuts, time_limit_s=0)
    hurried = solve(case.profiles, case.cuts, time_limit_s=1e-9)  # greedy's plan, and what is known of it
    assert is_valid_plan(hurried.plan, case.profiles, case.cuts)
    assert hurried.bound_s <= hurried.plan.makespan_s
    assert hurried.proven == (hurried.gap == 0)


def test_without_highs_cbc_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1, 3):
        case = generated_case(number)
        first = solve(case.profiles, case.cuts, time_model=case.time_model)
        with monkeypatch.context() as patch:
            patch.setattr(integer_program, "_has_highs", lambda: False)
            second = solve(case.profiles, case.cuts, time_model=case.time_model)
        assert (first.solver_name, second.solver_name) == ("HiGHS", "CBC")
        assert second.proven
        assert second.plan.makespan_s == pytest.approx(first.plan.makespan_s, rel=1e-6)


def test_it_prints_nothing() -> None:
    code = (
        "from comdml_flwr.planning.pairing import pair_agents\n"
        "from tests.planning.fleets import generated_case\n"
        "case = generated_case(0)\n"
        "pair_agents(case.profiles, case.cuts, solver='integer-program')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(integer_program).failed == 0
