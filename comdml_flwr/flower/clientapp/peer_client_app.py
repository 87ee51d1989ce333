"""The peer ClientApp: runs an agent's phases on the mail that comes with a message, and always replies.

Eleven messages exist: `query.count` (how many nodes has the federation), `query.hello` (who are you, do you
see the run's folder, is everything there that the run needs), `query.probe` (whom do you reach, how fast are
you), `query.echo` (return what is sent), `train.steps` (run these steps on this mail), `train.rounds` (run
these rounds, mail going from peer to peer) and `query.goodbye` (the run is over). Three are for checkpoints:
`train.keep` (write one), `train.restore` (go on from one), `train.forget` (remove them all). And at the end
`train.model` (write the trained model, and say where it lies).
Whatever goes wrong comes back as a reply with one line, never as an exception: Flower would wrap that in a
stack trace, or hang.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.agents.state_files import load_state, read_waiting, save_state, write_waiting
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.sealed.sealing import Sealer
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.program import has_second_phase
from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.flower.app_paths import with_data_found
from comdml_flwr.flower.clientapp.checkpoints import forget, keep, place_of, restore
from comdml_flwr.flower.clientapp.chosen import by_way_of_relay, chosen, relay_told
from comdml_flwr.flower.clientapp.direct_rounds import address_of, check_listening_of, run_rounds_of
from comdml_flwr.flower.clientapp.keys import introduce, sealer_of
from comdml_flwr.flower.clientapp.models import (
    FACT,
    BestOfMessage,
    ModelNews,
    pack_written,
    place_of_models,
    read_news,
    write_best,
    write_last,
    written,
)
from comdml_flwr.flower.clientapp.probe import load_measured, probe
from comdml_flwr.flower.code_version import difference
from comdml_flwr.flower.mail import CONFIG, FLEET, is_shared, make_own_folder, own_folder, pack, unpack
from comdml_flwr.flower.own_code import OwnCodeApp
from comdml_flwr.flower.records import (
    NO_STATE,
    absence_of,
    blob,
    blobs,
    facts_of,
    failure,
    integer,
    pack_report,
    reply_with,
    steps_of,
    text,
)
from comdml_flwr.flower.same_start import pack_start, start_of
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.flower.serverapp.port_owner import claim_address, release_address
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import Catalogue, DatasetLoader, ModelBuilder, assemble, program_of

Handler = Callable[[ConfigRecord, Context], ConfigRecord]

tell_errors_last()


def peer_client_app(
    *,
    models: Mapping[str, ModelBuilder] | None = None,
    datasets: Mapping[str, DatasetLoader] | None = None,
) -> ClientApp:
    """Return a ClientApp that takes part in serverless training.

    Its code, and that of your own modules, is this app's, whoever started the local SuperLink: own_code.py.

    Parameters
    ----------
    models, datasets : Mapping, optional
        Names that the configuration may use besides ours; see `Catalogue`.
    """
    catalogue = Catalogue(models=models or {}, datasets=datasets or {})
    app = OwnCodeApp()
    for register, handler in (
        (app.query("count"), _count),
        (app.query("hello"), partial(_hello, catalogue)),
        (app.query("probe"), partial(_probe, catalogue)),
        (app.query("echo"), _echo),
        (app.train("steps"), partial(_steps, catalogue)),
        (app.train("rounds"), partial(_rounds, catalogue)),
        (app.train("keep"), partial(_keep, catalogue)),
        (app.train("restore"), partial(_restore, catalogue)),
        (app.train("forget"), _forget),
        (app.train("model"), partial(_model, catalogue)),
        (app.query("goodbye"), _goodbye),
    ):
        register(partial(_always_reply, handler))
    return app


def _always_reply(handler: Handler, message: Message, context: Context) -> Message:
    try:
        return reply_with(message, handler(facts_of(message), context))
    except Exception as error:  # a handler that does not reply wedges its node: see the module docstring
        show_traceback(error)
        return reply_with(message, failure(describe_error(error)))


def _count(facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Say how many nodes the federation has, and which of them this is."""
    return ConfigRecord({name: _node_number(context, name) for name in ("num-partitions", "partition-id")})


