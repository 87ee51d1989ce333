"""Which test samples each agent judges: all its own, or a share of those that all have alike."""

from dataclasses import replace

import pytest

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.program import Absence
from comdml_flwr.learning.data.source import AgentData
from comdml_flwr.methods.phases.evaluation import share_of_test_set
from tests.methods.stepping import samples
from tests.small import small_config, small_fleet, small_setup

NUM_SHARED = 11


@pytest.mark.parametrize("own", [{}, {1: 4}, {0: 3, 2: 0}, {0: 1, 1: 2, 2: 3}])
@pytest.mark.parametrize("gone", [(), (1,), (0, 2)])
def test_each_sample_is_judged_once_whoever_has_some_of_its_own(own, gone):
    def load(place):
        number = own.get(place.partition_id, NUM_SHARED)
        shares = place.partition_id not in own
        return AgentData(train=samples(1), test=samples(number), all_have_test=shares)

    setup = replace(small_setup(small_config(), small_fleet(3)), load_data=load, num_own_tests=own, loaded={})
    members = [agent for agent in setup.ids if agent not in gone]
    shared = []
    for agent in (Agent(member, setup) for member in members):
        agent.absence = Absence(frozenset(gone))
        start, stop = share_of_test_set(agent)
        if agent.id in own:
            assert (start, stop) == (0, own[agent.id])
        else:
            shared += range(start, stop)
    assert sorted(shared) == ([*range(NUM_SHARED)] if {*members} - own.keys() else [])
