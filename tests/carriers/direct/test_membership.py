"""Who is gone is a function of the accusations, in whatever order and company they come."""

from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.carriers.direct.membership import Membership

AGENTS = st.integers(0, 5)
ACCUSATIONS = st.lists(
    st.tuples(st.integers(1, 4), AGENTS, AGENTS).filter(lambda row: row[1] != row[2]), max_size=12
)


@given(rows=ACCUSATIONS, data=st.data())
def test_the_order_in_which_accusations_come_does_not_matter(rows, data):
    one, other = Membership(), Membership()
    one.merge(rows)
    for row in data.draw(st.permutations(rows)):
        other.merge([row])
        other.merge([row])
    assert (one.gone, one.accusations) == (other.gone, other.accusations)


@given(rows=ACCUSATIONS)
def test_whoever_accuses_somebody_is_gone_or_rid_of_him(rows):
    members = Membership()
    members.merge(rows)
    for round_, accuser, accused in rows:
        earlier = [row for row in sorted(rows) if row < (round_, accuser, accused)]
        before = Membership()
        before.merge(earlier)
        assert accused in members.gone or accuser in before.gone


@given(rows=ACCUSATIONS, absent=st.sets(AGENTS))
def test_who_is_admitted_is_in_until_accused_in_a_later_round(rows, absent):
    members = Membership(absent)
    members.merge(rows)
    members.admit(range(6), since=5)
    assert members.gone == frozenset()
    assert members.accusations == ()
    members.merge(rows)
    assert members.gone == frozenset(), "accusations of earlier rounds may still be on their way"
    members.merge([(5, 0, 1)])
    assert members.gone == {1}


def test_of_two_who_accuse_each_other_the_lower_id_stays():
    """Their link is broken: only one of them must go."""
    members = Membership()
    members.merge([(3, 4, 2), (3, 2, 4)])
    assert members.gone == {4}


def test_an_accuser_that_was_gone_before_harms_nobody():
    members = Membership()
    members.merge([(1, 0, 5), (2, 5, 1), (2, 5, 2)])
    assert members.gone == {5}


@given(rows=ACCUSATIONS, absent=st.sets(AGENTS))
def test_who_takes_over_knows_what_the_other_does(rows, absent):
    member, newcomer = Membership(absent), Membership()
    member.merge(rows)
    member.admit([3], since=5)
    newcomer.merge([(4, 1, 3)])
    newcomer.take_over(member.gone, member.admissions)
    assert newcomer.gone == member.gone
    newcomer.merge([(4, 2, 3)])
    assert newcomer.gone == member.gone, "an accusation from before the admission"


@given(rows=ACCUSATIONS, missing=st.sets(AGENTS), late=ACCUSATIONS)
def test_what_is_settled_is_not_turned_round_by_those_who_are_gone(rows, missing, late):
    """Whoever committed a round without some agents holds them to be gone, whatever these say later."""
    one, other = Membership(), Membership()
    one.merge(rows)
    for member in (one, other):
        member.settle(missing)
        member.merge([row for row in late if row[1] in missing])
    assert one.gone >= missing
    assert other.gone == missing


def test_who_is_gone_again_stays_gone_when_another_one_is_admitted():
    members = Membership()
    members.merge([(1, 0, 3), (1, 0, 4)])
    members.admit([3], since=2)
    members.settle([3, 4])
    members.admit([4], since=5)
    assert members.gone == {3}


def drawn(round_):
    return (0, 1, 2, 3, 4)


@given(rows=ACCUSATIONS, liar=AGENTS)
def test_one_alone_puts_nobody_out(rows, liar):
    members = Membership(drawn=lambda round_: range(6))
    members.merge((round_, liar, accused) for round_, _, accused in rows if accused != liar)
    assert members.gone == frozenset()


@given(rows=ACCUSATIONS, data=st.data())
def test_the_order_does_not_matter_where_two_must_accuse(rows, data):
    one, other = (Membership(drawn=lambda round_: range(6)) for _ in range(2))
    one.merge(rows)
    for row in data.draw(st.permutations(rows)):
        other.merge([row])
    assert one.gone == other.gone


def test_where_nobody_else_takes_part_one_accuser_is_enough():
    members = Membership(drawn=lambda round_: (1, 2))
    members.merge([(1, 1, 2)])
    assert members.gone == {2}


def test_an_agents_own_word_counts_for_itself_where_it_insists():
    members = Membership(drawn=drawn)
    members.merge([(1, 0, 3)])
    assert members.gone == frozenset()
    members.insist((1, 0, 3))
    assert members.gone == {3}


def test_what_one_said_before_it_was_let_in_again_counts_no_more():
    members = Membership(drawn=lambda round_: (0, 1, 2, 3))
    members.merge([(1, 2, 0), (1, 1, 2), (1, 3, 2)])
    assert members.gone == {2}
    members.admit([2], since=2)
    members.merge([(2, 1, 0)])
    assert members.gone == frozenset(), "agent 2's word of round 1 does not bear it out"
    assert members.accusers(0) == {1}
    assert members.accusers(0, since=3) == set()


def test_of_two_each_goes_in_turn():
    members = Membership()
    assert max([1, 2], key=members.turn) == 2
    members.admit([2], since=3)
    assert max([1, 2], key=members.turn) == 1
    members.admit([1], since=4)
    assert max([1, 2], key=members.turn) == 2
