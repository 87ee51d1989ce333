"""Whether an app of the user's own can be trained here: its code, its data, its model, and what that takes.

A run of it is put together as a node does: `load_data` is called, and the model is built, cut and counted.
Then a few batches are trained, and one is evaluated, in modules that nothing else sees.
"""

from collections.abc import Iterator, Mapping, Sequence

from comdml_flwr.agents.measuring.compute import seconds_per_batch
from comdml_flwr.agents.setup import Setup
from comdml_flwr.cli.doctor.findings import Finding, State
from comdml_flwr.cli.doctor.memory import Taken, compare_memory
from comdml_flwr.core.app_folder import AppFolder
from comdml_flwr.core.config import RunConfig, find_fleet
from comdml_flwr.core.errors import ComdmlError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.units import human_s
from comdml_flwr.core.user_code import naming_user_code
from comdml_flwr.learning.data.source import Place, Scalar
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.runs.assemble import agent_ids, assemble
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.own_app import import_app

TRAINING, DATA, MODEL = "training", "data", "model"
MOST_AGENTS = 10  # whose data are loaded where this machine is no certain node


def check_own_training(
    app: AppFolder, config: RunConfig, device: Device, node_config: Mapping[str, Scalar] | None
) -> Iterator[Finding]:
    """Put a run of the app together: for the node with this configuration, or else for all nodes."""
    try:
        setup = _set_up(import_app(app).catalogue, config, node_config)
        batch_s = _train(setup)
    except ComdmlError as error:
        mend = "correct the app; COMDML_TRACEBACK=1 shows the whole traceback of an error in its code"
        yield Finding(TRAINING, "wrong", str(error), mend)
        return
    yield _data(setup)
    yield _model(setup, batch_s)
    if len(setup.cuts):
        taken = Taken(
            model=setup.config.model,
            data=setup.config.dataset,
            data_bytes=None,
            cuts=setup.cuts,
            batch_size=config.batch_size,
        )
        yield compare_memory(taken, None, device)


def _set_up(catalogue: Catalogue, config: RunConfig, node_config: Mapping[str, Scalar] | None) -> Setup:
    fleet = load_fleet(find_fleet(config.fleet))
    if node_config is None:
        return assemble(config, fleet, min(MOST_AGENTS, len(fleet.agents)), catalogue)
    number, num = int(node_config["partition-id"]), int(node_config["num-partitions"])
    place = Place(
        partition_id=number,
        num_partitions=num,
        node_config=node_config,
        run_config=config.with_defaults_named(),
    )
    return assemble(config, fleet, num, catalogue, {agent_ids(fleet, num)[number]: place})


@naming_user_code()
def _train(setup: Setup) -> float:
    """Train and evaluate on the first samples; return how long a batch takes, in seconds, measured."""
    agent = min(setup.num_samples)
    batch_s = seconds_per_batch(setup, agent)
    data = setup.data(agent)
    samples = data.test if len(data.test) else data.train
    with global_generator(0, setup.device.generators):  # layers of one's own model may draw
        learner = setup.learners.whole_apart().begin(setup.initial_weights_P)
        learner.evaluate([samples.part(0, min(len(samples), setup.config.batch_size))])
    return batch_s


def _data(setup: Setup) -> Finding:
    data = [setup.data(agent) for agent in sorted(setup.num_samples)]
    num_samples, num_test = [len(own.train) for own in data], [len(own.test) for own in data]
    agents = "agent has" if len(data) == 1 else "agents have"
    says = f"{setup.config.dataset}: {len(data)} {agents} {_range(num_samples)} training samples"
    facts: dict[str, Json] = {"num_samples": num_samples, "num_test": num_test}
    if not any(num_test):
        mend = "let load_data return test data, at one agent at least, or give peer_client_app a shared_test"
        state: State = "warning" if len(data) == 1 < len(setup.ids) else "wrong"
        return Finding(DATA, state, f"{says}, no test samples", mend, facts)
    return Finding(DATA, "ok", f"{says}, {_range(num_test)} test samples", facts=facts)


def _model(setup: Setup, batch_s: float) -> Finding:
    num_possible = sum(cut.is_possible for cut in setup.cuts)
    facts: dict[str, Json] = {
        "num_cuts": len(setup.cuts),
        "num_possible_cuts": num_possible,
        "batch_s": batch_s,
    }
    cuts = "cut" if num_possible == 1 else "cuts"
    took = f"a batch of {setup.config.batch_size} is trained in {human_s(batch_s)} (measured)"
    says = f"{setup.config.model}: {num_possible} {cuts} to choose from; {took}"
    if not setup.warnings:
        return Finding(MODEL, "ok", says, facts=facts)
    mend = "nothing, if you know it: a run says so, too"
    return Finding(MODEL, "warning", "; ".join([says, *setup.warnings]), mend, facts)


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
