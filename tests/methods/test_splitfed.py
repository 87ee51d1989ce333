"""The laws of SplitFed: V1 learns what FedAvg learns; both versions on the clock."""

import numpy as np
import pytest

from comdml_flwr.agents.state import ENDED
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.app_data import own_data
from comdml_flwr.learning.task import Classification
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, SERVER
from comdml_flwr.runs.assemble import assemble
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.fleets import agent_tables
from tests.methods.stepping import walk
from tests.small import few_digits, four_stages, run_local, small_config, small_fleet, small_setup

QUICK = {"batch_size": 16, "local_epochs": 1, "num_rounds": 1}
SGD = {"optimizer": "sgd", "learning_rate": 0.05}
DIRICHLET = {"partition": "dirichlet", "alpha": 0.5}


def own_digits(place):
    """Give an agent 30 digits to train on, and as many to test on as its number; the third has none."""
    digits, first = few_digits(), place.partition_id * 40
    x, y = digits.x_train_NCHW, digits.y_train_N
    train, test = slice(first, first + 30), slice(first + 30, first + 30 + 5 * place.partition_id)
    return (x[train], y[train]), ((x[test], y[test]) if place.partition_id < 2 else None)


def shared_digits(place):
    return few_digits().x_test_NCHW, few_digits().y_test_N


@pytest.mark.parametrize("shared_test", [None, shared_digits])
def test_the_server_judges_the_model_on_what_each_agent_tests_on(shared_test, tmp_path):
    """As FedAvg's agents do, all together."""
    data = own_data(own_digits, Classification(num_classes=10), shared_test)
    catalogue = Catalogue(own_model=four_stages, own_data=data)
    config = {**small_config(cut=2, num_rounds=1, **SGD).with_defaults_named(), "results-dir": str(tmp_path)}
    fedavg, splitfed = (
        run_locally({**config, "method": method}, num_agents=3, catalogue=catalogue).last.scores
        for method in ("fedavg", "splitfed")
    )
    assert splitfed == pytest.approx(fedavg, rel=1e-5)


def test_test_samples_that_several_agents_share_are_judged_once():
    data = own_data(own_digits, Classification(num_classes=10), shared_digits)
    catalogue = Catalogue(own_model=four_stages, own_data=data)
    setup = assemble(small_config(), small_fleet(3), 3, catalogue)
    assert [len(test) for test in setup.tests()] == [50, 0, 5]
    assert [len(test) for test in small_setup(small_config(), small_fleet(3)).tests()] == [50]


def whole_weights(method, num_agents=4, **keys):
    """Return the weights of the whole model that a run ends with, and who took part."""
    _, agents = run_local(small_config(method=method, **{**QUICK, **keys}), small_fleet(num_agents))
    return agents[0].weights_P.numpy(), agents


@pytest.mark.parametrize(
    ("cut", "keys"),
    [
        (1, {**SGD}),
        (2, {"optimizer": "adam", **DIRICHLET, "num_rounds": 2}),
        (3, {**SGD, **DIRICHLET, "local_epochs": 2}),
        (2, {**SGD, "participation": 0.5, "num_rounds": 3}),
        (6, {"model": "resnet-20", "batch_size": 50, "num_agents": 2, **SGD}),
    ],
    ids=["sgd", "adam, dirichlet", "sgd, dirichlet", "some take part", "resnet-20"],
)
def test_v1_ends_with_the_weights_of_fedavg_to_rounding(cut, keys):
    """Two halves with a gradient between them take the steps of the whole; only the order of sums may differ.

    Rounding: 1e-6 of the largest weight.
    """
    split, agents = whole_weights("splitfed", cut=cut, **keys)
    whole, _ = whole_weights("fedavg", **keys)
    if "partition" in keys:
        assert len({len(agent.batches()) for agent in agents if not agent.is_server}) > 1
    assert not np.allclose(whole, agents[0].setup.initial_weights_P.numpy(), atol=1e-4)
    np.testing.assert_allclose(split, whole, rtol=0, atol=1e-6 * np.abs(whole).max())


def test_v2_has_one_server_side_that_learns_from_all_and_differs_from_v1():
    (v1, _), (v2, _) = (whole_weights("splitfed", cut=2, splitfed_version=version) for version in (1, 2))
    assert np.abs(v1 - v2).max() > 1e-3


