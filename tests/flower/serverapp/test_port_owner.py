"""Two runs peer to peer on the same nodes: the second is refused, in a line that names the first."""

import time
from functools import partial

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.serverapp import port_owner
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from tests.carriers.direct_runs import free_addresses
from tests.flower.loop_grid import quiet_terminal
from tests.flower.serverapp.test_serverless_run import real_app
from tests.flower.test_direct import NUM_AGENTS, SideBySideGrid
from tests.small import fleet_text, small_config


def a_run(folder, addresses):
    """Return a grid for a run on these nodes, and what runs on it."""
    config = small_config(num_rounds=1).model_copy(update={"carrier": "direct", "results_dir": str(folder)})
    grid = SideBySideGrid(real_app(), NUM_AGENTS, config.with_defaults_named())
    grid.tell_addresses(addresses)
    return partial(run_serverless, grid, config, fleet_text(NUM_AGENTS), quiet_terminal(1)), grid


def run_id_of(grid):
    return next(iter(grid._contexts.values())).run_id


def claim_one(grid, place):
    """Let a run have greeted one of the nodes."""
    port_owner.claim_address(list(grid._contexts.values())[place])


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    addresses = free_addresses(NUM_AGENTS)
    _, first = a_run(tmp_path, addresses)
    claim_one(first, 1)
    run, _ = a_run(tmp_path, addresses)
    with pytest.raises(RunError) as caught:
        run()
    assert str(caught.value).startswith(f"{addresses[1]} is in use by run {run_id_of(first)} (seen ")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    port_owner.release_address(list(first._contexts.values())[1])
    run, _ = a_run(tmp_path, addresses)
    run()
    assert len(list(tmp_path.glob("*/summary.json"))) == 1


def test_a_run_that_was_refused_or_has_ended_has_no_address(tmp_path):
    addresses = free_addresses(NUM_AGENTS)
    _, first = a_run(tmp_path, addresses)
    claim_one(first, 3)
    run, _ = a_run(tmp_path, addresses)
    with pytest.raises(RunError, match="is in use by run"):
        run()
    for context in list(first._contexts.values()):
        port_owner.claim_address(context)
        port_owner.release_address(context)


def test_a_run_that_goes_on_takes_the_address_of_the_one_that_was_killed(tmp_path):
    addresses = free_addresses(NUM_AGENTS)
    (_, killed), (_, resumed) = a_run(tmp_path, addresses), a_run(tmp_path, addresses)
    claim_one(killed, 0)
    context = next(iter(resumed._contexts.values()))
    with pytest.raises(RunError, match="in use by run"):
        port_owner.claim_address(context)
    port_owner.claim_address(context, is_resumed=True)
    port_owner.claim_address(context)
    port_owner.release_address(context)


def test_a_node_without_an_address_has_none_to_give_back(tmp_path):
    addresses = free_addresses(NUM_AGENTS)
    _, grid = a_run(tmp_path, addresses)
    context = next(iter(grid._contexts.values()))
    port_owner.claim_address(context)
    del context.node_config["p2p-address"]
    port_owner.release_address(context)


def test_an_address_is_free_when_nothing_was_done_for_its_run(tmp_path, monkeypatch):
    addresses = free_addresses(NUM_AGENTS)
    _, first = a_run(tmp_path, addresses)
    claim_one(first, 0)
    monkeypatch.setattr(port_owner, "LEASE_S", 0.0)
    time.sleep(0.01)
    run, _ = a_run(tmp_path, addresses)
    run()
    assert len(list(tmp_path.glob("*/summary.json"))) == 1


def test_nodes_without_an_address_have_none_to_give_back(tmp_path):
    """Though a run peer to peer has been on this machine before."""
    config = small_config(num_rounds=1).model_copy(update={"results_dir": str(tmp_path), "carrier": "grid"})
    grid = SideBySideGrid(real_app(), NUM_AGENTS, config.with_defaults_named())
    claim_one(a_run(tmp_path, free_addresses(NUM_AGENTS))[1], 0)
    run_serverless(grid, config, fleet_text(NUM_AGENTS), quiet_terminal(1))
    assert len(list(tmp_path.glob("*/summary.json"))) == 1
