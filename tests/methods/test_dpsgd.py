"""The laws of averaging among neighbours: D-PSGD, and ComDML with `averaging = "mixing"`."""

import dataclasses

import numpy as np
import pytest
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.split import load_floats, num_floats, split, write_floats
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases import mixing
from comdml_flwr.methods.phases.agreement import workload_of
from comdml_flwr.methods.phases.role import role_of
from comdml_flwr.planning.clock.mixing_simulation import simulate_mixing_round
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.fleet.topology import mixing_matrix, topology_of_links
from comdml_flwr.runs.assemble import optimizer_settings
from tests.fleets import agent_tables
from tests.methods.stepping import deliver, walk
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

QUICK = {"batch_size": 16, "local_epochs": 1, "num_rounds": 1}
MODEL_BYTES = 15304
MIXING = {"averaging": "mixing"}


def quick(method, **keys):
    return small_config(method=method, **{**QUICK, **keys})


def assert_equal_to_rounding(one, other):
    """Compare weights: within 1e-6 of the largest."""
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())


def test_linked_with_all_and_with_equal_counts_dpsgd_is_allreduce_to_rounding():
    """Then each row of the matrix is 1/K."""
    _, dpsgd = run_local(quick("dpsgd", num_rounds=2), small_fleet(4))
    _, allreduce = run_local(quick("allreduce", num_rounds=2), small_fleet(4))
    assert {agent.num_samples for agent in dpsgd} == {50}
    assert list(dpsgd[0].notes["mixes_with"].values()) == pytest.approx(4 * [1 / 4])
    for one, other in zip(dpsgd, allreduce, strict=True):
        assert_equal_to_rounding(one.weights_P.numpy(), other.weights_P.numpy())


def team_on(topology, num_agents, values):
    """Return agents whose trained models are these numbers, after they have met."""
    setup = small_setup(quick("dpsgd", topology=topology), small_fleet(num_agents))
    profiles = tuple(setup.profiles_at(1)[agent] for agent in setup.ids)
    team = [Agent(agent, setup, round=1) for agent in setup.ids]
    for agent, value in zip(team, values, strict=True):
        mixing.note_neighbours(agent, profiles)
        agent.tensors["own/body"] = torch.tensor([value, 1.0])
    return team


def mixed(team, lost=()):
    mail = deliver(mixing.spread, team)
    arrived = tuple(m for m in mail if (m.sender, m.receiver) not in lost)
    deliver(mixing.mix, team, arrived)
    return [agent.weights_P.tolist()[0] for agent in team]


def test_a_ring_mixes_with_its_two_neighbours_by_hand():
    team = team_on("ring", 5, (0.0, 3.0, 6.0, 9.0, 12.0))
    # each a third of itself and of both neighbours: agent 0 of 4, 0 and 1: (12 + 0 + 3) / 3
    assert mixed(team) == pytest.approx([5, 3, 6, 9, 7])
    assert all(agent.weights_P[1] == pytest.approx(1) for agent in team), "rows sum to 1"


def test_a_star_weighs_by_degree_by_hand():
    team = team_on("star", 4, (8.0, 0.0, 4.0, 16.0))
    # the hub has three links, so every link weighs 1/4; a leaf keeps 3/4 of its own
    assert mixed(team) == pytest.approx([7, 2, 5, 14])


@pytest.mark.parametrize("topology", ["ring", "star", "full", "exponential", "erdos-renyi"])
def test_rows_sum_to_one_and_the_mean_over_the_agents_stays(topology):
    values = (1.0, -4.0, 2.5, 8.0, 0.25)
    team = team_on(topology, 5, values)
    for agent in team:
        assert sum(agent.notes["mixes_with"].values()) == pytest.approx(1, abs=1e-12)
    after = mixed(team)
    assert after != pytest.approx(values)
    assert np.mean(after) == pytest.approx(np.mean(values), abs=1e-6)


def test_what_a_lost_neighbour_would_have_weighed_goes_to_the_own_model_by_hand():
    # agent 1 has 3, its neighbours 0 and 6: with all (3 + 0 + 6) / 3; without 2 two thirds of 3 and one of 0
    values = (0.0, 3.0, 6.0, 9.0, 12.0)
    for lost, expected in (((), 3), ({(2, 1)}, 2), ({(0, 1)}, 4), ({(0, 1), (2, 1)}, 3)):
        team = team_on("ring", 5, values)
        assert mixed(team, lost)[1] == pytest.approx(expected)
        assert team[1].weights_P[1] == pytest.approx(1), "the row still sums to 1"


def test_models_go_to_neighbours_only():
    _, mail = walk(small_setup(quick("dpsgd", topology="ring"), small_fleet(5)))
    routes = {(m.sender, m.receiver) for m in mail if m.kind == "neighbour" and m.sender != m.receiver}
    assert routes == {(a, (a + step) % 5) for a in range(5) for step in (1, 4)}


