"""Outcome of a comparison, as values: `comparison.json` and the files of its runs (read in reading.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, model_validator

from comdml_flwr.learning.metrics import Better
from comdml_flwr.runs.evaluated import known_after, last_evaluated

Scalar = bool | int | float | str


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def metric_words(metric: str) -> str:
    """Return a metric's name for people."""
    return metric.replace("_", " ")


def _with_score(values: object) -> object:
    """Give the metric that counts, which has a name of its own, the name `score`."""
    if isinstance(values, Mapping) and "score" not in values:
        metric = values.get("metric", "accuracy")
        return {**values, "score": values[metric]} if metric in values else values
    return values


def _with_scores(values: object) -> object:
    """Give that metric the name `score` in a round and in its agents' own tests."""
    if isinstance(values, Mapping) and isinstance(values.get("own_tests"), Mapping):
        named = {"metric": values.get("metric", "accuracy")}
        own = {
            agent: _with_score({**told, **named}) if isinstance(told, Mapping) else told
            for agent, told in values["own_tests"].items()
        }
        values = {**values, "own_tests": own}
    return _with_score(values)


class Values(_Read):
    """A number of all seeds; `spread` is the sample standard deviation, None for one seed."""

    mean: float | None
    spread: float | None = None
    by_seed: dict[int, float | None]


class Reached(Values):
    """When a target was reached; a seed's None means never, and then the mean is None, too."""

    num_reached: int
    ratio_to_reference: float | None = None


class MethodNumbers(_Read):
    """A method in `comparison.json`; times and bytes are modelled, bytes those of the whole run.

    `score` is the task's metric after the last round; in the file it stands under the metric's own name.
    `left_out` tells by seed in how many rounds an agent's share was left out, where any was.
    """

    label: str
    settings: dict[str, Scalar]
    metric: str = "accuracy"
    better: Better = "higher"
    score: Values
    virtual_time_s: Values
    bytes_sent: Values
    round_virtual_time_s: Values
    time_to: dict[float, Reached]
    left_out: dict[int, dict[int, int]] = {}

    _score = model_validator(mode="before")(_with_score)


class CaseNumbers(_Read):
    """A case in `comparison.json`."""

    label: str
    fleet: str
    num_agents: int
    settings: dict[str, Scalar]
    methods: list[MethodNumbers] = Field(min_length=1)


class ComparisonNumbers(_Read):
    """`comparison.json`."""

    name: str
    about: str
    targets: list[float]
    reference: str
    seeds: list[int] = Field(min_length=1)
    cases: list[CaseNumbers] = Field(min_length=1)


class Pair(_Read):
    """A slow agent, its helper and their cut, in a round."""

    slow: int
    fast: int
    cut: int


class _PlanOfRound(_Read):
    pairs: list[Pair] = []
    solo: list[int] = []


class OwnTest(_Read):
    """What an agent with test data of its own came to in a round."""

    score: float | None
    sums: dict[str, float | None] = {}


class Round(_Read):
    """A line of `rounds.jsonl`, as far as a report needs it."""

    round: int
    metric: str = "accuracy"
    score: float | None
    num_evaluated: int | None = None
    virtual_time_s: float
    bytes_sent: int
    plan: _PlanOfRound = _PlanOfRound()
    own_tests: dict[int, OwnTest] = {}

    _score = model_validator(mode="before")(_with_scores)


class Span(_Read):
    """What an agent did in the first round from one virtual second to another."""

    what: str
    start_s: float
    end_s: float
    peer: int | None = None


class AgentOfRun(_Read):
    """An agent in `agents.json`; id -1 is the server of a hub method, which has no samples."""

    agent: int
    num_samples: int = 0
    label_counts: list[int] = []
    timeline: list[Span] = []


class ConfigOfRun(_Read):
    """`config.json`."""

    keys: dict[str, Scalar]


class SoftwareOfRun(_Read):
    """`software.json`."""

    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished run.

    Parameters
    ----------
    seed : int
        Of the run.
    rounds : tuple[Round, ...]
        In order.
    agents : tuple[AgentOfRun, ...]
        In ascending id.
    links : Mapping[int, frozenset[int]] or None
        By agent, with whom it is linked; None: the run's folder does not tell its fleet.
    config : Mapping[str, Scalar]
        All its settings, defaults included.
    software : Mapping[str, str]
        Versions and type of machine, by name; empty where they were not kept.
    """

    seed: int
    rounds: tuple[Round, ...]
    agents: tuple[AgentOfRun, ...]
    links: Mapping[int, frozenset[int]] | None = None
    config: Mapping[str, Scalar] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def last_evaluated(self) -> Round:
        """The last round in which a test sample was evaluated; the last one where there is none."""
        return last_evaluated(self.rounds)

    @property
    def known_scores(self) -> list[float | None]:
        """The metric as it is known after each round: of the last in which a test sample was evaluated."""
        return known_after((one.num_evaluated != 0, one.score) for one in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method in a case: its numbers, and its runs in the order of the comparison's seeds."""

    numbers: MethodNumbers
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """Return what the comparison calls it."""
        return self.numbers.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fleet and what else is particular, with all methods.

    Parameters
    ----------
    label, name : str
        What the comparison calls it, and the same as part of a file's name.
    fleet : str
        Name of the fleet file or preset.
    num_agents : int
        How many agents took part.
    settings : Mapping[str, Scalar]
        Keys of the run configuration that the case sets.
    methods : tuple[Method, ...]
        In the order of the comparison.
    """

    label: str
    name: str
    fleet: str
    num_agents: int
    settings: Mapping[str, Scalar]
    methods: tuple[Method, ...]

    @property
    def metric(self) -> str:
        """Name of the task's metric that counts, for people."""
        return metric_words(self.methods[0].numbers.metric)

    @property
    def better(self) -> Better:
        """Which of its values is the better one."""
        return self.methods[0].numbers.better


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A whole comparison.

    Parameters
    ----------
    name, about : str
        What it is called and what it is for.
    targets : tuple[float, ...]
        Of the task's metric.
    reference : str
        Label of the method that ratios are taken to.
    seeds : tuple[int, ...]
        Of the runs of every method in every case.
    cases : tuple[Case, ...]
        In order.
    inputs : Mapping[str, str]
        The comparison file and the fleets that it names, as text by path; empty where they were not kept.
    """

    name: str
    about: str
    targets: tuple[float, ...]
    reference: str
    seeds: tuple[int, ...]
    cases: tuple[Case, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """Name of the task's metric that counts, for people."""
        return self.cases[0].metric

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of all methods, in the order in which they first occur."""
        return tuple(dict.fromkeys(method.label for case in self.cases for method in case.methods))
