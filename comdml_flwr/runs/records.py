"""Records of rounds and runs: added up from reports, and written as JSON (read in record_reading.py)."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Report
from comdml_flwr.core.round_metrics import combine_metrics
from comdml_flwr.core.typed_json import Json
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, Better, Metrics, add_sums, counted, read_sums
from comdml_flwr.planning.types import SERVER
from comdml_flwr.runs.own_tests import own_tests_of
from comdml_flwr.runs.report_numbers import digests_of, most_of, named_in, number_in, sum_of

_OF_AGENTS = ("device", "batches_per_s", "timeline")


def _naming(line: str, *, is_reported: bool = True, left_out: bool = True) -> dict[str, Any]:
    """Return the metadata of a field that lists agents.

    Parameters
    ----------
    line : str
        What people are told where it names anybody; `{agents}` stands for those.
    is_reported : bool
        Whether agents name each other in their reports, under the field's name.
    left_out : bool
        Whether a share of theirs is not in the round's model.
    """
    return {"line": line, "is_reported": is_reported, "left_out": left_out}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """Outcome of one round: a line of `rounds.jsonl`.

    Parameters
    ----------
    round : int
        Counted from 1.
    scores : dict[str, float or None]
        The task's metrics and "loss" by name, on the whole test set after the round; where the agents' models
        differ, each on its own part of it. None: it was not finite, or over no sample.
    num_evaluated : int, optional
        Test samples that these are of; 0: nobody who took part has any. None: it is not known.
    metric : str
        Name of the one that counts: that targets and the choice of the best model use.
    better : "higher" or "lower"
        Which of its values is the better one.
    virtual_time_s : float
        Virtual end of the round, averaging included (modelled).
    makespan_s, predicted_s : float
        End of training by the virtual clock, and as predicted by the plan (both modelled).
    no_offload_virtual_time_s, no_offload_makespan_s : float or None
        The same round if every agent trained alone (modelled); None for a method that predicts nothing.
    elapsed_s : float
        Stopwatch, this machine (measured).
    evaluation_s : float
        The part of it that the agent with the longest evaluation took for that (measured); the modelled times
        know no evaluation.
    bytes_sent : int
        By all agents together.
    plan : dict
        `pairs` as in `comdml plan --json`, and the ids of those who trained alone.
    refused : list[int]
        Slow agents whose share was left out because they and their helper disagreed on the plan.
    gone : list[int]
        Who was missing at the end of the round, having failed in it or before.
    taken_back : list[int]
        Slow agents that trained their upper layers themselves, as their helpers were gone.
    not_finite : list[int]
        Agents whose share was left out because it held NaN or infinity (with SplitFed, at least a batch).
    distrusted : list[int]
        Agents that said what cannot be, or what was not for them to say; that was left out.
    not_committed : list[int]
        Agents whose previous weights stayed, as the results of the round differed.
    num_agents : int
        How many took part.
    metrics : dict[str, float or None]
        The method's own numbers, by name (round_metrics.py); None is one that was not finite.
    own_tests : dict[str, Mapping]
        By id, of each agent that has test data of its own: its metric and sums (own_tests.py).
    agents : tuple[Mapping, ...]
        Of the first round only: each agent's data, speed and timeline, for `agents.json`.
    """

    round: int
    scores: dict[str, float | None]
    num_evaluated: int | None = None
    metric: str = "accuracy"
    better: Better = "higher"
    virtual_time_s: float
    makespan_s: float
    predicted_s: float
    no_offload_virtual_time_s: float | None
    no_offload_makespan_s: float | None
    elapsed_s: float
    evaluation_s: float
    bytes_sent: int
    num_agents: int
    plan: dict[str, Json]
    refused: list[int] = field(
        default_factory=list,
        metadata=_naming("{agents}: the helper disagreed on the plan, so the share is left out"),
    )
    gone: list[int] = field(
        default_factory=list,
        metadata=_naming("gone: {agents}; the others go on", is_reported=False),
    )
    taken_back: list[int] = field(
        default_factory=list,
        metadata=_naming(
            "{agents} trained the upper layers themselves: their helper is gone", left_out=False
        ),
    )
    not_finite: list[int] = field(
        default_factory=list,
        metadata=_naming("{agents}: training gave NaN or infinity, which is left out"),
    )
    distrusted: list[int] = field(
        default_factory=list,
        metadata=_naming("{agents}: said what cannot be, which is left out; the log has the reason"),
    )
    not_committed: list[int] = field(
        default_factory=list,
        metadata=_naming(
            "the agents' results differed: the round is not committed, the previous weights stay"
        ),
    )
    metrics: dict[str, float | None] = field(default_factory=dict)
    own_tests: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    agents: tuple[Mapping[str, Json], ...] = ()

    @property
    def score(self) -> float | None:
        """The metric that counts; None: it was not finite, or over no sample."""
        return self.scores[self.metric]

    @property
    def is_evaluated(self) -> bool:
        """Whether the model was evaluated after this round; else its metrics say nothing of it."""
        return self.num_evaluated != 0

    @property
    def loss(self) -> float | None:
        """The mean loss; None: it was not finite, or over no sample."""
        return self.scores["loss"]

    @property
    def left_out(self) -> frozenset[int]:
        """Whose share is not in this round's model, or not all of it, for whatever reason."""
        return frozenset(
            agent for name, about in AGENT_LISTS.items() if about["left_out"] for agent in getattr(self, name)
        )


