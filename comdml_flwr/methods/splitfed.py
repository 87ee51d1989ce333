"""SplitFed: every agent keeps the lower layers, a server trains the upper ones and sends gradients back.

C. Thapa, P. C. M. Arachchige, S. Camtepe, L. Sun, "SplitFed: When Federated Learning Meets Split Learning",
AAAI 2022, arXiv 2004.12088, Algorithms 1 and 2. `splitfed-version` says which:

    V1    the server keeps a copy of the server side for each agent, trains them side by side, and averages
          them at the end of the round, as the client sides are averaged
    V2    there is one server side; it learns from the agents' batches one after another, in an order that is
          drawn for each batch

    forward n    an agent runs its client side on batch n and sends activations and labels       (for each
    server n     the server runs, trains, and sends the activations' gradient back                batch n)
    backward n   the agent trains its client side by that gradient
    average      all client sides go up; the server averages and sends the client side down
    evaluate     the server, which alone has the whole model, evaluates it on all test samples

The cut is `cut`, the same for all (DTFL compares with the cut after its second module, cut 6 of a ResNet). On
the clock, a third of a batch's work on the client side is forward and two thirds are backward (a
convolution's backward pass is two of its forward passes); V1's copies train at the server's full speed each,
as the paper has a server with resources for all; V2's batches follow each other in the order that was drawn,
so that the server waits for the agent whose turn it is. The shares of the work are those of ComDML's cuts,
with an auxiliary head that is not there and without the gradient of the server side's input that is: together
0.4 % less than the whole model's at a ResNet's cut 6. The gradient travels in float32, so of a run in
float32 it costs as many bytes as the activations.

Deviations: V2 draws its order for each batch; no noise (the paper's differential privacy); one server plays
the paper's main server and its fed server, and stays in one process: its clock's lanes outlive no phase
elsewhere.

An agent runs a batch forward twice: the graph of the first pass does not outlive the phase.

A batch whose activations, loss or gradients are not finite is refused: neither side takes a step. V2's server
side is everybody's, so it must not learn from NaN; in V1 only its agent would be lost.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import distrust, distrusted_by, read, receive, wrong_weights
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Envelope, Floats, Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, Run, together
from comdml_flwr.core.seeds import derive_seed
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.core.typed_json import read_float, read_int
from comdml_flwr.learning.averaging import is_finite, weighted_mean
from comdml_flwr.learning.structure import count_samples
from comdml_flwr.learning.training import Learner
from comdml_flwr.methods.phases.activations import (
    Activations,
    aligned,
    as_fault_of,
    pack_activations,
    read_activations,
)
from comdml_flwr.methods.phases.evaluation import METRICS, report_round, report_traffic
from comdml_flwr.methods.phases.introduction import Model
from comdml_flwr.methods.phases.server import (
    Upload,
    at_agents,
    at_server,
    finite_uploads,
    mean_of_uploads,
    send_down,
    upload,
)
from comdml_flwr.planning.clock.clock import Clock, ServerClock
from comdml_flwr.planning.types import SERVER

FORWARD_SHARE = 1 / 3
SERVER_SIDES = Slot(name="server-side/", lifetime=Lifetime.PHASE)
SLOTS = (SERVER_SIDES,)
_LEFT = "batches left of "  # among the server's notes, and the agent's id


def program(version: int, num_batches: int) -> Program[Agent]:
    """Return one round.

    Parameters
    ----------
    version : int
        1 or 2.
    num_batches : int
        Of the agent that has most of them.
    """
    serve = serve_copies if version == 1 else serve_in_turn
    batches: list[Phase[Agent]] = []
    for number in range(num_batches):
        batches += [
            Phase(name=f"batch {number + 1}", run=at_agents(forward_after_backward(number))),
            Phase(name=f"serve batch {number + 1}", run=at_server(serve)),
        ]
    return Program(
        phases=(
            *batches,
            Phase(name="send up", run=at_agents(together(forward_after_backward(num_batches), send_up))),
            Phase(name="average", run=at_server(average)),
            Phase(name="adopt and evaluate", run=together(at_agents(adopt), at_server(report_whole))),
        ),
        has_server=True,
        slots=SLOTS,
        sends=(Activations, Gradient, Upload, Model),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient(Mail):
    """The gradient of a batch of activations (float32), in their shape; none if the batch was refused."""

    kind: ClassVar[str] = "gradient"
    gradient: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide(Mail):
    """A `Model` of which the lower layers alone are sent: float32."""

    kind: ClassVar[str] = Model.kind
    weights: Floats


def forward_after_backward(number: int) -> Run[Agent]:
    """Return the run that trains by the gradient of the batch before and sends batch `number`, if any."""

    def run(agent: Agent, inbox: Inbox) -> Outbox:
        take_client_side(agent, inbox)
        gradients = receive(agent, inbox, Gradient, _wrong_gradient)
        batches = agent.batches()
        if not gradients and number >= len(batches):
            return ()
        learner = _client_side(agent)
        _resume_or_begin(agent, learner, "own", agent.weights_P[: learner.num_floats])
        for _, mail in gradients:
            if mail.gradient is not None:
                x, y_N = agent.samples(batches[number - 1], number - 1)
                gradient = aligned(torch.from_numpy(mail.gradient))
                learner.train_by_gradient(x, gradient, _draws(agent, number - 1))
                _work(agent, agent.clock, "slow", count_samples(y_N), 1 - FORWARD_SHARE)
            agent.suspend("own", learner, finished=number == len(batches))
        return (_activations(agent, learner, number),) if number < len(batches) else ()

    return run


def _wrong_gradient(sender: int, mail: Gradient) -> str:
    if sender != SERVER:
        return "it is not the server"
    return "" if mail.gradient is None or is_finite(mail.gradient) else "gradient holds NaN or infinity"


def _activations(agent: Agent, learner: Learner, number: int) -> Envelope:
    batches = agent.batches()
    x, y_N = agent.samples(batches[number], number)
    z = learner.forward(x, _draws(agent, number))
    _work(agent, agent.clock, "slow", count_samples(y_N), FORWARD_SHARE)
    sent = Activations(
        num_samples=agent.num_samples,
        batches_left=len(batches) - 1 - number,
        tensors=pack_activations(agent, z, y_N, f"batch {number}"),
    )
    return agent.send(SERVER, sent)


def _draws(agent: Agent, number: int) -> int | None:
    """Return the seed of a batch: it runs forward twice, and must draw the same."""
    return agent.draws(f"client side, batch {number}")


def serve_copies(agent: Agent, inbox: Inbox) -> Outbox:
    """V1: train each agent's copy of the server side; side by side on the clock."""
    assert isinstance(agent.clock, ServerClock)
    outbox = []
    for mail in _activation_mail(inbox):
        lane, part = agent.clock.lane(mail.sender), SERVER_SIDES.of(mail.sender)
        lane.wait(mail.arrives_s)
        outbox.append(_serve(agent, mail, part, lane, is_own=True))
    return tuple(outbox)


