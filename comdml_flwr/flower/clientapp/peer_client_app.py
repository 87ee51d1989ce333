"""The peer ClientApp: runs an agent's phases on the mail that comes with a message, and always replies.

Twelve messages exist: `query.count` (how many nodes has the federation), `query.hello` (who are you, do you
see the run's folder, is everything there that the run needs), `query.probe` (whom do you reach, how fast are
you), `query.echo` (return what is sent), `query.metrics` (what do the
sums of a round come to), `train.steps` (run these steps on this mail), `train.rounds` (run
these rounds, mail going from peer to peer) and `query.goodbye` (the run is over). Three are for checkpoints:
`train.keep` (write one), `train.restore` (go on from one), `train.forget` (remove them all). And at the end
`train.model` (write the trained model, and say where it lies).
Whatever goes wrong comes back as a reply with one line, never as an exception: Flower would wrap that in a
stack trace, or hang.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from comdml_flwr.agents.reading import distrust
from comdml_flwr.agents.state_files import load_state, read_waiting, save_state, write_waiting
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Inbox
from comdml_flwr.core.program import has_second_phase
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import read_as, read_table
from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.flower.clientapp.checkpoints import forget, keep, restore
from comdml_flwr.flower.clientapp.direct_rounds import address_of, check_listening_of, run_rounds_of
from comdml_flwr.flower.clientapp.keys import has_key, introduce
from comdml_flwr.flower.clientapp.leftovers import note_message, remove_leftovers
from comdml_flwr.flower.clientapp.models import (
    FACT,
    BestOfMessage,
    pack_written,
    write_best,
    write_last,
    written,
)
from comdml_flwr.flower.clientapp.mods import reply_in_any_case
from comdml_flwr.flower.clientapp.probe import probe
from comdml_flwr.flower.clientapp.session import NodeSession
from comdml_flwr.flower.code_version import difference
from comdml_flwr.flower.mail import make_own_folder, own_folder, pack, unpack
from comdml_flwr.flower.own_code import OwnCodeApp
from comdml_flwr.flower.records import (
    NO_STATE,
    absence_of,
    blob,
    blobs,
    facts_of,
    failure,
    integer,
    integers,
    pack_report,
    reply_with,
    steps_of,
    text,
    texts,
)
from comdml_flwr.flower.same_start import pack_start, start_of
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.flower.serverapp.port_owner import claim_address, release_address
from comdml_flwr.learning.data.app_data import LoadData, LoadSharedTest, own_data
from comdml_flwr.learning.metrics import read_sums
from comdml_flwr.learning.task import Task, most_counts
from comdml_flwr.learning.tasks.told_metrics import pack_metrics
from comdml_flwr.runs.assemble import program_of
from comdml_flwr.runs.catalogue import Catalogue, DatasetLoader, ModelBuilder

Handler = Callable[[NodeSession], ConfigRecord]

tell_errors_last()


def peer_client_app(
    *,
    model: ModelBuilder | None = None,
    task: Task | None = None,
    data: LoadData | None = None,
    shared_test: LoadSharedTest | None = None,
    models: Mapping[str, ModelBuilder] | None = None,
    datasets: Mapping[str, DatasetLoader] | None = None,
    mods: Sequence[Mod] = (),
) -> ClientApp:
    """Return a ClientApp that takes part in serverless training.

    Its code, and that of your own modules, is this app's, whoever started the local SuperLink: own_code.py.

    Parameters
    ----------
    model : Callable, optional
        Builds the model, whatever the configuration names: (shape of a sample, number of classes, generator)
        -> stages.
    task : Task, optional
        What is learned from `data`, as `Classification(num_classes=10)`.
    data : Callable, optional
        `load_data(place) -> (training data, test data or None)`: gives the node its own data, whatever data
        set the configuration names. See `Place`, and `learning/data/app_data.py` for what it may return.
    shared_test : Callable, optional
        `load_test(place) -> test data` that all nodes have alike, for nodes without test data of their own:
        each evaluates a share of them.
    models, datasets : Mapping, optional
        Names that the configuration may use besides ours; see `Catalogue`.
    mods : Sequence, optional
        Flower's mods, outermost first, around every message: see `flower/clientapp/mods.py`.

    Raises
    ------
    InputError
        `data` and `task` are not given together.
    """
    catalogue = Catalogue(
        models=models or {},
        datasets=datasets or {},
        own_model=model,
        own_data=own_data(data, task, shared_test),
    )
    app = OwnCodeApp(mods=[reply_in_any_case, *mods])
    app.catalogue = catalogue
    for register, handler in (
        (app.query("count"), _count),
        (app.query("hello"), _hello),
        (app.query("probe"), _probe),
        (app.query("echo"), _echo),
        (app.query("metrics"), _metrics),
        (app.train("steps"), _steps),
        (app.train("rounds"), _rounds),
        (app.train("keep"), _keep),
        (app.train("restore"), _restore),
        (app.train("forget"), _forget),
        (app.train("model"), _model),
        (app.query("goodbye"), _goodbye),
    ):
        register(partial(_always_reply, handler, catalogue))
    return app


def _always_reply(handler: Handler, catalogue: Catalogue, message: Message, context: Context) -> Message:
    try:
        note_message(own_folder(context.run_id, context.node_id))
        session = NodeSession(catalogue, facts_of(message), context)
        with closing(session):
            return reply_with(message, handler(session))
    except Exception as error:  # a handler that does not reply wedges its node: see the module docstring
        show_traceback(error)
        return reply_with(message, failure(describe_error(error)))


def _count(session: NodeSession) -> ConfigRecord:
    """Say how many nodes the federation has, and which of them this is."""
    return ConfigRecord({name: session.number(name) for name in ("num-partitions", "partition-id")})


def _hello(session: NodeSession) -> ConfigRecord:
    """Say who this is; build what the run needs, so that what is missing shows before any training."""
    facts, context = session.facts, session.context
    if other := difference(text(facts, "code"), text(facts, "app")):
        return failure(other)
    if not session.shares_folder:
        remove_leftovers(texts(facts, "dead"))
        make_own_folder(session.folder, text(facts, "token"), text(facts, "fleet"), text(facts, "config"))
        note_message(session.folder)
    if has_key(session.folder, session.agent_id):  # with a new one, the mail that waits could not be opened
        raise RunError(f"agent {session.agent_id} is in the middle of this run, and is not greeted twice")
    setup = session.setup
    needs_address = setup.config.carrier == "direct" or "p2p-address" in context.node_config
    address = address_of(context) if needs_address and setup.config.carrier in ("direct", "auto") else ""
    if address:
        session.policy.check_direct(has_certificates="p2p-certificates" in context.node_config)
        claim_address(context, is_resumed=bool(facts["is-resumed"]))
    if setup.config.carrier == "direct":
        check_listening_of(context)
    card = introduce(session.folder, session.agent_id, text(facts, "token"), context)
    told = ConfigRecord({"agent": session.agent_id, "sees-folder": session.shares_folder})
    told["address"], told["card"] = address, card
    told["warnings"] = list(setup.warnings)
    told["model-bytes"] = setup.initial_weights_P.nbytes
    data = setup.data(session.agent_id)
    told["num-samples"], told["num-test"] = len(data.train), len(data.test)
    told["shares-test"], told["most-counts"] = data.all_have_test, most_counts(setup.task)
    told["model"], told["dataset"] = setup.config.model, setup.config.dataset
    told["metrics"] = pack_metrics(setup.task)
    return ConfigRecord({**told, **pack_start(start_of(setup))})


def _probe(session: NodeSession) -> ConfigRecord:
    """Look for the peers and measure what the run's plans need."""
    began = time.monotonic()
    agent, folder = session.agent, session.folder
    loading_s = time.monotonic() - began
    return ConfigRecord({**probe(agent, session.facts, session.context, folder), "loading-s": loading_s})


