"""A member that says something false costs its own share of the round: each kind of mail, field and value.

The honest neither die nor hang, they miss at most the round in which the lie is found, and commit one model,
which is made of what was trained. What nobody can know better is a finite share that is not what was trained.
"""

import pytest

from tests.carriers import trust_page
from tests.carriers.lies import LIES, NUM_AGENTS
from tests.carriers.lying import honest_run, run_with

SPREADS = 2.0  # how far off a model is that is made of what others trained, or planned otherwise


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_a_lie_costs_its_tellers_share_and_no_more(lie):
    found = run_with(lie)
    assert found.dead == {}
    assert not found.hangs
    assert found.lost <= 1
    assert found.differ == 0
    assert lie.is_possible or found.distance < SPREADS


def test_every_lie_has_a_name_of_its_own():
    names = [lie.name for lie in LIES]
    assert len({*names}) == len(names)


@pytest.mark.parametrize("method", ["comdml", "allreduce"])
def test_without_a_lie_nobody_is_named(method):
    _, _, took_s, named = honest_run(method)
    assert (named, took_s < 10) == (frozenset(), True)
    assert NUM_AGENTS == 5


@pytest.mark.slow
def test_the_page_of_trust_has_what_becomes_of_each_lie():
    text = trust_page.PAGE.read_text()
    assert trust_page.page(text) == text