def serve_in_turn(agent: Agent, inbox: Inbox) -> Outbox:
    """V2: train the one server side on the agents' batches, in an order drawn for each batch."""
    mail = _activation_mail(inbox)
    step = read_int(agent.notes.get("served", 0))
    agent.notes["served"] = step + 1
    seed = derive_seed(agent.setup.config.seed, agent.round, SERVER, f"order of batch {step}")
    outbox = []
    for place in np.random.default_rng(seed).permutation(len(mail)).tolist():
        agent.clock.wait(mail[place].arrives_s)
        outbox.append(_serve(agent, mail[place], SERVER_SIDES.of("all"), agent.clock))
    return tuple(outbox)


def _activation_mail(inbox: Inbox) -> list[Envelope]:
    return [mail for mail in inbox if mail.kind == Activations.kind]


def _serve(agent: Agent, mail: Envelope, part: str, clock: Clock, *, is_own: bool = False) -> Envelope:
    """Train on a batch and answer with the gradient; one that is not finite is refused: there is none.

    `is_own`: the part is the sender's own copy, which is done with its last batch.
    """
    left = agent.notes.get(f"{_LEFT}{mail.sender}")
    came = read_activations(agent, mail, agent.setup.config.cut, None if left is None else read_int(left))
    if came is None:
        return agent.send(mail.sender, Gradient())
    sent, z, y_N = came
    agent.notes[f"{_LEFT}{mail.sender}"] = sent.batches_left
    learner = agent.learners.fast_side(agent.setup.config.cut)
    _resume_or_begin(agent, learner, part, agent.weights_P[len(agent.weights_P) - learner.num_floats :])
    draws = agent.draws(f"server side, {sent.batches_left} left", of=mail.sender)
    try:
        with as_fault_of(mail):
            gradient = learner.train_for_gradient(z, y_N, draws)
    except PeerFaultError as fault:
        distrust(agent, fault)
        gradient = None
    if gradient is None:
        agent.note_not_finite([mail.sender])
    else:
        _work(agent, clock, "fast", count_samples(y_N), 1.0, mail.sender)
        agent.notes["trained_for"] = sorted({*agent.note_ids("trained_for"), mail.sender})
    agent.notes["training_end_s"] = max(clock.now_s, read_float(agent.notes.get("training_end_s", 0.0)))
    agent.suspend(part, learner, finished=is_own and sent.batches_left == 0)
    return agent.send(mail.sender, Gradient(gradient=None if gradient is None else gradient.numpy()))


