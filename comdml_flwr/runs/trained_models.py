"""The models that a run leaves: of its last round, and of the one with the best metric.

Where all agents end a round with the same model, there is one of each; otherwise one of each agent:

    model.safetensors         models/agent-0.safetensors, ...         as the agent ended its last round
    model-best.safetensors    models-best/agent-0.safetensors, ...    of those who took part in the best round

Which round was the best is known when all have reported on it. So an agent holds on to the model with which
it ended a round until the next exchange (`Agent.end_round`), and it is written down before that: nothing is
trained twice, and there is no second copy of the model anywhere. The last model is written when the run ends
and with every checkpoint. What a checkpoint has of the best model is a link to its file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import Protocol

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state import ENDED
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import rank
from comdml_flwr.runs.model_files import (
    BEST,
    LAST,
    config_sha256,
    file_name,
    files_of_best,
    keep_only_best,
    read_model,
    write_model,
)
from comdml_flwr.runs.records import RoundRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """A model's file, as `summary.json` lists it.

    Parameters
    ----------
    kind : str
        LAST or BEST.
    file : str
        Its path: from the run's folder, or the full one on the agent's node.
    round : int
        After which the model was as it is.
    metric : str
        Name of the task's metric that counts.
    score : float
        That metric, of the run in that round.
    weights_sha256 : str
        Digest of its floats.
    agent : int, optional
        Whose model it is; None for one that all agents have in common.
    node : int, optional
        The agent on whose node the file lies; None for the run's folder.
    """

    kind: str
    file: str
    round: int
    metric: str
    score: float
    weights_sha256: str
    agent: int | None = None
    node: int | None = None

    def as_json(self) -> dict[str, Json]:
        """Return its entry in `summary.json`."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {**values, self.metric: values.pop("score")}


class ModelKeeper(Protocol):
    """Lets a run leave its models."""

    def write_into(self, run_folder: Path, config: RunConfig) -> None:
        """Say in which folder the run's results are, and with which configuration it runs."""

    def round_ended(self, rounds: Sequence[RoundRecord]) -> None:
        """The last of these rounds, which are all that are over, was reported; the next exchange follows."""

    def finish(self, rounds: Sequence[RoundRecord]) -> list[SavedModel]:
        """Write the last models when all rounds are over; return all that the run has left."""


def best_round(rounds: Iterable[RoundRecord]) -> RoundRecord | None:
    """Return the round with the best metric, the first of equals; None if there is none.

    A round that was not committed left no model of its own.
    """
    found = [
        (rank(record.score, record.better), -record.round, record)
        for record in rounds
        if record.score is not None and isfinite(record.score) and not record.not_committed
    ]
    return max(found)[-1] if found else None


def last_rounds(rounds: Iterable[RoundRecord]) -> dict[int, RoundRecord]:
    """Return the last round in which each agent took part, by ascending id."""
    last = {agent: record for record in rounds for agent in took_part(record)}
    return dict(sorted(last.items()))


def took_part(record: RoundRecord) -> tuple[int, ...]:
    """Return who ended a round, ascending; without a server."""
    pairs, solo = record.plan["pairs"], record.plan["solo"]
    paired = [pair[side] for pair in _list(pairs) if isinstance(pair, Mapping) for side in ("slow", "fast")]
    return tuple(sorted(agent for agent in {*paired, *_list(solo)} if isinstance(agent, int)))


def facts_of_round(
    run: str, config_digest: str, round_: int, metric: str, score: float | None
) -> dict[str, str]:
    """Return what a model's file says of the round that it is of; a score that is not known is None."""
    return {
        "run": run,
        "round": str(round_),
        "metric": metric,
        metric: repr(nan if score is None else score),
        "config_sha256": config_digest,
    }


