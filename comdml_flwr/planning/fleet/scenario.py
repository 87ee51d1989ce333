"""What changes during a run: the tables [scenario] and [[availability]] of a fleet file.

    [scenario]
    share = 0.2                 # of the agents gets another device ...
    every = 100                 # ... after every 100 rounds: in rounds 101, 201, ...
    links = true                # default false: also draw each link of these agents again
    speed_noise = 0.1           # default 0: in each round each speed is up to 10 % lower or higher

    [[availability]]            # who leaves and returns: a row holds until the agent's next one;
    round = 3                   # before its first row an agent is there
    agent = 1
    present = false

    [availability]              # or the same rows in a CSV file next to the fleet file, its first line being
    file = "trace.csv"          # round,agent,present

New devices and links are drawn from the fleet's own, see dynamics.py. The published setting of ComDML draws
the devices of 20 % of the agents again every 100 rounds, that of DTFL those of 30 % every 50.
"""

import csv
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.toml_tables import Table, is_number, is_whole

COLUMNS = ("round", "agent", "present")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How the devices of a fleet change.

    Parameters
    ----------
    share : float
        Share of the agents that get another device at a time; 0: nobody.
    every : int
        After how many rounds.
    links : bool
        Whether their links are drawn again, too.
    speed_noise : float
        Largest relative deviation of a speed in a round, in [0, 1).
    """

    share: float = 0.0
    every: int = 1
    links: bool = False
    speed_noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Who is there in which round.

    Parameters
    ----------
    changes : Mapping[int, tuple[tuple[int, bool], ...]]
        By agent, in ascending round: (first round, whether it is there from then on). An agent without
        changes, or before its first one, is there.
    file : str or None
        The CSV file that this was read from.
    """

    changes: Mapping[int, tuple[tuple[int, bool], ...]]
    file: str | None = None

    def is_present(self, agent: int, round_: int) -> bool:
        """Tell whether an agent is there in a round."""
        changes = self.changes.get(agent, ())
        place = bisect_right(changes, (round_, inf)) - 1
        return place < 0 or changes[place][1]


def read_scenario(top: Table) -> Scenario | None:
    """Read [scenario]; None if there is none."""
    if "scenario" not in top:
        return None
    table = top.table("scenario", ("share", "every", "links", "speed_noise"))
    share, noise = table.values.get("share", 0.0), table.values.get("speed_noise", 0.0)
    links = table.values.get("links", False)
    if not is_number(share, positive=False) or share > 1:
        raise table.error("share", "must be a number in [0, 1]")
    if not is_number(noise, positive=False) or noise >= 1:
        raise table.error("speed_noise", "must be a number in [0, 1)")
    if not isinstance(links, bool):
        raise table.error("links", "must be true or false")
    every = table.whole("every", lowest=1, default=None if share else 1)
    return Scenario(share=float(share), every=every, links=links, speed_noise=float(noise))


def read_availability(top: Table, ids: Collection[int], folder: Path) -> Availability | None:
    """Read [[availability]], or the CSV file that [availability] names; None if there is neither."""
    if "availability" not in top:
        return None
    if not isinstance(top.values["availability"], dict):
        tables = top.tables("availability", COLUMNS)
        return Availability(changes=_changes((_row_of_table(table, ids) for table in tables), top.place))
    table = top.table("availability", ("file",))
    name = table.values.get("file")
    if not isinstance(name, str) or not name.endswith(".csv") or Path(name).name != name:
        raise table.error("file", "must be the name of a .csv file next to the fleet file")
    return Availability(changes=_changes(_rows_of_csv(table, folder / name, ids), top.place), file=name)


def text_with_rows(text: str, availability: Availability) -> str:
    """Return a fleet file's text with rows in place of their file's name, where that stands on two lines."""
    rows = "\n".join(
        f"[[availability]]\nround = {round_}\nagent = {agent}\npresent = {str(present).lower()}"
        for agent, changes in availability.changes.items()
        for round_, present in changes
    )
    named = r"^[ \t]*\[availability\][^\n]*\n+[ \t]*file[ \t]*=[^\n]*$"
    return re.sub(named, rows, text, count=1, flags=re.MULTILINE)


_Row = tuple[int, int, bool]


def _changes(rows: Iterable[_Row], place: str) -> dict[int, tuple[tuple[int, bool], ...]]:
    changes: dict[int, dict[int, bool]] = {}
    for round_, agent, present in rows:
        own = changes.setdefault(agent, {})
        if round_ in own:
            raise InputError(f"{place} availability", f"round {round_}, agent {agent}", "must appear once")
        own[round_] = present
    return {agent: tuple(sorted(own.items())) for agent, own in sorted(changes.items())}


def _row_of_table(table: Table, ids: Collection[int]) -> _Row:
    round_, agent = table.whole("round", lowest=1), table.whole("agent", lowest=0)
    present = table.values.get("present")
    if agent not in ids:
        raise table.error("agent", "must be the id of one of [[agents]]")
    if not isinstance(present, bool):
        raise table.error("present", "must be true or false")
    return round_, agent, present


def _rows_of_csv(table: Table, path: Path, ids: Collection[int]) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise table.error("file", f"cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:  # ValueError: not UTF-8, or a name that no file can have
        raise table.error("file", f"is not CSV: {error}") from error
    if not lines or tuple(cell.strip() for cell in lines[0]) != COLUMNS:
        raise InputError(
            f"{path}: line 1", ",".join(lines[0] if lines else ()), "must be round,agent,present"
        )
    return [_row_of_line(f"{path}: row {n}", cells, ids) for n, cells in enumerate(lines[1:], 1) if cells]


def _row_of_line(place: str, cells: Sequence[str], ids: Collection[int]) -> _Row:
    texts = [cell.strip().lower() for cell in cells]
    flags = {"true": True, "1": True, "false": False, "0": False}
    if len(texts) != len(COLUMNS) or texts[2] not in flags:
        raise InputError(place, ",".join(cells), "must be a round, an agent, and true or false")
    round_, agent = (int(text) if text.isdecimal() and len(text) < 20 else None for text in texts[:2])
    if not is_whole(round_, 1):
        raise InputError(f"{place}: round", cells[0], "must be a whole number >= 1")
    if not is_whole(agent, 0) or agent not in ids:
        raise InputError(f"{place}: agent", cells[1], "must be the id of one of [[agents]]")
    return round_, agent, flags[texts[2]]
