"""The ServerApp's part in the models that a run leaves: it says which round was the best, and where they lie.

It reads no weight. Where nodes write into the folder of the run that all see, it moves the files into the
folder with the results; elsewhere it notes which files each node has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flwr.app import ConfigRecord

from comdml_flwr.carriers.direct.deadlines import FACTOR
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import read_file, write_file
from comdml_flwr.flower.clientapp.models import FACT, ModelNews, place_of_models, read_written
from comdml_flwr.flower.records import NO_STATE, integer
from comdml_flwr.flower.serverapp.federation import Federation
from comdml_flwr.flower.serverapp.messenger import SHORTEST_PATIENCE_S
from comdml_flwr.runs.model_files import BEST, LAST, config_sha256, file_name, keep_only_best, read_model
from comdml_flwr.runs.records import RoundRecord
from comdml_flwr.runs.trained_models import (
    SavedModel,
    best_round,
    last_rounds,
    saved_best,
    saved_in,
    took_part,
)


class NodeModels:
    """Lets the nodes write their models: a `ModelKeeper`.

    Parameters
    ----------
    federation : Federation
        The nodes, and the folder that they may share.
    models_agree : bool
        Whether all who took part in a round end it with the same model.
    settle : Callable[[], Mapping[int, ConfigRecord]]
        As for `NodeCheckpoints`; called once all rounds are over.
    rounds : Sequence[RoundRecord]
        Those that were over when the run began.
    """

    def __init__(
        self,
        federation: Federation,
        settle: Callable[[], Mapping[int, ConfigRecord]],
        *,
        models_agree: bool,
        rounds: Sequence[RoundRecord] = (),
    ) -> None:
        self._federation, self._settle, self._models_agree = federation, settle, models_agree
        self._say = federation.messenger.display.say
        self._rounds, self._best = tuple(rounds), best_round(rounds)
        self._ended: dict[int, RoundRecord] = {}  # found when it is needed; see `_ended_by_agent`
        self._folder, self._config_digest = Path("run"), ""

    def write_into(self, run_folder: Path, config: RunConfig) -> None:
        """Say in which folder the run's results are, and with which configuration it runs."""
        self._folder, self._config_digest = run_folder, config_sha256(config.with_defaults_named())

    def round_ended(self, rounds: Sequence[RoundRecord]) -> None:
        """Find out which round was the best; the nodes hear of it with their next message."""
        self._rounds, self._best = tuple(rounds), best_round(rounds)
        self._ended.clear()

    def facts(self, agent: int, *, writes_last: bool = False) -> dict[str, str]:
        """Return what an agent's node is told with a message."""
        best, last = self._best, None
        if writes_last and agent in self._last_writers():
            last = self._ended_by_agent()[agent]
        news = ModelNews(
            run=self._folder.name,
            config_sha256=self._config_digest,
            is_own=not self._models_agree,
            best_round=best.round if best and agent in self._writers(best) else 0,
            best_score=best.score if best else None,
            last_round=last.round if last else 0,
            last_score=last.score if last else None,
        )
        return {FACT: news.pack()}

    def collect(self) -> None:
        """Take what nodes have written into the folder that all see into the run's folder."""
        if self._federation.shares_folder and self._rounds:
            for agent in self._last_writers():
                self._take(LAST, agent, self._ended_by_agent()[agent].round)
            taken: list[str] = []
            for agent in took_part(self._best) if self._best else ():
                if self._best and not (taken and self._models_agree):
                    taken += self._take(BEST, agent, self._best.round)
            if taken:
                keep_only_best(self._folder, taken)

    def finish(self, rounds: Sequence[RoundRecord]) -> list[SavedModel]:
        """Let the nodes write their last models; return all that the run has left."""
        self.round_ended(rounds)
        told = self._ask()
        if not self._federation.shares_folder:
            return [
                replace(model, node=agent)
                for agent, models in sorted(told.items())
                for model in models
                if model.kind == LAST or (self._best and model.round == self._best.round)
            ]
        self.collect()
        names = [(LAST, self._name(LAST, agent)) for agent in self._last_writers()]
        last = [
            replace(saved_in(self._folder / name, kind), file=name)
            for kind, name in names
            if (self._folder / name).exists()
        ]
        return [*last, *saved_best(self._folder)]

    def _writers(self, record: RoundRecord) -> tuple[int, ...]:
        """Return who writes the model of a round: all who have it, or one of them if that is enough."""
        holders = took_part(record)
        return holders[:1] if self._models_agree and self._federation.shares_folder else holders

    def _last_writers(self) -> tuple[int, ...]:
        ended, newest = self._ended_by_agent(), self._rounds[-1]
        holders = tuple(agent for agent in ended if agent not in newest.gone)
        if not (self._models_agree and self._federation.shares_folder):
            return holders
        return tuple(agent for agent in holders if ended[agent] is newest)[:1]

    def _ended_by_agent(self) -> dict[int, RoundRecord]:
        if not self._ended:
            self._ended |= last_rounds(self._rounds)
        return self._ended

    def _ask(self) -> dict[int, list[SavedModel]]:
        """Let the nodes write; return what each has."""
        asked = {*self._last_writers(), *(self._writers(self._best) if self._best else ())}
        facts = {
            agent: ConfigRecord({**about, **self.facts(agent, writes_last=True)})
            for agent, about in self._settle().items()
            if agent in asked and integer(about, "previous") != NO_STATE
        }
        try:
            told, failed = self._federation.ask(
                "train.model",
                facts,
                lambda facts: read_written(facts[FACT]),
                what="writing its model",
                patience_s=max(SHORTEST_PATIENCE_S, FACTOR * self._federation.hello_s),
            )
        except RunError as error:  # what was trained is not lost by that
            self._say(f"the trained models are not written: {error}")
            return {}
        for failure in failed.values():
            self._say(str(failure))
        return told

    def _take(self, kind: str, agent: int, round_: int) -> list[str]:
        """Move an agent's file into the run's folder if it is of a round; return its name there, if any."""
        source = place_of_models(self._federation.folder, "", agent) / file_name(kind)
        try:
            if not source.exists() or read_model(source).round != round_:
                return []
        except InputError as error:
            self._say(str(error))
            return []
        name = self._name(kind, agent)
        target = self._folder / name
        write_file(target, bytes(read_file(source)), sync=True)
        source.unlink()
        return [name]

    def _name(self, kind: str, agent: int) -> str:
        return file_name(kind, None if self._models_agree else agent)
