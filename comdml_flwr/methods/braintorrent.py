"""BrainTorrent: a random agent asks all others for newer models, merges them, trains; then the next one.

A. G. Roy, S. Siddiqui, S. Pölsterl, N. Navab, C. Wachinger, "BrainTorrent: A Peer-to-Peer Environment for
Decentralized Federated Learning", arXiv 1905.06731. Every agent keeps a version vector: its own version, and
for each other agent the version that it merged last.

    start    once, in round 1: every agent trains, its version is 1
    turn     1 ask      the agent whose turn it is asks all others for their versions
             2 answer   whoever has a newer version than it knows sends model and number of samples a_j
             3 learn    it merges, w_i <- (a_i w_i + sum of a_j w_j) / (a_i + sum of a_j), and trains; its
                        version grows

A round is as many turns as agents take part where all are there, each of an agent drawn from the seed (one
may be drawn twice and another not at all), so that a round trains about as often as one of the other methods.
Training follows training on the clock, because an agent answers when it is done with its own turn; models of
idle agents may travel meanwhile. Deviations: that count of a round; who is absent in a round neither asks nor
answers. The models differ: accuracy is the mean over the agents, each judged by its own model (the paper also
judges their aggregate).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.reading import receive, wrong_samples, wrong_weights
from comdml_flwr.core.bounds import wrong_number
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Floats, Inbox, Outbox
from comdml_flwr.core.program import Phase, Program, Run, together
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.core.sharding import staggered_receivers
from comdml_flwr.core.slots import Lifetime, Slot
from comdml_flwr.learning.averaging import weighted_mean
from comdml_flwr.methods.phases.evaluation import evaluate
from comdml_flwr.methods.phases.training import go_back_if_not_finite, train_alone

VERSIONS = Slot(name="versions", lifetime=Lifetime.ROUND)
"""An agent's version vector by ascending id: its own, and of others the one that it merged last; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Mail):
    """Whether the other has a newer model than the version that is known."""

    kind: ClassVar[str] = "ask"
    known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Mail):
    """The version of a model, the samples behind it and, if it is newer, its weights: float32, shape (P,)."""

    kind: ClassVar[str] = "answer"
    version: int
    num_samples: int
    weights: Floats | None = None


def program(num_turns: int) -> Program[Agent]:
    """Return one round of `num_turns` turns."""
    phases = [Phase(name="ask 1", run=together(start, ask(1)))]
    for turn in range(1, num_turns + 1):
        name, after = (f"ask {turn + 1}", ask(turn + 1)) if turn < num_turns else ("evaluate", evaluate)
        phases += [
            Phase(name=f"answer {turn}", run=answer),
            Phase(name=f"learn {turn} and {name}", run=together(learn(turn), after)),
        ]
    return Program(phases=tuple(phases), slots=(VERSIONS,), models_agree=False, sends=(Question, Answer))


def start(agent: Agent, inbox: Inbox) -> Outbox:
    """Train once before the first turn; afterwards an agent's turn is when it trains."""
    agent.notes["training_end_s"] = 0.0
    if VERSIONS.name not in agent.tensors:
        _train(agent, "shuffle")
    return ()


def ask(turn: int) -> Run[Agent]:
    """Return the run in which the agent whose turn it is asks all others."""

    def ask_all(agent: Agent, inbox: Inbox) -> Outbox:
        present = agent.members
        if whose_turn(agent, turn) != agent.id:
            return ()
        others = [peer for peer in staggered_receivers(agent.id, present) if peer != agent.id]
        known = versions_of(agent)
        return tuple(agent.send(peer, Question(known=known.get(peer, 0))) for peer in others)

    return ask_all


def answer(agent: Agent, inbox: Inbox) -> Outbox:
    """Answer with the model if the other knows an older one; else that there is nothing new."""
    outbox = []

    def wrong_question(sender: int, question: Question) -> str:
        if sender not in agent.members:
            return "it takes no part"
        return wrong_number("known", question.known, 0, _newest(agent))

    for asker, question in receive(agent, inbox, Question, wrong_question):
        version = versions_of(agent)[agent.id]
        weights = agent.weights_P.numpy() if version > question.known else None
        reply = Answer(version=version, num_samples=agent.num_samples, weights=weights)
        outbox.append(agent.send(asker, reply))
    return tuple(outbox)


def learn(turn: int) -> Run[Agent]:
    """Return the run in which the agent whose turn it is merges what came, and trains."""

    def merge_and_train(agent: Agent, inbox: Inbox) -> Outbox:
        if whose_turn(agent, turn) == agent.id:
            models, versions = {}, {}
            for peer, told in receive(agent, inbox, Answer, partial(_wrong_answer, agent)):
                if told.weights is not None:
                    models[peer], versions[peer] = (told.weights, told.num_samples), told.version
            models[agent.id] = agent.weights_P.numpy(), agent.num_samples
            vectors, counts = zip(*(model for _, model in sorted(models.items())), strict=True)
            agent.tensors["weights"] = torch.from_numpy(weighted_mean(vectors, counts))
            _know(agent, versions)
            _train(agent, f"shuffle of turn {turn}")
        return ()

    return merge_and_train


def _wrong_answer(agent: Agent, sender: int, told: Answer) -> str:
    if sender not in agent.members:
        return "it takes no part"
    return (
        wrong_number("version", told.version, 0, _newest(agent))
        or wrong_samples(agent, sender, told.num_samples)
        or ("" if told.weights is None else wrong_weights(told.weights, len(agent.weights_P)))
    )


def _newest(agent: Agent) -> int:
    """Return the highest version that a model can have: an agent's own is one more for each turn."""
    return 1 + agent.round * len(agent.setup.ids)


def whose_turn(agent: Agent, turn: int) -> int:
    """Return the agent whose turn it is: drawn from the seed, so everybody knows it."""
    present = agent.setup.present(agent.round)  # the turn of one who is gone passes
    seed = derive_seed(agent.setup.config.seed, agent.round, SHARED, f"turn {turn}")
    return present[int(np.random.default_rng(seed).integers(len(present)))]


def versions_of(agent: Agent) -> dict[int, int]:
    """Return this agent's version vector: its own version, and those of others that it merged last."""
    versions = dict(zip(agent.setup.ids, _versions(agent).tolist(), strict=True))
    return {agent.id: 0, **{peer: version for peer, version in versions.items() if version}}


def _train(agent: Agent, shuffle: str) -> None:
    """Train the whole model; that is a new version, unless it is undone."""
    train_alone(agent, shuffle=shuffle)
    is_new = not go_back_if_not_finite(agent)
    _know(agent, {agent.id: versions_of(agent)[agent.id] + is_new})
    agent.tensors["weights"] = agent.tensors["own/body"]
    agent.forget("own")


def _know(agent: Agent, versions: dict[int, int]) -> None:
    known = _versions(agent).clone()
    for peer, version in versions.items():
        known[agent.setup.ids.index(peer)] = version
    agent.tensors[VERSIONS.name] = known


def _versions(agent: Agent) -> torch.Tensor:
    return agent.tensors.get(VERSIONS.name, torch.zeros(len(agent.setup.ids), dtype=torch.int64))