def test_the_order_in_v2_is_drawn_for_each_batch_from_the_seed():
    orders = [served_order(seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    rounds_of_batches = [tuple(orders[0][start : start + 4]) for start in range(0, 16, 4)]
    assert all(sorted(batch) == [0, 1, 2, 3] for batch in rounds_of_batches)
    assert len(set(rounds_of_batches)) > 1


def served_order(seed):
    config = small_config(method="splitfed", cut=1, splitfed_version=2, seed=seed, **QUICK)
    _, mail = walk(small_setup(config, small_fleet(4)))
    return [letter.receiver for letter in mail if letter.kind == "gradient"]


def test_a_client_has_only_the_client_side_of_what_is_averaged():
    whole, agents = whole_weights("splitfed", cut=2)
    lower = 104 + 1232  # floats of the first two of four stages
    for agent in agents[1:]:
        own = agent.weights_P.numpy()
        assert np.array_equal(own[:lower], whole[:lower])
        assert np.array_equal(own[lower:], agent.setup.initial_weights_P.numpy()[lower:])


def test_the_server_evaluates_the_whole_model_on_the_whole_test_set():
    record, agents = run_local(small_config(method="splitfed", cut=2, **QUICK), small_fleet(4))
    assert [agent.report["num_evaluated"] for agent in agents] == [50, 0, 0, 0, 0]
    fedavg, _ = run_local(small_config(method="fedavg", **QUICK), small_fleet(4))
    assert record.rounds[0].loss == pytest.approx(fedavg.rounds[0].loss, rel=1e-5)


# By hand. Cut 2 of the four stages: 16 x 4 x 4 activations of 4 bytes, one label of 8 bytes a sample.
ACTIVATION_BYTES, LABEL_BYTES = 16 * 4 * 4 * 4, 8
CLIENT_SIDE_BYTES = 4 * (104 + 1232)


def fleet_by_hand(num_agents):
    """Agents of one batch a second, a server of four, 51200 bytes/s and 0.5 s between them."""
    agents = agent_tables(num_agents, batches_per_s=1)
    server = (
        f"[server]\nbatches_per_s = 4\nbandwidth_mbps = {51200 / BYTES_PER_S_PER_MBPS}\nlatency_ms = 500\n"
    )
    return parse_fleet(server + agents, "by hand")


def run_by_hand(num_agents, **keys):
    config = small_config(
        method="splitfed", cut=2, batch_size=200 // num_agents, local_epochs=1, num_rounds=1, **keys
    )
    record, agents = run_local(config, fleet_by_hand(num_agents))
    cut = agents[0].setup.cuts[2]
    return record.rounds[0], agents, cut.slow_share, cut.fast_share


@pytest.mark.parametrize("version", [1, 2])
def test_the_clock_of_one_agent_and_one_batch_by_hand(version):
    line, (server, agent), slow, fast = run_by_hand(1, splitfed_version=version)
    # forward      a third of the slow side's work
    # up           200 samples of 1024 + 8 bytes: 206400 bytes in 4.03125 s, and 0.5 s
    # server       the fast side at four batches a second
    # down         the gradient, 204800 bytes: 4 s, and 0.5 s
    # backward     two thirds
    # up and down  the client side, 5344 bytes: 0.104375 s, and 0.5 s each way
    served_s = slow / 3 + 4.03125 + 0.5 + fast / 4
    trained_s = served_s + 4 + 0.5 + slow * 2 / 3
    assert line.makespan_s == pytest.approx(trained_s)
    assert server.notes["training_end_s"] == pytest.approx(served_s)
    assert line.virtual_time_s == pytest.approx(trained_s + 2 * (0.104375 + 0.5))
    assert agent.clock.now_s == pytest.approx(line.virtual_time_s)
    assert agent.bytes_sent == 206400 + 5344
    assert server.bytes_sent == 204800 + 5344


def test_v1_serves_the_agents_side_by_side_by_hand():
    line, agents, slow, fast = run_by_hand(4)
    # 50 samples: 51600 bytes in 1.0078125 s up, 51200 bytes in 1 s down, for all at once
    trained_s = slow / 3 + 1.0078125 + 0.5 + fast / 4 + 1 + 0.5 + slow * 2 / 3
    assert [agent.notes["training_end_s"] for agent in agents[1:]] == pytest.approx(4 * [trained_s])
    assert line.virtual_time_s == pytest.approx(trained_s + 2 * (0.104375 + 0.5))


def test_v2_serves_the_agents_one_after_the_other_by_hand():
    line, agents, slow, fast = run_by_hand(4, splitfed_version=2)
    # as above, but the gradients leave after one, two, three and four batches of the fast side
    arrives_s = slow / 3 + 1.0078125 + 0.5
    trained_s = [arrives_s + place * fast / 4 + 1 + 0.5 + slow * 2 / 3 for place in (1, 2, 3, 4)]
    assert sorted(agent.notes["training_end_s"] for agent in agents[1:]) == pytest.approx(trained_s)
    assert line.virtual_time_s == pytest.approx(trained_s[-1] + 2 * (0.104375 + 0.5))


@pytest.mark.parametrize("version", [1, 2])
def test_the_bytes_of_a_round_by_hand(version):
    config = small_config(method="splitfed", cut=2, splitfed_version=version, **QUICK | {"local_epochs": 2})
    record, (server, *agents) = run_local(config, small_fleet(4))
    samples = 2 * 200  # two local epochs
    up = samples * (ACTIVATION_BYTES + LABEL_BYTES) + 4 * CLIENT_SIDE_BYTES
    down = samples * ACTIVATION_BYTES + 4 * CLIENT_SIDE_BYTES
    assert sum(agent.bytes_sent for agent in agents) == up
    assert server.bytes_sent == down
    assert record.rounds[0].bytes_sent == up + down


def test_an_agent_with_fewer_batches_is_done_earlier_and_waits_for_the_average():
    config = small_config(method="splitfed", cut=2, **QUICK, **DIRICHLET)
    agents, mail = walk(small_setup(config, small_fleet(4, equal=True)))
    by_batches = sorted((a for a in agents.values() if a.id != SERVER), key=lambda a: len(a.batches()))
    few, many = by_batches[0], by_batches[-1]
    assert len(few.batches()) < len(many.batches())
    assert few.notes["training_end_s"] < many.notes["training_end_s"]
    sent = {agent: sum(m.kind == "activations" and m.sender == agent for m in mail) for agent in agents}
    assert all(sent[agent.id] == len(agent.batches()) for agent in by_batches)


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_of_the_servers_training_outlives_the_round(version):
    config = small_config(method="splitfed", cut=2, splitfed_version=version, **QUICK)
    server = run_local(config, small_fleet(4))[1][0]
    assert set(server.tensors) == {"weights", ENDED.name}, "the model, and the one this round ended with"


def test_a_cut_that_the_model_has_not_is_refused_in_one_line():
    config = small_config(method="splitfed", cut=4)
    with pytest.raises(InputError, match=r"^cut = 4: must be at most 3, the cuts of four-stages$"):
        small_setup(config, small_fleet(2))


def test_other_methods_do_not_mind_the_cut():
    small_setup(small_config(method="fedavg", cut=99), small_fleet(2))