@pytest.mark.parametrize("keys", [{}, {"topology": "ring"}, {"topology": "star", "participation": 0.6}])
def test_the_forecast_of_a_round_of_mixing_is_what_a_run_shows(keys):
    config = quick("dpsgd", num_rounds=3, **keys)
    record, agents = run_local(config, small_fleet(5))
    setup = agents[0].setup
    for line in record.rounds:
        profiles = [setup.profiles_at(line.round)[agent] for agent in setup.present(line.round)]
        newcomers = setup.newcomers(line.round)
        workload = workload_of(setup, tuple(profiles))
        simulated = simulate_mixing_round(profiles, setup.relay, None, workload, newcomers)
        assert line.virtual_time_s == simulated.virtual_time_s
        assert line.bytes_sent == simulated.bytes_sent


def test_the_clock_of_two_agents_by_hand():
    links = f"[links]\nbandwidth_mbps = {MODEL_BYTES / 125_000}\nlatency_ms = 250\n"
    text = links + agent_tables(2, batches_per_s=(1, 0.25))
    config = small_config(method="dpsgd", batch_size=100, local_epochs=1, num_rounds=1)
    record, agents = run_local(config, parse_fleet(text, "by hand"))
    # they meet at 0.25; trained at 1.25 and 4.25; each model is 1 s on the link and 0.25 s late
    assert record.rounds[0].makespan_s == pytest.approx(4.25)
    assert [agent.clock.now_s for agent in agents] == pytest.approx([5.5, 4.25])
    assert record.rounds[0].bytes_sent == 2 * MODEL_BYTES


@pytest.mark.parametrize("keys", [{"method": "dpsgd"}, {"method": "gossip"}, {"method": "comdml", **MIXING}])
def test_links_that_do_not_connect_all_are_refused_before_training(keys):
    text = fleet_text(4, bandwidth_mbps=0) + "[[link]]\nbetween = [1, 3]\nbandwidth_mbps = 9\n"
    rule = r"^links = '1 links': do not connect all agents: no way from agent 0 to agent 1$"
    with pytest.raises(InputError, match=rule):
        small_setup(small_config(**keys), parse_fleet(text, "test fleet"))


def test_a_topology_of_links_that_the_fleet_lacks_is_refused_before_training():
    """On a ring of which the fleet lacks two links."""
    text = fleet_text(4) + "".join(
        f"[[link]]\nbetween = {pair}\nbandwidth_mbps = 0\n" for pair in ([0, 1], [2, 3])
    )
    fleet = parse_fleet(text, "test fleet")
    small_setup(quick("dpsgd"), fleet)
    with pytest.raises(InputError, match=r"^links = '2 links': do not connect all"):
        small_setup(quick("dpsgd", topology="ring"), fleet)


# ComDML with mixing


@pytest.mark.parametrize(
    ("fleet", "keys"),
    [
        (small_fleet(4, equal=True), {"topology": "ring", "num_rounds": 3}),
        (small_fleet(5, equal=True), {"optimizer": "sgd", "participation": 0.6, "num_rounds": 4}),
    ],
    ids=["ring", "some take part"],
)
def test_an_empty_plan_makes_comdml_with_mixing_equal_dpsgd_to_the_bit(fleet, keys):
    comdml, ours = run_local(quick("comdml", **MIXING, **keys), fleet)
    dpsgd, theirs = run_local(quick("dpsgd", **keys), fleet)
    assert all(line.plan["pairs"] == [] for line in comdml.rounds)
    assert [a.weights_sha256() for a in ours] == [a.weights_sha256() for a in theirs]
    assert comdml.weights_sha256 == dpsgd.weights_sha256
    assert [r.virtual_time_s for r in comdml.rounds] == [r.virtual_time_s for r in dpsgd.rounds]
    assert [r.bytes_sent for r in comdml.rounds] == [r.bytes_sent for r in dpsgd.rounds]


@pytest.mark.parametrize("num_chunks", [1, 3])
def test_the_first_round_of_mixing_with_all_equals_comdml_with_allreduce_to_rounding(num_chunks):
    """All begin with one model, and so does the fast side wherever it is trained."""
    mixing_run, ours = run_local(quick("comdml", num_chunks=num_chunks, **MIXING), small_fleet(4))
    allreduce_run, theirs = run_local(quick("comdml"), small_fleet(4))
    assert mixing_run.rounds[0].plan["pairs"] == allreduce_run.rounds[0].plan["pairs"] != []
    for one, other in zip(ours, theirs, strict=True):
        assert_equal_to_rounding(one.weights_P.numpy(), other.weights_P.numpy())