def send_up(agent: Agent, inbox: Inbox) -> Outbox:
    """Send the trained client side up."""
    agent.notes["training_end_s"] = agent.clock.now_s
    return (upload(agent, agent.tensors["own/body"].numpy()),)


def average(agent: Agent, inbox: Inbox) -> Outbox:
    """Put the whole model together and send the client side down.

    Left out with both sides: an agent of whose batches none was accepted, and one of which a side is not
    finite. Where nobody is left, the model stays as it was.
    """
    trained_for = {*agent.note_ids("trained_for")} - {*distrusted_by(agent)}
    came = finite_uploads(agent, inbox, _client_side(agent).num_floats)
    uploads = {sender: one for sender, one in came.items() if sender in trained_for}
    sides = _server_sides(agent, [*uploads])
    agent.note_not_finite(client for client, side in sides.items() if not is_finite(side))
    whole = {sender: one for sender, one in uploads.items() if is_finite(sides[sender])}
    if whole:
        trained = [sides[sender] for sender in whole]
        server_side = trained[0]
        if agent.setup.config.splitfed_version == 1:
            server_side = weighted_mean(trained, [num_samples for _, num_samples in whole.values()])
        agent.tensors["weights"] = torch.from_numpy(np.concatenate([mean_of_uploads(whole), server_side]))
    agent.forget(SERVER_SIDES.name.removesuffix("/"))
    client_side = agent.weights_P[: _client_side(agent).num_floats]
    return send_down(agent, {"weights": client_side.numpy()})


def report_whole(agent: Agent, inbox: Inbox) -> Outbox:
    """Evaluate the whole model, which only the server has, on all that agents test on."""
    told = ("training_end_s", "end_s", "not_finite", "distrusted", METRICS)
    agent.notes = {name: agent.notes[name] for name in told if name in agent.notes}
    report_round(agent, *((test, 0, len(test)) for test in agent.setup.tests()))
    return ()


def _server_sides(agent: Agent, clients: Collection[int]) -> dict[int, Floats]:
    """Return the trained server side of each client: its own copy, or the one for all."""
    if agent.setup.config.splitfed_version == 1:
        return {client: agent.tensors[f"{SERVER_SIDES.of(client)}/body"].numpy() for client in clients}
    if not clients:
        return {}
    shared = agent.resume(SERVER_SIDES.of("all"))
    assert shared is not None
    return dict.fromkeys(clients, shared.state()["body"].numpy())


def adopt(agent: Agent, inbox: Inbox) -> Outbox:
    """Take the mean client side; report what this agent sent."""
    receive(agent, inbox, Model)
    take_client_side(agent, inbox)
    report_traffic(agent)
    return ()


def take_client_side(agent: Agent, inbox: Inbox) -> None:
    """Take the client side that the server sent down; the rest of this agent's model is not in use."""

    def wrong_side(sender: int, mail: ClientSide) -> str:
        if sender != SERVER:
            return "it is not the server"
        return wrong_weights(mail.weights, _client_side(agent).num_floats)

    for mail in inbox:
        if mail.kind == ClientSide.kind and (sent := read(agent, mail, ClientSide, wrong_side)):
            client_side = torch.from_numpy(np.array(sent.weights))
            agent.tensors["weights"] = torch.cat([client_side, agent.weights_P[len(client_side) :]])


def _client_side(agent: Agent) -> Learner:
    return agent.learners.lower_part(agent.setup.config.cut)


def _resume_or_begin(agent: Agent, learner: Learner, part: str, weights_P: Tensor) -> None:
    """Resume a suspended training, or begin one with these weights."""
    paused = agent.resume(part)
    learner.resume(paused) if paused else learner.begin(weights_P)


def _work(
    agent: Agent, clock: Clock, side: str, num_samples: int, share: float, peer: int | None = None
) -> None:
    cut = agent.setup.cuts[agent.setup.config.cut]
    side_share = cut.slow_share if side == "slow" else cut.fast_share
    clock.work(share * side_share * num_samples / agent.setup.config.batch_size, peer)
