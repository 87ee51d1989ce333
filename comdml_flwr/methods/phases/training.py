"""Training without a partner, and what becomes of a model that is not finite."""

from comdml_flwr.agents.agent import Agent
from comdml_flwr.learning.averaging import is_finite
from comdml_flwr.learning.training import StepHook


def train_whole(
    agent: Agent, chunk: range | None = None, *, shuffle: str = "shuffle", hook: StepHook | None = None
) -> None:
    """Train the whole model on these of the round's batches (or all); the result is the tensors `own/...`.

    `shuffle` names the draw of the batches' order, where an agent trains more than once in a round. `hook` is
    called before each step.
    """
    learner, paused = agent.learners.whole(), agent.resume("own")
    learner.resume(paused) if paused else learner.begin(agent.weights_P)
    batches = agent.batches(shuffle)
    chunk = range(len(batches)) if chunk is None else chunk
    full_batches = sum(len(batches[number]) for number in chunk) / agent.setup.config.batch_size
    with agent.observed(full_batches):
        for number in chunk:
            draws = agent.draws(f"{shuffle}, batch {number}")
            learner.step(*agent.samples(batches[number], number, shuffle), draws, hook)
    agent.suspend("own", learner, finished=chunk.stop == len(batches))


def train_alone(agent: Agent, *, shuffle: str = "shuffle", hook: StepHook | None = None) -> None:
    """Train the whole model on all of the round's batches, on the clock too."""
    train_whole(agent, shuffle=shuffle, hook=hook)
    agent.clock.work(agent.profile.num_batches)
    agent.notes["training_end_s"] = agent.clock.now_s


def go_back_if_not_finite(agent: Agent) -> bool:
    """Undo a training that gave NaN or infinity: its result is the weights that it began with; tell whether.

    For methods in which an agent's own model goes on: it never holds, and never sends, what is not finite.
    """
    trained = [agent.tensors[name] for name in ("own/body", "own/head") if name in agent.tensors]
    if all(is_finite(tensor.numpy()) for tensor in trained):
        return False
    agent.tensors["own/body"] = agent.weights_P
    agent.note_not_finite([agent.id])
    return True
