"""A comparison's folder, read whole and checked: `comparison.json` and the files of its runs, as values.

Nothing measured is read: a report of the same comparison is the same to the byte on every machine.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from comdml_flwr.comparison.contents import (
    AgentOfRun,
    Case,
    CaseNumbers,
    Comparison,
    ComparisonNumbers,
    ConfigOfRun,
    Method,
    Round,
    Run,
    SoftwareOfRun,
)
from comdml_flwr.comparison.records import (
    COMPARISON_FILE,
    FLEET_FILE,
    SOFTWARE_FILE,
    RunFiles,
    as_name,
    read_json,
    read_run,
    read_text,
    run_folder,
)
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.rules import broken_rule
from comdml_flwr.planning.fleet.fleet_file import parse_fleet


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison's folder.

    Raises
    ------
    InputError
        A file is missing, cut off, or not what a comparison writes; the line names it.
    """
    path = folder / "comparison.json"
    found = _check(ComparisonNumbers, read_json(path), path)
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
        inputs=_read_inputs(folder),
    )


def _read_inputs(folder: Path) -> Mapping[str, str]:
    """Read the comparison file, and the fleets that lie in its folder."""
    path = folder / COMPARISON_FILE
    if not path.is_file():
        return {}
    text = read_text(path)
    try:
        cases = tomllib.loads(text).get("cases", [])
    except (ValueError, RecursionError) as error:
        raise InputError("file", str(path), f"is not TOML: {error}") from None
    tables = [case for case in cases if isinstance(case, Mapping)] if isinstance(cases, list) else []
    fleets = dict.fromkeys(name for case in tables if (name := str(case.get("fleet"))).endswith(".toml"))
    for name in fleets:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError("file", str(path), f"names {name}, which is not in its folder")
    return {path.name: text} | {name: read_text(folder / name) for name in fleets}


def _read_case(folder: Path, case: CaseNumbers, name: str, found: ComparisonNumbers) -> Case:
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
        config=_check(ConfigOfRun, {"keys": files.config}, path / "config.json").keys,
        software=_read_software(path / SOFTWARE_FILE),
    )


def _read_software(path: Path) -> Mapping[str, str]:
    return _check(SoftwareOfRun, {"versions": read_json(path)}, path).versions if path.is_file() else {}


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


_Kind = TypeVar("_Kind", bound=BaseModel)


def _check(kind: type[_Kind], values: Mapping[str, object], path: Path) -> _Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        metric = str(values.get("metric", "accuracy"))  # what stands in the file for `score`
        where = ".".join(metric if part == "score" else str(part) for part in first["loc"])
        raise InputError("file", str(path), f"{where}: {broken_rule(first)}") from None
