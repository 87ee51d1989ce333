"""What nodes find before training and is no fault reaches the one who started the run, once."""

from dataclasses import replace

from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.small import CATALOGUE, few_digits, fleet_text, small_config

NUM_AGENTS = 4


def test_a_warning_of_all_nodes_is_one_line(tmp_path):
    data = few_digits()
    few = replace(data, x_test_NCHW=data.x_test_NCHW[:3], y_test_N=data.y_test_N[:3])
    config = small_config(dataset="three-tests", method="allreduce", num_rounds=1, local_epochs=1)
    config = grid_config(config, tmp_path)
    app = peer_client_app(models=CATALOGUE.models, datasets={"three-tests": lambda config: few})
    terminal = quiet_terminal(1)
    with terminal.console.capture() as printed:
        grid = LoopGrid(app, NUM_AGENTS, config.with_defaults_named())
        run_serverless(grid, config, fleet_text(NUM_AGENTS), terminal)
    line = "warning: data set three-tests: 3 test samples for 4 agents: some evaluate nothing\n"
    assert printed.get().count(line) == 1