def save_model(path: Path, kind: str, agent: Agent, facts: Mapping[str, str], *, is_own: bool) -> SavedModel:
    """Write the model that an agent has, or, as the best one, the one with which it ended its last round.

    Parameters
    ----------
    path : Path
        Of the file.
    kind : str
        LAST or BEST.
    agent : Agent
        Who has it.
    facts : Mapping[str, str]
        As `facts_of_round` gives them.
    is_own : bool
        Whether the agents' models differ, so that this one is its own.
    """
    setup, whose = agent.setup, agent.id if is_own else None
    about = {
        **facts,
        "model": setup.config.model,
        "dataset": setup.config.dataset,
        **setup.task.facts,
        **({} if whose is None else {"agent": str(whose)}),
    }
    weights_P = agent.tensors[ENDED.name] if kind == BEST else agent.weights_P
    digest = write_model(path, setup.layout, weights_P.numpy(), about)
    return SavedModel(
        kind=kind,
        file=str(path),
        round=int(facts["round"]),
        metric=facts["metric"],
        score=float(facts[facts["metric"]]),
        weights_sha256=digest,
        agent=whose,
    )


class ModelsHere:
    """Writes the models of agents that are all in this process.

    Parameters
    ----------
    agents : Callable[[], Iterable[Agent]]
        Returns those who hold whole models: all agents, ascending, or the server of a method that has one.
    models_agree : bool
        Whether all who took part in a round end it with the same model.
    """

    def __init__(self, agents: Callable[[], Iterable[Agent]], *, models_agree: bool) -> None:
        self._agents, self._models_agree = agents, models_agree
        self._folder, self._config_digest = Path(), ""

    def write_into(self, run_folder: Path, config: RunConfig) -> None:
        """Say in which folder the run's results are, and with which configuration it runs."""
        self._folder, self._config_digest = run_folder, config_sha256(config.with_defaults_named())

    def round_ended(self, rounds: Sequence[RoundRecord]) -> None:
        """Write the models of the round that was reported if it is the best so far."""
        record = rounds[-1]
        if best_round(rounds) is record:
            holders = [agent for agent in self._agents() if agent.ended_round == record.round]
            written = [self._save(BEST, agent, record) for agent in self._one_or_all(holders)]
            keep_only_best(self._folder, [model.file for model in written])

    def keep_last(self, rounds: Sequence[RoundRecord]) -> list[SavedModel]:
        """Write the models as they are between two rounds."""
        ended = last_rounds(rounds)
        if self._models_agree:
            ended = {agent: record for agent, record in ended.items() if record is rounds[-1]}
        holders = [
            agent
            for agent in self._agents()
            if agent.is_server or (agent.id in ended and ended[agent.id].round == agent.round)
        ]
        return [
            self._save(LAST, agent, ended.get(agent.id, rounds[-1])) for agent in self._one_or_all(holders)
        ]

    def finish(self, rounds: Sequence[RoundRecord]) -> list[SavedModel]:
        """Write the last models; return all that the run has left."""
        return [*self.keep_last(rounds), *saved_best(self._folder)]

    def _one_or_all(self, holders: list[Agent]) -> list[Agent]:
        return holders[:1] if self._models_agree else holders

    def _save(self, kind: str, agent: Agent, record: RoundRecord) -> SavedModel:
        name = file_name(kind, None if self._models_agree else agent.id)
        facts = facts_of_round(
            self._folder.name, self._config_digest, record.round, record.metric, record.score
        )
        saved = save_model(self._folder / name, kind, agent, facts, is_own=not self._models_agree)
        return replace(saved, file=name)


def saved_best(folder: Path) -> list[SavedModel]:
    """Return what a run's folder holds of the best round."""
    return [
        replace(saved_in(path, BEST), file=str(path.relative_to(folder))) for path in files_of_best(folder)
    ]


def saved_in(path: Path, kind: str) -> SavedModel:
    """Return what a model's file says of itself. Raises InputError where it is damaged or not there."""
    found = read_model(path)
    return SavedModel(
        kind=kind,
        file=str(path),
        round=found.round,
        metric=found.metric,
        score=found.score,
        weights_sha256=found.weights_sha256,
        agent=int(found.facts["agent"]) if "agent" in found.facts else None,
    )


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list | tuple) else ()