def _echo(session: NodeSession) -> ConfigRecord:
    """Return what was sent, for the ServerApp to time it; the time in here is none."""
    return ConfigRecord({"bits": blob(session.facts, "bits"), "loading-s": 0.0, "handled-s": 0.0})


def _metrics(session: NodeSession) -> ConfigRecord:
    """Return the metrics that sums over all agents' test samples come to."""
    metrics = session.setup.task.metrics
    told = read_as(read_table, json.loads(text(session.facts, "sums")), "the sums of a round")
    return ConfigRecord({"scores": to_json(metrics.of(read_sums(told, metrics)))})


def _steps(session: NodeSession) -> ConfigRecord:
    """Run an agent's steps on its mail and return what it sends."""
    release_address(session.context)  # of a run whose carrier was "auto"
    facts, agent, folder, sealer = session.facts, session.agent, session.folder, session.sealer
    exchange, previous = integer(facts, "exchange"), integer(facts, "previous")
    if previous != NO_STATE:
        load_state(agent, folder, previous)
    if FACT in facts:  # not where a server has the model
        write_best(agent, *session.models)
    todo, absence = steps_of(facts), absence_of(facts)
    revoked = session.check_members(todo, absence)
    unpacked = unpack(blobs(facts, "packed"), integers(facts, "senders"), agent.id, folder, sealer)
    inbox = unpacked.those(0)
    if has_second_phase(todo):
        inbox = (*read_waiting(folder, agent.id), *inbox)
        write_waiting(folder, agent.id, ())
    elif num_for_second := integer(facts, "for-second"):
        for_second = unpacked.those(0, num_for_second)
        write_waiting(folder, agent.id, (*read_waiting(folder, agent.id), *for_second))
        inbox = unpacked.those(num_for_second)
    outbox, report = run_steps(agent, program_of(agent.setup), todo, inbox, absence, unpacked.faults)
    save_state(agent, folder, exchange)
    return ConfigRecord(
        {
            "receivers": [envelope.receiver for envelope in outbox],
            "packed": pack(outbox, folder, sealer, exchange=exchange),
            "report": pack_report(report),
            **({"revoked": revoked} if revoked else {}),
        }
    )