def _hello(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Say who this is; build what the run needs, so that what is missing shows before any training."""
    if other := difference(text(facts, "code"), text(facts, "app")):
        return failure(other)
    folder, shared = _folder(facts, context)
    if not shared:
        make_own_folder(folder, text(facts, "fleet"), text(facts, "config"))
    setup = _setup_of(catalogue, context, folder, facts)
    agent = setup.ids[_node_number(context, "partition-id")]
    needs_address = setup.config.carrier == "direct" or "p2p-address" in context.node_config
    address = address_of(context) if needs_address and setup.config.carrier in ("direct", "auto") else ""
    if address:
        claim_address(context, is_resumed=bool(text(facts, "config")))
    if setup.config.carrier == "direct":
        check_listening_of(context)
    card = introduce(folder, agent, text(facts, "token"), context)
    told = ConfigRecord({"agent": agent, "sees-folder": shared, "address": address, "card": card})
    told["warnings"] = list(setup.warnings)
    told["model-bytes"] = setup.initial_weights_P.nbytes
    return ConfigRecord({**told, **pack_start(start_of(setup))})


def _probe(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Look for the peers and measure what the run's plans need."""
    began, (folder, _) = time.monotonic(), _folder(facts, context)
    agent = agent_of(catalogue, facts, context)
    loading_s = time.monotonic() - began
    return ConfigRecord({**probe(agent, facts, context, folder), "loading-s": loading_s})


def _echo(facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Return what was sent, for the ServerApp to time it; the time in here is none."""
    return ConfigRecord({"bits": blob(facts, "bits"), "loading-s": 0.0, "handled-s": 0.0})


def _steps(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Run an agent's steps on its mail and return what it sends."""
    release_address(context)  # of a run whose carrier was "auto"
    agent, (folder, _) = agent_of(catalogue, facts, context), _folder(facts, context)
    sealer = _sealer(agent, facts, context)
    exchange, previous = integer(facts, "exchange"), integer(facts, "previous")
    if previous != NO_STATE:
        load_state(agent, folder, previous)
    if FACT in facts:  # not where a server has the model
        write_best(agent, *_models(agent.id, facts, context))
    inbox = unpack(blobs(facts, "packed"), folder, sealer)
    todo = steps_of(facts)
    if has_second_phase(todo):
        inbox = (*read_waiting(folder, agent.id), *inbox)
        write_waiting(folder, agent.id, ())
    elif num_for_second := integer(facts, "for-second"):
        write_waiting(folder, agent.id, (*read_waiting(folder, agent.id), *inbox[:num_for_second]))
        inbox = inbox[num_for_second:]
    outbox, report = run_steps(agent, program_of(agent.setup), todo, inbox, absence_of(facts))
    save_state(agent, folder, exchange)
    return ConfigRecord(
        {
            "receivers": [envelope.receiver for envelope in outbox],
            "packed": pack(outbox, folder, sealer, exchange=exchange),
            "report": pack_report(report),
        }
    )


def _rounds(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Run an agent's rounds, its mail going from peer to peer."""
    agent, (folder, _) = agent_of(catalogue, facts, context), _folder(facts, context)
    best = BestOfMessage(agent, *_models(agent.id, facts, context))
    claim_address(context)
    try:
        return run_rounds_of(agent, facts, context, folder, best.round_ended)
    finally:
        claim_address(context)  # from now on it counts how long nothing is done for this run


def _keep(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Write a checkpoint of the agent, with the mail that waits for it."""
    agent, (folder, _) = agent_of(catalogue, facts, context), _folder(facts, context)
    previous, packed = integer(facts, "previous"), blobs(facts, "packed")
    if previous != NO_STATE:
        load_state(agent, folder, previous)
    mail = unpack(packed, folder, _sealer(agent, facts, context)) if packed else ()
    place, (news, models) = _checkpoints(agent.id, facts, context), _models(agent.id, facts, context)
    trouble = ""
    try:
        write_best(agent, news, models)
        write_last(agent, news, models)
    except RunError as error:  # the checkpoint may be written all the same
        trouble = str(error)
    best = None if facts["files"] else models
    sha256 = keep(agent, folder, place, integer(facts, "round"), mail, best)
    return ConfigRecord({"sha256": sha256, "trouble": trouble})


def _restore(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Let the agent go on from a checkpoint."""
    agent, (folder, _) = agent_of(catalogue, facts, context), _folder(facts, context)
    place, (_, models) = _checkpoints(agent.id, facts, context), _models(agent.id, facts, context)
    best = None if facts["files"] else models
    restore(agent, folder, place, integer(facts, "round"), text(facts, "sha256"), best)
    return ConfigRecord()


def _model(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Write the trained model, and the best one if it is not written yet; say where they lie."""
    agent, (folder, _) = agent_of(catalogue, facts, context), _folder(facts, context)
    load_state(agent, folder, integer(facts, "previous"))
    news, models = _models(agent.id, facts, context)
    write_best(agent, news, models)
    write_last(agent, news, models)
    return ConfigRecord({FACT: pack_written(written(models))})


def _forget(facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Remove the run's checkpoints from this node."""
    forget(_checkpoints(integer(facts, "agent"), facts, context))
    return ConfigRecord()


def _checkpoints(agent: int, facts: ConfigRecord, context: Context) -> Path:
    """Return where this node keeps an agent's checkpoints."""
    folder, shared = _folder(facts, context)
    return place_of(folder if shared and facts["files"] else None, text(facts, "checkpoints"), agent)


def _models(agent: int, facts: ConfigRecord, context: Context) -> tuple[ModelNews, Path]:
    """Return what this node is told about the run's models, and where it keeps an agent's."""
    news, (folder, shared) = read_news(facts[FACT]), _folder(facts, context)
    return news, place_of_models(folder if shared and facts["files"] else None, news.run, agent)


def _sealer(agent: Agent, facts: ConfigRecord, context: Context) -> Sealer | None:
    """Return what seals this node's mail; None where all nodes see the run's folder."""
    folder, shared = _folder(facts, context)
    if facts["files"]:
        if not shared:  # or the ServerApp could talk a node into sending unsealed mail
            raise RunError(f"this node is told that it shares {folder}, which it does not see")
        return None
    return sealer_of(
        folder,
        agent.id,
        integer(facts, "exchange"),
        text(facts, "token"),
        blobs(facts, "cards"),
        context,
        has_server=program_of(agent.setup).has_server,
    )


def _goodbye(facts: ConfigRecord, context: Context) -> ConfigRecord:
    """Remove what this node kept for the run in a folder of its own, and give its address back."""
    release_address(context)
    folder, shared = _folder(facts, context)
    if not shared:
        shutil.rmtree(folder, ignore_errors=True)
    return ConfigRecord()


def _folder(facts: ConfigRecord, context: Context) -> tuple[Path, bool]:
    """Return where this node keeps what it needs of the run, and whether all who see that folder share it."""
    folder = Path(text(facts, "folder"))
    shared = is_shared(folder, text(facts, "token"))
    return (folder if shared else own_folder(context.run_id, context.node_id)), shared


_SETUPS: dict[tuple[object, ...], Setup] = {}
"""The set-up of the run that this process last worked for; it can be built again from the run's files."""


def _setup_of(catalogue: Catalogue, context: Context, folder: Path, facts: ConfigRecord) -> Setup:
    num_agents = _node_number(context, "num-partitions")
    fleet_text = _fleet_text(folder)
    values, relay = {**_run_config(folder, context), **chosen(facts)}, relay_told(facts)
    key = (fleet_text, num_agents, *sorted(values.items()), relay)
    if key not in _SETUPS:
        config = with_data_found(parse_config(values))
        fleet = parse_fleet(fleet_text, str(folder / FLEET))
        setup = by_way_of_relay(assemble(config, fleet, num_agents, catalogue), relay)
        _SETUPS.clear()
        _SETUPS[key] = setup
        return setup
    return _SETUPS[key]


def _run_config(folder: Path, context: Context) -> Mapping[str, bool | int | float | str | bytes]:
    """Return the run's configuration; that of a run that goes on is in its folder."""
    try:
        values: dict[str, bool | int | float | str] = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError:
        return context.run_config
    return values


def _fleet_text(folder: Path) -> str:
    try:
        return (folder / FLEET).read_text()
    except OSError:
        raise RunError(f"{folder / FLEET} is not there: this node lost what it kept of the run") from None


def agent_of(catalogue: Catalogue, facts: ConfigRecord, context: Context) -> Agent:
    """Return the agent that this node is, as it begins; facts are those that go with every message."""
    folder, _ = _folder(facts, context)
    setup = _setup_of(catalogue, context, folder, facts)
    agent = Agent(setup.ids[_node_number(context, "partition-id")], setup)
    if facts.get("profiles") == "measured":
        load_measured(agent, folder)
    return agent


def _node_number(context: Context, key: str) -> int:
    value = context.node_config.get(key)
    if not isinstance(value, int):
        raise InputError(f"--node-config {key}", value, "must be a whole number on every SuperNode")
    return value
