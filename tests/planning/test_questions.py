"""Laws of explanations and of what-if: the plan is that of `pair_agents`, and the alternatives are honest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.costs import TIME_MODELS, pair_finish_s
from comdml_flwr.planning.fleet import changes as changes_module
from comdml_flwr.planning.fleet.changes import change_fleet
from comdml_flwr.planning.fleet.fleet import Fleet, FleetAgent
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.pairing import SOLVERS, pair_agents
from comdml_flwr.planning.questions import describe_pairs, explain, what_if
from comdml_flwr.planning.types import Cut, Link, Profile
from tests.fleets import agent_tables
from tests.planning.test_pairing import INSTANCES

LAW = settings(max_examples=40)
WAYS = st.fixed_dictionaries(
    {"solver": st.sampled_from(sorted(SOLVERS)), "time_model": st.sampled_from(TIME_MODELS)}
)
HALF = (Cut(slow_share=0.5, fast_share=0.5, bytes_per_batch=0.0),)


def device(agent, speed, batches, peers):
    links = {peer: Link(bytes_per_s=1e6) for peer in peers if peer != agent}
    return Profile(agent=agent, batches_per_s=speed, num_batches=batches, links=links)


def explanations(profiles, cuts, way):
    return [explain(profiles, cuts, profile.agent, **way) for profile in profiles]


def finish_s(profiles, cuts, time_model, option):
    position = {profile.agent: index for index, profile in enumerate(profiles)}
    table = pair_finish_s(profiles, cuts, time_model)
    return table[position[option.slow], position[option.fast], option.cut - 1]


@LAW
@given(INSTANCES, WAYS)
def test_the_plan_that_is_explained_is_that_of_pair_agents(instance, way):
    profiles, cuts = instance
    plan = pair_agents(profiles, cuts, **way)
    for found in explanations(profiles, cuts, way):
        assert found.plan == plan
        pairs = [(pair.slow, pair.fast, pair.cut, pair.finish_s) for pair in plan.pairs]
        taken = [(option.slow, option.fast, option.cut, option.finish_s) for option in found.taken]
        assert taken == [pair for pair in pairs if found.agent in pair[:2]]
        assert (found.role == "alone") == (found.agent in plan.solo)
        assert all(option.makespan_s == plan.makespan_s for option in found.taken)


@LAW
@given(INSTANCES, WAYS)
def test_the_times_of_the_alternatives_are_those_of_the_cost_model(instance, way):
    profiles, cuts = instance
    for found in explanations(profiles, cuts, way):
        for option in (*found.taken, *found.others, *found.other_cuts):
            assert option.finish_s == finish_s(profiles, cuts, way["time_model"], option)
            longest = max(option.slow_s, option.transfer_s, option.helper_s)
            assert longest + option.wait_s == pytest.approx(option.finish_s, rel=1e-12)
            if way["time_model"] == "overlap":
                assert option.wait_s == 0


@LAW
@given(INSTANCES, WAYS)
def test_every_agent_and_every_cut_is_accounted_for(instance, way):
    profiles, cuts = instance
    for found in explanations(profiles, cuts, way):
        partners = {*found.impossible}
        for option in (*found.taken, *found.others):
            assert found.agent in (option.slow, option.fast)
            partners |= {option.slow, option.fast} - {found.agent}
        assert partners == {profile.agent for profile in profiles} - {found.agent}
        if found.taken:
            own_cuts = [*(option.cut for option in (*found.taken, *found.other_cuts))]
            assert sorted(own_cuts) == list(range(1, len(cuts) + 1))
        table = pair_finish_s(profiles, cuts, way["time_model"])
        position = {profile.agent: index for index, profile in enumerate(profiles)}
        for option in found.others:
            assert option.finish_s == table[position[option.slow], position[option.fast]].min()
        ends = [option.finish_s for option in found.others]
        assert ends == sorted(ends)


@LAW
@given(INSTANCES, st.sampled_from(TIME_MODELS))
def test_no_alternative_beats_the_exact_plan(instance, time_model):
    profiles, cuts = instance
    for found in explanations(profiles, cuts, {"solver": "exact", "time_model": time_model}):
        options = (*found.others, *found.other_cuts)
        assert all(option.makespan_s >= found.plan.makespan_s for option in options)
        assert found.alone_makespan_s >= found.plan.makespan_s
        assert not {"faster", "taken"} & {option.reason for option in options}


@LAW
@given(INSTANCES, WAYS)
def test_the_reasons_agree_with_the_numbers(instance, way):
    profiles, cuts = instance
    solo_s = {profile.agent: profile.solo_s for profile in profiles}
    for found in explanations(profiles, cuts, way):
        makespan_s, helped = found.plan.makespan_s, {(pair.slow, pair.fast) for pair in found.plan.pairs}
        for option in (*found.others, *found.other_cuts):
            assert (option.reason == "faster") == (option.makespan_s < makespan_s)
            if option.reason == "slower":
                assert option.finish_s >= solo_s[option.slow]
            if option.reason in ("late", "needed"):
                assert option.makespan_s > makespan_s
            if option.reason in ("not-needed", "busy", "later", "more-traffic", "tie"):
                assert option.makespan_s == makespan_s
            if option.reason == "not-needed":
                assert solo_s[option.slow] <= makespan_s
            if option.reason in ("later", "more-traffic"):
                (taken,) = [pair for pair in found.plan.pairs if pair.slow == option.slow]
                assert option.finish_s >= taken.finish_s
                assert (option.finish_s > taken.finish_s) == (option.reason == "later")
            if option.reason in ("needed", "busy"):
                assert (option.needed_by, option.fast) in helped
            else:
                assert option.needed_by is None


def test_an_alternative_that_greedy_misses_is_called_faster():
    """Greedy gives the only helper of 1 to 0, which has another one; see the published pairing."""
    rest = range(4)
    profiles = [
        device(0, 1, 12, rest),
        device(1, 1, 10, [2]),
        device(2, 8, 1, rest),
        device(3, 6, 1, [0]),
    ]
    found = explain(profiles, HALF, 0, solver="greedy", time_model="overlap")
    assert [(option.slow, option.fast) for option in found.taken] == [(0, 2)]
    (other,) = [option for option in found.others if option.fast == 3]
    assert (other.reason, other.makespan_s, found.plan.makespan_s) == ("faster", 6.0, 10.0)
    assert explain(profiles, HALF, 0, time_model="overlap").plan.makespan_s == 6.0


def test_a_helper_that_another_agent_needs_is_named():
    """Both slow agents would end sooner with 2, but 1 is linked to nobody else."""
    profiles = [
        device(0, 1, 12, range(4)),
        device(1, 1, 10, [2]),
        device(2, 8, 1, range(4)),
        device(3, 6, 1, [0]),
    ]
    found = explain(profiles, HALF, 0, time_model="overlap")
    (other,) = [option for option in found.others if option.fast == 2]
    assert (other.reason, other.needed_by, other.makespan_s) == ("needed", 1, 10.0)
    assert found.impossible == (1,)


@pytest.mark.parametrize(
    ("cut", "bytes_per_s", "helper_speed", "latency_s", "bottleneck"),
    [
        (Cut(slow_share=0.9, fast_share=0.1, bytes_per_batch=1), 1e6, 9, 0, "slow side"),
        (Cut(slow_share=0.1, fast_share=0.9, bytes_per_batch=1), 2, 90, 0, "transfer"),
        (Cut(slow_share=0.1, fast_share=0.9, bytes_per_batch=1), 1e6, 2, 0, "helper"),
        (Cut(slow_share=0.1, fast_share=0.5, bytes_per_batch=1), 1e6, 90, 4, "waiting"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_bottleneck_is_the_stage_that_takes_longest(
    cut, bytes_per_s, helper_speed, latency_s, bottleneck
):
    link = Link(bytes_per_s=bytes_per_s, latency_s=latency_s)
    slow = Profile(agent=0, batches_per_s=1, num_batches=10, links={1: link})
    fast = Profile(agent=1, batches_per_s=helper_speed, num_batches=1, links={0: link})
    plan = pair_agents([slow, fast], (cut,))
    (option,) = describe_pairs(plan, [slow, fast], (cut,))
    assert option.bottleneck == bottleneck


def test_only_the_first_alternatives_are_looked_at_on_request():
    profiles = [device(agent, 1 + agent, 10, range(6)) for agent in range(6)]
    whole, first = (explain(profiles, HALF, 0, top=top) for top in (None, 2))
    assert first.others == whole.others[:2]
    assert first.num_left_out == len(whole.others) - 2 > 0
    assert whole.num_left_out == 0


@pytest.mark.parametrize("agent", [-1, 2, 99])
def test_an_unknown_agent_is_refused(agent):
    profiles = [device(0, 1, 10, [1]), device(1, 4, 10, [0])]
    with pytest.raises(InputError, match=f"agent = {agent}: is not in the fleet"):
        explain(profiles, HALF, agent)


@LAW
@given(INSTANCES, WAYS)
def test_the_same_fleet_twice_makes_no_difference(instance, way):
    profiles, cuts = instance
    found = what_if(profiles, profiles, cuts, **way)
    assert found.before == found.after == pair_agents(profiles, cuts, **way)
    assert found.appear == found.vanish == found.recut == ()


@LAW
@given(INSTANCES, INSTANCES, WAYS)
def test_the_difference_leads_from_one_plan_to_the_other(instance, other, way):
    cuts = instance[1]
    found = what_if(instance[0], other[0], cuts, **way)
    who = {(pair.slow, pair.fast): pair.cut for pair in found.before.pairs}
    for pair in found.vanish:
        del who[pair.slow, pair.fast]
    for old, new in found.recut:
        assert who[old.slow, old.fast] == old.cut != new.cut
        who[new.slow, new.fast] = new.cut
    for pair in found.appear:
        assert (pair.slow, pair.fast) not in who
        who[pair.slow, pair.fast] = pair.cut
    assert who == {(pair.slow, pair.fast): pair.cut for pair in found.after.pairs}


FLEET = """
[[cuts]]
slow_share = 0.5
fast_share = 0.5
bytes_per_batch = 1e3
[links]
bandwidth_mbps = 8
latency_ms = 3
""" + agent_tables(5, batches_per_s=(1, 4, 2, 8, 1), num_batches=10)
SPARSE = FLEET + "[[link]]\nbetween = [0, 1]\nbandwidth_mbps = 0\n"
LONELY = FLEET.replace("bandwidth_mbps = 8", "bandwidth_mbps = 0")


def fleet(text=FLEET):
    return parse_fleet(text, "fleet.toml")


def test_no_change_gives_the_same_fleet():
    assert change_fleet(fleet()) == fleet()


@pytest.mark.parametrize("without", [[0], [1, 3], [4, 4]])
def test_without_agents_is_the_plan_of_the_smaller_fleet(without):
    left = change_fleet(fleet(SPARSE), without=without)
    profiles = [profile for profile in fleet(SPARSE).profiles() if profile.agent not in without]
    cuts = fleet().cuts
    assert what_if(fleet().profiles(), left.profiles(), cuts).after == pair_agents(profiles, cuts)


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [("batches_per_s", 6.0, "batches_per_s"), ("num_batches", 2.5, "num_batches")],
)
def test_a_device_changes_alone(name, value, attribute):
    before, after = fleet(), change_fleet(fleet(), [3], {name: value})
    for old, new in zip(before.profiles(), after.profiles(), strict=True):
        assert new == (replace(old, **{attribute: value}) if old.agent == 3 else old)


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("bandwidth_mbps", Link(bytes_per_s=2.5e6, latency_s=0.003)),
        ("latency_ms", Link(bytes_per_s=1e6, latency_s=0.02)),
    ],
)
def test_a_link_speed_holds_for_all_links_of_an_agent_and_makes_none(name, link):
    before, after = fleet(SPARSE), change_fleet(fleet(SPARSE), [1], {name: 20})
    for i, j in ((1, 2), (3, 1), (4, 1)):
        assert after.link(i, j) == link
    assert after.link(0, 1) == before.link(0, 1)
    assert after.link(2, 3) == before.link(2, 3)


def test_bandwidth_0_takes_an_agents_links_away():
    after = change_fleet(fleet(), [3], {"bandwidth_mbps": 0})
    assert all(after.link(3, peer).bytes_per_s == 0 for peer in (0, 1, 2, 4))


def test_a_faster_link_never_makes_the_exact_plan_slower():
    rates = np.geomspace(0.001, 1000, 13)
    profiles = [change_fleet(fleet(), [0, 4], {"bandwidth_mbps": rate}).profiles() for rate in rates]
    spans = [pair_agents(some, fleet().cuts).makespan_s for some in profiles]
    assert spans == sorted(spans, reverse=True)
    assert spans[0] > spans[-1]


def test_what_is_planned_with_a_model_is_changed_in_its_units():
    text = FLEET.replace("[[cuts]]\nslow_share = 0.5\nfast_share = 0.5\nbytes_per_batch = 1e3\n", "")
    text = text.replace("num_batches", "num_samples").replace("batches_per_s", "flops_per_s")
    text = '[model]\nname = "resnet-56"\ninput = [1, 8, 8]\nbatch_size = 4\n' + text
    after = change_fleet(fleet(text), [2], {"flops_per_s": 5e8, "num_samples": 40})
    profile = after.profiles(batch_flops=1e8)[2]
    assert (profile.batches_per_s, profile.num_batches) == (5, 10)
    with pytest.raises(InputError, match=r"num_samples = 1.5: must be a whole number"):
        change_fleet(fleet(text), [2], {"num_samples": 1.5})
    with pytest.raises(
        InputError, match=r"batches_per_s = 3: is not used with \[model\]; change flops_per_s"
    ):
        change_fleet(fleet(text), [2], {"batches_per_s": 3})


@pytest.mark.parametrize(
    ("agents", "changes", "without", "message"),
    [
        ([9], {"num_batches": 2}, [], r"agent = 9: is not in fleet.toml"),
        ([], {}, [9], r"agent = 9: is not in fleet.toml"),
        ([0], {"num_batchs": 2}, [], r"num_batchs = 2: is not known here; did you mean num_batches\?"),
        ([0], {"colour": 2}, [], r"colour = 2: is not known here; known are .*batches_per_s"),
        ([0], {"id": 2}, [], r"id = 2: is not known here"),
        (
            [0],
            {"flops_per_s": 2},
            [],
            r"flops_per_s = 2: is not used with \[\[cuts\]\]; change batches_per_s",
        ),
        ([0], {"batches_per_s": 0}, [], r"batches_per_s = 0: must be a number > 0"),
        ([0], {"batches_per_s": float("nan")}, [], r"batches_per_s = nan: must be a number > 0"),
        ([0], {"num_batches": float("inf")}, [], r"num_batches = inf: must be a number > 0, at most 1e\+18"),
        ([0], {"bandwidth_mbps": -1}, [], r"bandwidth_mbps = -1: must be a number >= 0"),
        ([0], {"latency_ms": 1e19}, [], r"latency_ms = 1e\+19: must be a number >= 0, at most 1e\+18"),
        ([], {}, [0, 1, 2, 3, 4], r"without = \[0, 1, 2, 3, 4\]: must leave at least one agent"),
    ],
)
def test_a_change_that_cannot_be_is_one_line(agents, changes, without, message):
    with pytest.raises(InputError, match=message) as error:
        change_fleet(fleet(), agents, changes, without)
    assert "\n" not in str(error.value)


def test_the_links_of_an_agent_without_links_cannot_change():
    with pytest.raises(InputError, match=r"bandwidth_mbps = 5: agent 2 has no link"):
        change_fleet(fleet(LONELY), [2], {"bandwidth_mbps": 5})


def test_every_name_that_may_change_changes_a_device(monkeypatch):
    """Also those that a device may have one day: what FleetAgent lacks is not known."""
    assert set(changes_module.device_fields()) <= {*FleetAgent.__slots__}
    assert ("memory_bytes" in changes_module.device_fields()) == ("memory_bytes" in FleetAgent.__slots__)
    assert isinstance(fleet(), Fleet)
