"""What a round's training took refines the profile of the next round, and nothing else of the run."""

from itertools import count

import pytest

from comdml_flwr.agents import agent as agent_module
from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.core.messages import Mailboxes
from comdml_flwr.core.program import Step
from comdml_flwr.core.wire import decode, encode
from comdml_flwr.methods.phases.role import role_of
from comdml_flwr.planning.measured import Measured, SpeedEstimate
from comdml_flwr.planning.types import Link
from comdml_flwr.runs.assemble import program_of
from tests.small import small_config, small_fleet, small_setup


def over_the_wire(agent):
    """Another process's agent, with what this one saved."""
    other = Agent(agent.id, agent.setup)
    other.load_state_dict(*decode(bytearray(encode(*agent.state_dict()))))
    return other


def rounds(agents, num_rounds, first=1):
    """Run whole rounds phase by phase, each phase in another process."""
    setup = next(iter(agents.values())).setup
    program, mail = program_of(setup), Mailboxes()
    for round_ in range(first, first + num_rounds):
        for phase in range(len(program.phases)):
            sent = []
            for one in agents:
                outbox, _ = run_steps(agents[one], program, (Step(round_, phase),), mail.take(one))
                sent += outbox
                agents[one] = over_the_wire(agents[one])
            mail.put(sent)
    return agents


def new_agents(batch_s=None, num_agents=2, **keys):
    setup = small_setup(small_config(**keys), small_fleet(num_agents))
    agents = {agent: Agent(agent, setup) for agent in setup.ids}
    for agent, seconds in (batch_s or {}).items():
        agents[agent].measured = Measured(speed=SpeedEstimate(batch_s=seconds), memory_bytes=1e12)
    return agents


@pytest.fixture
def stopwatch(monkeypatch):
    """Every look at the stopwatch is a second after the last."""
    ticks = count()
    monkeypatch.setattr(agent_module.time, "perf_counter", lambda: next(ticks))


@pytest.mark.usefixtures("stopwatch")
def test_the_time_of_a_rounds_own_batches_moves_the_next_rounds_profile_half_way():
    (agent,) = rounds(new_agents({0: 3.0}, num_agents=1, method="allreduce"), 1).values()
    assert agent.profile.batches_per_s == 1 / 3  # the round is not over for the others
    num_batches = sum(map(len, agent.batches())) / agent.setup.config.batch_size
    agent.begin_round(2)
    assert agent.measured.speed.batch_s == pytest.approx((3.0 + 1 / num_batches) / 2)
    assert agent.profile.batches_per_s == agent.measured.speed.batches_per_s
    agent.begin_round(3)
    assert agent.measured.speed.batch_s == pytest.approx((3.0 + 1 / num_batches) / 2)  # nothing was trained


@pytest.mark.usefixtures("stopwatch")
def test_a_slow_sides_batches_count_by_their_share_of_the_whole():
    agents = rounds(new_agents({0: 0.5, 1: 8.0}), 1)
    slow = agents[1]
    share = slow.setup.cuts[role_of(slow).offload.cut].slow_share
    total = sum(map(len, slow.batches())) / slow.setup.config.batch_size
    whole_s = len(slow.batches()) / (share * total)  # each took a second
    slow.begin_round(2)
    assert slow.measured.speed.batch_s == pytest.approx((8.0 + whole_s) / 2)


def test_agents_that_measured_agree_on_one_plan_and_end_with_one_model():
    agents = rounds(new_agents({0: 0.001, 1: 0.05, 2: 0.002, 3: 0.1}, num_agents=4), 3)
    assert len({agent.weights_sha256() for agent in agents.values()}) == 1
    assert len({role_of(agent).digest for agent in agents.values()}) == 1
    assert all("refused" not in agent.notes for agent in agents.values())


def test_with_the_fleets_profiles_nothing_is_observed():
    agents = rounds(new_agents(), 2)
    assert all(agent.measured is None for agent in agents.values())
    assert not any(note.startswith("observed") for agent in agents.values() for note in agent.notes)


def test_what_was_measured_outlives_the_process():
    agent = new_agents()[0]
    agent.measured = Measured(
        speed=SpeedEstimate(batch_s=0.3), memory_bytes=5e9, links={1: Link(bytes_per_s=1e5, latency_s=0.02)}
    )
    restarted = over_the_wire(agent)
    assert restarted.measured == agent.measured
    assert restarted.profile == agent.profile != new_agents()[0].profile
