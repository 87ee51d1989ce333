"""What a comparison came to, read whole and checked: `comparison.json` and the files of its runs, as values.

Nothing measured is read: a report of the same comparison is the same to the byte on every machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comdml_flwr.comparison.records import (
    FLEET_FILE,
    RunFiles,
    as_name,
    read_json,
    read_run,
    read_text,
    run_folder,
)
from comdml_flwr.errors import InputError
from comdml_flwr.planning.fleet_file import parse_fleet
from comdml_flwr.rules import broken_rule

Scalar = bool | int | float | str


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Values(_Read):
    """A number of all seeds; `spread` is the sample standard deviation, None for one seed."""

    mean: float | None
    spread: float | None = None
    by_seed: dict[int, float | None]


class Reached(Values):
    """When a target accuracy was reached; a seed's None means never, and then the mean is None, too."""

    num_reached: int
    ratio_to_reference: float | None = None


class MethodNumbers(_Read):
    """A method in `comparison.json`; times and bytes are modelled, bytes those of the whole run."""

    label: str
    settings: dict[str, Scalar]
    accuracy: Values
    virtual_time_s: Values
    bytes_sent: Values
    round_virtual_time_s: Values
    time_to: dict[float, Reached]


class _CaseNumbers(_Read):
    label: str
    fleet: str
    num_agents: int
    settings: dict[str, Scalar]
    methods: list[MethodNumbers] = Field(min_length=1)


class _ComparisonNumbers(_Read):
    name: str
    about: str
    targets: list[float]
    reference: str
    seeds: list[int] = Field(min_length=1)
    cases: list[_CaseNumbers] = Field(min_length=1)


class Pair(_Read):
    """A slow agent, its helper and their cut, in a round."""

    slow: int
    fast: int
    cut: int


class _PlanOfRound(_Read):
    pairs: list[Pair] = []
    solo: list[int] = []


class Round(_Read):
    """A line of `rounds.jsonl`, as far as a report needs it."""

    round: int
    accuracy: float
    virtual_time_s: float
    bytes_sent: int
    plan: _PlanOfRound = _PlanOfRound()


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
    """

    seed: int
    rounds: tuple[Round, ...]
    agents: tuple[AgentOfRun, ...]
    links: Mapping[int, frozenset[int]] | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A whole comparison.

    Parameters
    ----------
    name, about : str
        What it is called and what it is for.
    targets : tuple[float, ...]
        Test accuracies.
    reference : str
        Label of the method that ratios are taken to.
    seeds : tuple[int, ...]
        Of the runs of every method in every case.
    cases : tuple[Case, ...]
        In order.
    """

    name: str
    about: str
    targets: tuple[float, ...]
    reference: str
    seeds: tuple[int, ...]
    cases: tuple[Case, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of all methods, in the order in which they first occur."""
        return tuple(dict.fromkeys(method.label for case in self.cases for method in case.methods))


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison's folder.

    Raises
    ------
    InputError
        A file is missing, cut off, or not what a comparison writes; the line names it.
    """
    path = folder / "comparison.json"
    found = _check(_ComparisonNumbers, read_json(path), path)
    names = [as_name(case.label) for case in found.cases]
    for case, name in zip(found.cases, names, strict=True):
        if not name or names.count(name) > 1:
            raise InputError("case", case.label, "gives no file name of its own")
    return Comparison(
        name=found.name,
        about=found.about,
        targets=tuple(found.targets),
        reference=found.reference,
        seeds=tuple(found.seeds),
        cases=tuple(
            _read_case(folder, case, name, found) for case, name in zip(found.cases, names, strict=True)
        ),
    )


def _read_case(folder: Path, case: _CaseNumbers, name: str, found: _ComparisonNumbers) -> Case:
    for method in case.methods:
        for target in found.targets:
            if target not in method.time_to:
                raise InputError("file", str(folder / "comparison.json"), f"lacks a time to {target}")
    return Case(
        label=case.label,
        name=name,
        fleet=case.fleet,
        num_agents=case.num_agents,
        settings=case.settings,
        methods=tuple(
            Method(
                numbers=method,
                runs=tuple(_read_run(folder, case.label, method.label, seed) for seed in found.seeds),
            )
            for method in case.methods
        ),
    )


def _read_run(folder: Path, case: str, label: str, seed: int) -> Run:
    path, files = run_folder(folder, case, label, seed), read_run(folder, case, label, seed)
    if files is None:
        raise InputError("file", str(path / "summary.json"), "is missing: this run has not finished")
    rounds = tuple(_check(Round, line, path / "rounds.jsonl") for line in files.rounds)
    if not rounds or len(rounds) != _num_rounds(files, len(rounds)):
        raise InputError("file", str(path / "rounds.jsonl"), "lacks rounds that summary.json counts")
    agents = [_check(AgentOfRun, agent, path / "agents.json") for agent in files.agents]
    return Run(
        seed=seed,
        rounds=rounds,
        agents=tuple(sorted(agents, key=lambda agent: agent.agent)),
        links=_read_links(path / FLEET_FILE),
    )


def _read_links(path: Path) -> Mapping[int, frozenset[int]] | None:
    if not path.is_file():
        return None
    fleet = parse_fleet(read_text(path), str(path))
    return {
        agent: frozenset(other for other, link in links.items() if link.bytes_per_s)
        for agent, links in fleet.links_by_agent().items()
    }


def _num_rounds(files: RunFiles, otherwise: int) -> int:
    counted = files.summary.get("num_rounds", otherwise)
    return counted if isinstance(counted, int) else otherwise


_Kind = TypeVar("_Kind", bound=_Read)


def _check(kind: type[_Kind], values: Mapping[str, object], path: Path) -> _Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError("file", str(path), f"{where}: {broken_rule(first)}") from None
