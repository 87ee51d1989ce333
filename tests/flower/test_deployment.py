"""Real SuperNodes on loopback: SuperLink with TLS and SuperNode authentication, peers with mutual TLS."""

import pytest

from comdml_flwr.local_run import run_locally
from tests.flower.deployment import Federation, summary_of
from tests.flower.loop_grid import quiet_terminal

NUM_NODES = 4
ROUNDS = 2


@pytest.mark.slow
def test_supernodes_give_the_weights_of_the_local_carrier(tmp_path):
    values = {"num-rounds": ROUNDS, "local-epochs": 1, "participation": 0.8}
    here = run_locally(
        {**values, "results-dir": str(tmp_path / "local")},
        num_agents=NUM_NODES,
        terminal=quiet_terminal(ROUNDS),
    )
    run_config = " ".join(f"{key}={value}" for key, value in values.items())
    with Federation(tmp_path / "federation", NUM_NODES) as federation:
        for carrier in ("direct", "grid"):
            run, log = federation.run(f'{run_config} carrier="{carrier}"')
            summary = summary_of(run)
            assert summary["weights_sha256"] == here.weights_sha256, log
            assert summary["num_agents"] == NUM_NODES
            assert summary["carrier"] == carrier
