"""What a comparison left on disk, read back: everything that the report shows comes from these files.

    FOLDER/
      comparison.json          what was compared, and the numbers of each case and method (nothing measured)
      reproduce.toml, fleets   what it takes to have it again (reproduction.py)
      elapsed.json             stopwatch seconds of each run (measured; differs from run to run)
      report.html, *.csv, plots/*.png
      runs/<case>/<label>/seed-<seed>/
        config.json rounds.jsonl agents.json summary.json    as every run writes them (results.py)
        fleet.toml software.json                             the fleet in full; versions and type of machine

Nothing else is remembered: a report can be made again from such a folder alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import is_file
from comdml_flwr.core.strict_json import read_json_file
from comdml_flwr.core.typed_json import Json, as_table, read_float, read_int
from comdml_flwr.runs.rounds_file import read_lines

COMPARISON_FILE, FLEET_FILE, SOFTWARE_FILE = "reproduce.toml", "fleet.toml", "software.json"
APP = "app"  # in software.json: the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """One finished run.

    Parameters
    ----------
    case, label : str
        What it belongs to: a case (a fleet and what else is particular) and a method under its label.
    seed : int
        Of the run.
    config, summary : Mapping
        `config.json` and `summary.json`.
    rounds : tuple[Mapping, ...]
        The lines of `rounds.jsonl`.
    agents : tuple[Mapping, ...]
        From `agents.json`: id, samples by label, speed, and the first round's timeline of each agent.
    """

    case: str
    label: str
    seed: int
    config: Mapping[str, Json]
    rounds: tuple[Mapping[str, Json], ...]
    agents: tuple[Mapping[str, Json], ...]
    summary: Mapping[str, Json]


def run_folder(folder: Path, case: str, label: str, seed: int) -> Path:
    """Return where a run's files lie in a comparison's folder."""
    return folder / "runs" / as_name(case) / as_name(label) / f"seed-{seed}"


def read_run(folder: Path, case: str, label: str, seed: int) -> RunFiles | None:
    """Read a run; None if it is not finished (it has no `summary.json`) or not complete.

    Raises
    ------
    InputError
        A file of a finished run is missing or is not what a run writes.
    """
    path = run_folder(folder, case, label, seed)
    if not is_file(path / "summary.json"):
        return None
    summary = _summary(path / "summary.json")
    if summary.get("status") == "incomplete":
        return None
    return RunFiles(
        case=case,
        label=label,
        seed=seed,
        config=read_json(path / "config.json"),
        rounds=_lines(path / "rounds.jsonl"),
        agents=_agents(path / "agents.json"),
        summary=summary,
    )


def read_json(path: Path) -> Mapping[str, Json]:
    """Read a JSON file that holds one object; InputError where it is none."""
    try:
        return _table(path, read_json_file(path))
    except OSError as error:
        raise InputError("file", str(path), error.strerror or "cannot be read") from None
    except ValueError as error:
        raise InputError("file", str(path), f"is not JSON: {error}") from None


def read_text(path: Path) -> str:
    """Read a text file; InputError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("file", str(path), error.strerror or "cannot be read") from None
    except ValueError:  # also a path with a null in it
        raise InputError("file", str(path), "is not UTF-8 text") from None


def _lines(path: Path) -> tuple[Mapping[str, Json], ...]:
    try:
        return tuple(read_lines(path))
    except OSError as error:
        raise InputError("file", str(path), error.strerror or "cannot be read") from None
    except ValueError as error:
        raise InputError("file", str(path), str(error)) from None


def _summary(path: Path) -> Mapping[str, Json]:
    summary = read_json(path)
    try:
        read_float(summary.get("elapsed_s", 0.0))
        for count in as_table(summary.get("left_out", {})).values():
            read_int(count)
    except TypeError as error:
        raise InputError("file", str(path), f"elapsed_s or left_out: {error}") from None
    return summary


def _agents(path: Path) -> tuple[Mapping[str, Json], ...]:
    agents = read_json(path).get("agents")
    if not isinstance(agents, list):
        raise InputError("file", str(path), "has no list of agents")
    return tuple(_table(path, agent) for agent in agents)


def _table(path: Path, value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise InputError("file", str(path), "holds something that is no JSON object")
    return value


def as_name(text: str) -> str:
    """Return a label as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-").lower()
