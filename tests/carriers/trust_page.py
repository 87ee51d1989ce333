"""Writes the table of lies on the page of trust: `python -m tests.carriers.trust_page`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.carriers.lies import LIAR, LIES
from tests.carriers.lying import run_with
from tests.carriers.sealed_lies import PACKED_LIES, rounds_with

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "trust.md"
BEGIN, END = "<!-- lies -->\n", "<!-- end of lies -->"


def outcome_of(lie):
    """Return in words what becomes of a lie."""
    found = run_with(lie)
    if lie.is_possible:
        return "cannot be known to be false: below"
    if lie.liar in found.gone:
        words = "given up for the round, and admitted again"
    elif lie.liar in found.distrusted:
        words = "left out, and named"
    else:
        words = "of no effect"
    return words + (f"; an honest agent misses {found.lost} round" if found.lost else "")


def packed_outcome_of(lie):
    """Return in words what becomes of a lie in the place of packed mail."""
    with TemporaryDirectory() as folder:
        _, *told = rounds_with(lie, "allreduce", Path(folder))
    assert all({*record["gone"]} <= {LIAR} and LIAR in record["distrusted"] for record in told)
    return "left out, and named"


def table():
    """Return the table: for each kind of mail and outcome, the false values."""
    rows = {}
    for lie in LIES:
        rows.setdefault((lie.kind, outcome_of(lie)), []).append(lie.what)
    for lie in PACKED_LIES:
        rows.setdefault(("packed mail, on the grid", packed_outcome_of(lie)), []).append(lie.what)
    lines = ["| mail | false value | what becomes of it |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {'; '.join(whats)} | {outcome} |" for (kind, outcome), whats in rows.items()]
    return "".join(f"{line}\n" for line in lines)


def page(text):
    """Return the page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    PAGE.write_text(page(PAGE.read_text()))