AGENT_LISTS: Mapping[str, Mapping[str, Any]] = {
    one.name: one.metadata for one in fields(RoundRecord) if "line" in one.metadata
}
"""Field of a round's record that lists agents -> what is known of it, see `_naming`."""
_FIELDS = frozenset(one.name for one in fields(RoundRecord))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run's rounds so far, and what is known between two rounds besides the agents' states.

    Parameters
    ----------
    rounds : tuple[RoundRecord, ...]
        Those that are over, from the first on.
    digests : Mapping[int, str]
        The last digest of each agent that holds a whole model.
    gone : tuple[int, ...]
        Agents that do not have the current model, having failed.
    """

    rounds: tuple[RoundRecord, ...] = ()
    digests: Mapping[int, str] = field(default_factory=dict)
    gone: tuple[int, ...] = ()

    def with_round(
        self, record: RoundRecord, reports: Mapping[int, Report], gone_next: Iterable[int] = ()
    ) -> "RunRecord":
        """Return this record and one round more: its own record, its reports, and who lacks its model."""
        return replace(
            self,
            rounds=(*self.rounds, record),
            digests={**self.digests, **digests_of(reports)},
            gone=tuple(sorted(gone_next)),
        )

    @property
    def last(self) -> RoundRecord:
        """The round that ended last."""
        return self.rounds[-1]

    @property
    def weights_sha256(self) -> str:
        """Digest of all agents' float weights in id order (of their digests: each has only its own model)."""
        in_order = "".join(digest for _, digest in sorted(self.digests.items()))
        return hashlib.sha256(in_order.encode()).hexdigest()

    @property
    def elapsed_s(self) -> float:
        """How long the rounds took together (measured)."""
        return sum(record.elapsed_s for record in self.rounds)

    @property
    def diverged(self) -> bool:
        """Whether in every round the training of every agent gave NaN or infinity."""
        return all(len({*record.not_finite}) >= record.num_agents for record in self.rounds)

    @property
    def missing(self) -> list[int]:
        """Who was gone at the end, having failed: the run is incomplete if there is anybody."""
        return self.last.gone

    @property
    def mostly_gone(self) -> list[int]:
        """The rounds at whose end more agents were gone than had taken part."""
        return [record.round for record in self.rounds if len(record.gone) > record.num_agents]

    @property
    def lost_most(self) -> bool:
        """Whether most of the rounds, or the last one, were left to fewer than half of the agents."""
        mostly_gone = self.mostly_gone
        return self.last.round in mostly_gone or 2 * len(mostly_gone) > len(self.rounds)

    @property
    def is_complete(self) -> bool:
        """Whether the run did what it was to do."""
        return not (self.missing or self.diverged or self.lost_most)


