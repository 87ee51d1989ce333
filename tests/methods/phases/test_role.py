"""A role says what a plan says of one agent, and outlives a message as it is."""

import json

import pytest

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.program import Absence
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.methods.phases.role import (
    Progress,
    Role,
    progress_of,
    role_in,
    role_of,
    set_progress,
    set_role,
)
from comdml_flwr.planning.types import Pair, Plan
from tests.small import small_config, small_fleet, small_setup

PAIRS = tuple(
    Pair(slow=slow, fast=fast, cut=cut, finish_s=2.5, traffic_bytes=1e6)
    for slow, fast, cut in ((1, 0, 2), (4, 3, 2), (5, 3, 1))  # agent 3 helps two
)
PLAN = Plan(
    solver="shared",
    time_model="pipeline",
    pairs=PAIRS,
    solo=(2,),
    makespan_s=2.5,
    solo_makespan_s=9.0,
    lower_bound_s=1.0,
)


def test_the_roles_of_a_plan_by_hand():
    roles = [role_in(PLAN, agent, "digest") for agent in range(6)]
    assert [role.offload for role in roles] == [None, PAIRS[0], None, None, PAIRS[1], PAIRS[2]]
    assert [dict(role.partners) for role in roles] == [
        {1: PAIRS[0]},
        {},
        {},
        {4: PAIRS[1], 5: PAIRS[2]},
        {},
        {},
    ]
    assert [role.same_cut for role in roles] == [(), (1, 4), (), (), (1, 4), (5,)]
    assert roles[2] == Role(digest="digest")


@pytest.mark.parametrize("agent", range(6))
def test_a_role_comes_back_from_json_as_it_was(agent):
    role = role_in(PLAN, agent, "digest")
    assert Role.unpack(json.loads(to_json(role.pack()))) == role


def an_agent():
    return Agent(3, small_setup(small_config(), small_fleet(6)))


def test_an_agents_role_and_progress_last_until_the_next_round():
    agent, role = an_agent(), role_in(PLAN, 3, "digest")
    agent.begin_round(1)
    set_role(agent, role)
    set_progress(agent, 4, Progress(num_samples=7, batches_left=0))
    again = an_agent()
    again.load_state_dict(*agent.state_dict())
    assert role_of(again) == role
    assert progress_of(again, 4) == Progress(num_samples=7, batches_left=0)
    assert progress_of(again, 5) is None
    again.begin_round(2)
    assert progress_of(again, 4) is None


def test_a_slow_agent_loses_its_helper_and_nobody_else():
    agent, role = an_agent(), role_in(PLAN, 4, "digest")
    lost = []
    for gone in range(6):
        agent.absence = Absence(frozenset([gone]))
        lost.append(role.has_lost_helper(agent))
    assert lost == [False, False, False, True, False, False]
    assert not role_in(PLAN, 3, "digest").has_lost_helper(agent)
