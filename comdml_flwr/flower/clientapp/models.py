"""A node's part in the models that a run leaves: it writes its agent's, and says where they lie.

Where all nodes see the run's folder, that is in there, and the ServerApp takes the files from there into the
folder with the results. Elsewhere no weight leaves its node: the files stay in Flower's own folder
(`FLWR_HOME`, by default `~/.flwr`), in `comdml-flwr/models/RUN/agent-N`, after the run has ended, too.

With every message a node is told which round was the best so far (`ModelNews`); if its agent has just ended
that round, it writes the model before it goes on. Where mail goes from peer to peer, many rounds for each
message, agents know a round's metric from each other.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from comdml_flwr.agents.agent import Agent
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.flower.mail import lasting_place
from comdml_flwr.learning.metrics import rank
from comdml_flwr.runs.model_files import BEST, LAST, file_name
from comdml_flwr.runs.trained_models import SavedModel, facts_of_round, save_model, saved_in

log = logging.getLogger(__name__)

FACT = "models"  # of messages: what is told, and of replies: what was written


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNews:
    """What a node is told about the models of a run.

    Parameters
    ----------
    run : str
        Name of the run's folder.
    config_sha256 : str
        Digest of its configuration.
    is_own : bool
        Whether the agents' models differ.
    best_round : int
        The best round so far, if this node is to write its model; otherwise 0.
    best_score : float, optional
        The task's metric, of the best round so far; None if there is none.
    last_round : int
        The last round of this agent, if the node is to write the model as it is now; otherwise 0.
    last_score : float, optional
        The metric, of the run in that round; None if it is not known.
    """

    run: str
    config_sha256: str
    is_own: bool
    best_round: int = 0
    best_score: float | None = None
    last_round: int = 0
    last_score: float | None = None

    def pack(self) -> str:
        """Return it as a fact of a message."""
        return json.dumps(asdict(self))


def read_news(packed: object) -> ModelNews:
    """Return what a message tells.

    Raises
    ------
    RunError
        It is none, or names no folder of a run: it might name another place.
    """
    try:
        news = ModelNews(**json.loads(str(packed)))
        is_run = re.fullmatch(r"\w[\w.-]*", news.run) is not None
    except (TypeError, ValueError):
        is_run = False
    if not is_run:
        raise RunError(f"{str(packed)[:80]!r} in a message says nothing about a run's models")
    return news


def place_of_models(shared_folder: Path | None, run: str, agent: int) -> Path:
    """Return where a node keeps the models of an agent; `shared_folder` is the run's, if all nodes see it."""
    if shared_folder is not None:
        return shared_folder / "models" / str(agent)
    return lasting_place() / "models" / run / f"agent-{agent}"


def write_best(agent: Agent, news: ModelNews, place: Path) -> None:
    """Write the model with which the agent ended its last round, if that was the best one.

    A disk that does not take it costs the run nothing else.
    """
    if news.best_round and agent.ended_round == news.best_round and news.best_score is not None:
        _write_best(agent, news, place, news.best_score)


def _write_best(agent: Agent, news: ModelNews, place: Path, score: float) -> None:
    metric = agent.setup.task.metrics.primary
    facts = facts_of_round(news.run, news.config_sha256, agent.ended_round, metric, score)
    try:
        save_model(place / file_name(BEST), BEST, agent, facts, is_own=news.is_own)
    except OSError as error:
        log.warning("agent %d: its best model is not written: %s", agent.id, error)


def write_last(agent: Agent, news: ModelNews, place: Path) -> None:
    """Write the model as it is between two rounds, if that is asked for.

    Raises
    ------
    RunError
        The disk does not take it.
    """
    if news.last_round:
        metric = agent.setup.task.metrics.primary
        facts = facts_of_round(news.run, news.config_sha256, news.last_round, metric, news.last_score)
        path = place / file_name(LAST)
        try:
            save_model(path, LAST, agent, facts, is_own=news.is_own)
        except OSError as error:
            raise RunError(f"{path} is not written: {error.strerror or error}") from None


def written(place: Path) -> list[SavedModel]:
    """Return the models that lie on this node; one that is damaged is none."""
    found = []
    for kind in (LAST, BEST):
        path = place / file_name(kind)
        try:
            found += [saved_in(path, kind)] if path.exists() else []
        except InputError as error:
            log.warning("%s", error)
    return found


class BestOfMessage:
    """Finds the best round among those that one message starts, and writes its model.

    Parameters
    ----------
    agent : Agent
        Whose rounds.
    news : ModelNews
        With the best metric before.
    place : Path
        Where the model goes.
    """

    def __init__(self, agent: Agent, news: ModelNews, place: Path) -> None:
        self._agent, self._news, self._place = agent, news, place
        self._better = agent.setup.task.metrics.better
        self._best = -inf if news.best_score is None else rank(news.best_score, self._better)

    def round_ended(self, score: float | None) -> None:
        """Write the model if the round that has just ended was the best; None: its metric is not known."""
        if score is not None and rank(score, self._better) > self._best:
            self._best = rank(score, self._better)
            _write_best(self._agent, self._news, self._place, score)


def pack_written(models: list[SavedModel]) -> str:
    """Return models as a fact of a reply."""
    return json.dumps([model.as_json() for model in models])


def read_written(packed: object) -> list[SavedModel]:
    """Return the models that a node says it has. Raises RunError where it says something else."""
    try:
        listed = [_read_saved(entry) for entry in json.loads(str(packed))]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RunError(f"{str(packed)[:80]!r} in a reply is no list of models") from None
    return listed


def _read_saved(entry: Mapping[str, object]) -> SavedModel:
    kind, path, digest = (str(entry[name]) for name in ("kind", "file", "weights_sha256"))
    if kind not in (LAST, BEST) or not path.isprintable() or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(kind)
    metric, round_, agent = str(entry["metric"]), entry["round"], entry.get("agent")
    score = entry[metric]
    is_name = metric.isidentifier() and metric not in SavedModel.__slots__
    if not isinstance(round_, int) or not isinstance(score, int | float) or not is_name:
        raise TypeError
    whose = agent if isinstance(agent, int) else None
    return SavedModel(
        kind=kind,
        file=path,
        round=round_,
        metric=metric,
        score=score,
        weights_sha256=digest,
        agent=whose,
    )