def test_a_helper_trains_the_fast_side_of_the_partners_own_model_to_the_bit():
    """Where models differ, as after a round on a ring: what comes back is what the partner would have had."""
    setup = small_setup(quick("comdml", topology="ring", **MIXING), small_fleet(5))
    begin = {agent: setup.initial_weights_P * (1 + 0.01 * agent) for agent in setup.ids}
    agents, mail = walk(setup, weights=begin)
    given_back = [letter for letter in mail if letter.kind == "trained fast side"]
    assert given_back
    for letter in given_back:
        partner = letter.receiver
        fast_side = split(setup.learners.model, role_of(agents[partner]).offload.cut)[1]
        load_floats(fast_side, begin[partner][-num_floats(fast_side) :])
        learner = Learner(fast_side, None, optimizer_settings(setup.config), setup.task)
        for sent in (m for m in mail if m.kind == "activations" and m.sender == partner):
            learner.train_batch(*(torch.from_numpy(sent.arrays[name]) for name in ("activations", "labels")))
        trained = write_floats(fast_side)
        assert np.array_equal(letter.arrays["weights"], trained.numpy())
        assert torch.equal(agents[partner].tensors["own/body"][-len(trained) :], trained)


def test_the_bytes_of_a_round_by_hand():
    record, agents = run_local(quick("comdml", **MIXING), small_fleet(4))
    (line,), setup = record.rounds, agents[0].setup
    # per pair: activations and labels, and the fast side to the helper and back
    # per agent: its model to each of three neighbours
    model = setup.learners.model
    expected = 4 * 3 * MODEL_BYTES
    for pair in line.plan["pairs"]:
        expected += pair["bytes"] + 2 * 4 * num_floats(split(model, pair["cut"])[1])
    assert line.plan["pairs"]
    assert line.bytes_sent == expected


def test_a_helper_that_refuses_leaves_the_slow_agent_with_its_old_model():
    setup = small_setup(quick("comdml", **MIXING), small_fleet(4))

    def lie(letter):
        if letter.kind != "activations":
            return letter
        return dataclasses.replace(letter, about={**letter.about, "digest": "of another plan"})

    agents, mail = walk(setup, lie)
    slow = [agent for agent in agents.values() if role_of(agent).offload]
    assert slow
    assert not any(letter.kind == "trained fast side" for letter in mail)
    for agent in slow:
        assert torch.equal(agent.tensors["own/body"], setup.initial_weights_P)
        helper = agents[role_of(agent).offload.fast]
        assert helper.note_ids("refused") == (agent.id,)
        assert not torch.equal(helper.tensors["own/body"], setup.initial_weights_P)


def test_an_auxiliary_head_stays_with_its_agent():
    setup = small_setup(quick("comdml", **MIXING), small_fleet(4))
    agents, mail = walk(setup)
    assert not any(letter.kind == "aux head" for letter in mail)
    heads = {a.id: [name for name in a.tensors if name.startswith("aux-head/")] for a in agents.values()}
    slow = {agent.id for agent in agents.values() if role_of(agent).offload}
    assert {agent for agent, names in heads.items() if names} == slow


@pytest.mark.parametrize("keys", [{}, {"topology": "ring"}])
def test_makespan_and_forecast(keys):
    """The plan foretells training without the fast side's way; without offload it is D-PSGD's round."""
    config = {"batch_size": 8, "num_rounds": 2, "local_epochs": 2, **keys}
    comdml, agents = run_local(quick("comdml", **{**config, **MIXING}), small_fleet(5))
    dpsgd, _ = run_local(quick("dpsgd", **config), small_fleet(5))
    one_batch_s = max(1 / profile.batches_per_s for profile in agents[0].setup.profiles_at(1).values())
    fast_side_s = MODEL_BYTES / 12.5e6  # at most a model, over 100 Mbps
    for ours, theirs in zip(comdml.rounds, dpsgd.rounds, strict=True):
        assert ours.plan["pairs"]
        assert abs(ours.makespan_s - ours.predicted_s) <= one_batch_s + fast_side_s
        assert ours.no_offload_virtual_time_s == theirs.virtual_time_s
        assert ours.no_offload_makespan_s == theirs.makespan_s
        assert ours.virtual_time_s < theirs.virtual_time_s


def test_helpers_are_neighbours():
    config = quick("comdml", topology="ring", **MIXING)
    record, agents = run_local(config, small_fleet(5))
    profiles = tuple(agents[0].setup.profiles_at(1).values())
    weights = mixing_matrix(topology_of_links(profiles))
    assert record.rounds[0].plan["pairs"]
    assert all(weights[pair["slow"], pair["fast"]] > 0 for pair in record.rounds[0].plan["pairs"])
