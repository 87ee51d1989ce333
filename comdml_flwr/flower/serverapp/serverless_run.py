"""A whole run of a serverless method under Flower, as the ServerApp drives it.

In a serverless method the agents hold the weights, make the plan and average among themselves. What is left
for the ServerApp: wait until all nodes are there, start each phase, hand on the agents' sealed mail, and add
up what they report.
"""

import secrets
from contextlib import closing

from flwr.serverapp import Grid

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.flower.clientapp.checkpoints import RESTORED
from comdml_flwr.flower.serverapp.checkpoints import NodeCheckpoints
from comdml_flwr.flower.serverapp.choices import choose
from comdml_flwr.flower.serverapp.direct_run import DirectRun
from comdml_flwr.flower.serverapp.grid_carrier import GridCarrier
from comdml_flwr.flower.serverapp.models import NodeModels
from comdml_flwr.flower.serverapp.node_metrics import metrics_of
from comdml_flwr.flower.serverapp.nodes import greet
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.catalogue import SERVERLESS
from comdml_flwr.runs.checkpoints import Checkpoints
from comdml_flwr.runs.loop import last, run_rounds
from comdml_flwr.runs.records import RunRecord
from comdml_flwr.runs.results import recorded
from comdml_flwr.runs.resuming import Resumed
from comdml_flwr.runs.terminal import Terminal, mostly_gone_in

TIMEOUT_S = 3600.0
"""How long to wait until all nodes are there; Flower's own strategies wait as long for a round."""


def run_serverless(
    grid: Grid,
    config: RunConfig,
    fleet_text: str,
    terminal: Terminal,
    *,
    resumed: Resumed | None = None,
    timeout_s: float = TIMEOUT_S,
    reverse_replies: bool = False,
) -> RunRecord:
    """Run all rounds, or those that are left, and write the result files.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    config : RunConfig
        The run.
    fleet_text : str
        The fleet file's text, handed to nodes that do not see the ServerApp's files.
    terminal : Terminal
        Where progress is printed.
    resumed : Resumed, optional
        The run that goes on; `config` is its configuration, and `fleet_text` its fleet.
    timeout_s : float
        How long to wait for all nodes to be there.
    reverse_replies : bool
        Take replies in reversed order, which must not matter.

    Raises
    ------
    InputError, RunError
        What is wrong, in one line; also after the last round, where most agents were gone.
    """
    begun = resumed.record if resumed else RunRecord()
    text, is_resumed = to_json(config.with_defaults_named()), resumed is not None
    with greet(grid, fleet_text, terminal, timeout_s, text, is_resumed=is_resumed) as greeted:
        config, federation = choose(greeted, config.model_copy(update=greeted.names))
        terminal.say(f"{config.method}: {config.model} on {config.dataset}, {config.num_rounds} rounds")
        metrics = metrics_of(federation)
        program = SERVERLESS[config.method](config, len(federation.ids))
        # 1. Who runs the phases: Flower, mail and all, or the agents, many rounds at a time.
        carrier: GridCarrier | DirectRun
        if config.carrier == "direct":
            carrier = DirectRun(federation, config, program, metrics)
        else:
            federation.check_relay()
            federation.tell_of_unsigned_keys()
            carrier = GridCarrier(federation, program, reverse_replies=reverse_replies)
        with closing(carrier):
            # 2. What the nodes write besides: models and checkpoints.
            agree = program.models_agree
            models = NodeModels(federation, carrier.settle, models_agree=agree, rounds=begun.rounds)
            carrier.tell(models.facts)
            token = resumed.checkpoint.token if resumed else secrets.token_hex(16)
            nodes = NodeCheckpoints(federation, token, carrier.settle, models)
            checkpoints = None
            if resumed or config.checkpoint_every:
                checkpoints = Checkpoints(
                    config=config,
                    fleet_text=fleet_text,
                    ids=federation.ids,
                    keep=nodes.keep,
                    at_nodes=not federation.shares_folder,
                    token=token,
                )
            if resumed:
                resumed.check_agents(federation.ids)
                models.write_into(resumed.folder, config)
                nodes.restore(resumed.checkpoint_folder, resumed.checkpoint)
                carrier.restored(RESTORED, resumed.checkpoint.files)
            # 3. The rounds.
            if isinstance(carrier, DirectRun):
                rounds = carrier.rounds(begun)
            else:
                availability = parse_fleet(fleet_text, "fleet").availability
                rounds = run_rounds(
                    carrier,
                    program,
                    federation.ids,
                    config,
                    terminal,
                    availability,
                    begun=begun,
                    metrics=metrics,
                    tests=federation.tests,
                )
            num_agents = len(federation.ids)
            record = last(recorded(rounds, config, num_agents, terminal, checkpoints, resumed, models))
            if checkpoints:
                nodes.forget()
    if record.lost_most:  # all files are written; let nobody take it for a success
        raise RunError(f"{mostly_gone_in(record.mostly_gone)}; summary.json says what was trained")
    return record