def add_up(
    round_: int,
    reports: Mapping[int, Report],
    elapsed_s: float,
    *,
    gone: Iterable[int] = (),
    distrusted: Iterable[int] = (),
    models_agree: bool = True,
    metrics: Metrics = CLASSIFICATION_METRICS,
) -> RoundRecord:
    """Return the record of a round from its reports: of all who took part, and of the server.

    Of one who is gone, or `distrusted`, there is no report: the test samples of its share are not among those
    of the metrics, which are those of the agents' task.

    A method that predicts nothing is its own forecast, and has no times without offload. Where nobody who
    took part has a test sample, the metrics are None.

    Raises
    ------
    RunError
        After AllReduce all who took part must hold the same weights; the line names two that do not. Or
        nobody has reported, or the agents' task has other metrics.
    """
    if not reports:
        raise RunError(f"round {round_}: nobody who took part has ended it")
    by_digest: dict[str, int] = {}
    for agent, digest in digests_of(reports).items():
        by_digest.setdefault(digest, agent)
    if models_agree and len(by_digest) > 1:
        one, other, *_ = by_digest.values()
        raise RunError(f"round {round_}: agents {one} and {other} hold different weights after averaging")
    sums = add_sums((read_sums(report, metrics) for _, report in sorted(reports.items())), metrics)
    scores = metrics.of(sums)
    if taken := sorted(scores.keys() & _FIELDS):
        raise RunError(f"{taken[0]} is a name that each round's record has, and no metric's")
    record = unscored(round_, reports, elapsed_s, gone=gone, metrics=metrics)
    return replace(
        record,
        scores=scores,
        num_evaluated=0 if sums == dict(metrics.nothing) else counted(sums, "num_evaluated"),
        distrusted=sorted({*record.distrusted, *distrusted}),
    )


def unscored(
    round_: int,
    reports: Mapping[int, Report],
    elapsed_s: float = 0.0,
    *,
    gone: Iterable[int] = (),
    metrics: Metrics,
) -> RoundRecord:
    """Return the record of a round without its metrics. Raises RunError where a report cannot be."""
    virtual_time_s, makespan_s = most_of(reports, "end_s"), most_of(reports, "training_end_s")
    forecast = next((r for r in reports.values() if "predicted_s" in r), {})
    return RoundRecord(
        round=round_,
        scores={metrics.primary: None, "loss": None},
        num_evaluated=None,
        metric=metrics.primary,
        better=metrics.better,
        virtual_time_s=virtual_time_s,
        makespan_s=makespan_s,
        predicted_s=number_in(forecast, "predicted_s") if forecast else makespan_s,
        no_offload_virtual_time_s=number_in(forecast, "no_offload_virtual_time_s") if forecast else None,
        no_offload_makespan_s=number_in(forecast, "no_offload_makespan_s") if forecast else None,
        elapsed_s=elapsed_s,
        evaluation_s=most_of(reports, "evaluation_s"),
        bytes_sent=int(sum_of(reports, "bytes_sent")),
        num_agents=len(reports.keys() - {SERVER}),
        plan=_plan(reports),
        gone=sorted(gone),
        metrics=combine_metrics(report.get("metrics", {}) for _, report in sorted(reports.items())),
        own_tests=own_tests_of(reports, metrics),
        agents=tuple(
            {"agent": agent, **_table(report["data"]), **{name: report[name] for name in _OF_AGENTS}}
            for agent, report in sorted(reports.items())
            if "timeline" in report
        ),
        **{name: named_in(reports, name) for name, about in AGENT_LISTS.items() if about["is_reported"]},
    )


def as_json(record: RoundRecord) -> dict[str, Json]:
    """Return a line of `rounds.jsonl`."""
    values = {name: value for name, value in asdict(record).items() if name not in ("agents", "scores")}
    return {"round": values.pop("round"), **record.scores, **values}


def score_names(line: Iterable[str]) -> list[str]:
    """Return the names of the task's metrics in a line of `rounds.jsonl`: what is no field of a record."""
    return [name for name in line if name not in _FIELDS]


def _plan(reports: Mapping[int, Report]) -> dict[str, Json]:
    pairs = [report["pair"] for _, report in sorted(reports.items()) if "pair" in report]
    paired = {agent for pair in pairs if isinstance(pair, Mapping) for agent in (pair["slow"], pair["fast"])}
    agents = sorted(reports.keys() - {SERVER})
    return {"pairs": pairs, "solo": [agent for agent in agents if agent not in paired]}


def _table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