def _rounds(session: NodeSession) -> ConfigRecord:
    """Run an agent's rounds, its mail going from peer to peer."""
    agent, context = session.agent, session.context
    best = BestOfMessage(agent, *session.models)
    claim_address(context)
    try:
        return run_rounds_of(agent, session.facts, context, session.folder, best.round_ended)
    finally:
        claim_address(context)  # from now on it counts how long nothing is done for this run


def _keep(session: NodeSession) -> ConfigRecord:
    """Write a checkpoint of the agent, with the mail that waits for it."""
    facts, agent, folder = session.facts, session.agent, session.folder
    previous, packed = integer(facts, "previous"), blobs(facts, "packed")
    mail: Inbox = ()
    if previous != NO_STATE:
        load_state(agent, folder, previous)
    if packed:
        unpacked = unpack(packed, integers(facts, "senders"), agent.id, folder, session.sealer)
        mail = unpacked.those(0)
        for fault in unpacked.faults:
            distrust(agent, fault)
    place, (news, models) = session.checkpoints_of(agent.id), session.models
    trouble = ""
    try:
        write_best(agent, news, models)
        write_last(agent, news, models)
    except RunError as error:  # the checkpoint may be written all the same
        trouble = str(error)
    best = None if facts["files"] else models
    sha256 = keep(agent, folder, place, integer(facts, "round"), mail, best)
    return ConfigRecord({"sha256": sha256, "trouble": trouble})


def _restore(session: NodeSession) -> ConfigRecord:
    """Let the agent go on from a checkpoint."""
    facts, agent = session.facts, session.agent
    place, (_, models) = session.checkpoints_of(agent.id), session.models
    best = None if facts["files"] else models
    restore(agent, session.folder, place, integer(facts, "round"), text(facts, "sha256"), best)
    return ConfigRecord()


def _model(session: NodeSession) -> ConfigRecord:
    """Write the trained model, and the best one if it is not written yet; say where they lie."""
    agent, (news, models) = session.agent, session.models
    load_state(agent, session.folder, integer(session.facts, "previous"))
    write_best(agent, news, models)
    write_last(agent, news, models)
    return ConfigRecord({FACT: pack_written(written(models))})


def _forget(session: NodeSession) -> ConfigRecord:
    """Remove the run's checkpoints from this node."""
    forget(session.checkpoints_of(integer(session.facts, "agent")))
    return ConfigRecord()


def _goodbye(session: NodeSession) -> ConfigRecord:
    """Remove what this node kept for the run in a folder of its own, and give its address back."""
    release_address(session.context)
    if not session.shares_folder:
        shutil.rmtree(session.folder, ignore_errors=True)
    return ConfigRecord()
