"""The table of models that can be cut says what is found now."""

import pytest

from comdml_flwr.learning.models.equality import TOLERANCE
from docs.cuttable_models import PAGE, cases, row


def columns(line):
    return [column.strip() for column in line.strip("|").split(" | ")]


WRITTEN = {columns(line)[0]: columns(line) for line in PAGE.read_text().splitlines() if line.startswith("| ")}


def test_the_table_has_enough_of_each_kind():
    names = list(WRITTEN)
    cut = [name for name, (_, _, kept, _) in WRITTEN.items() if kept.isdecimal() and int(kept)]
    assert len([name for name in cut if name.startswith("torchvision")]) >= 16
    assert len([name for name in cut if name.startswith("Hugging Face")]) >= 3
    assert len([name for name in names if name.startswith("by hand")]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("case", [*cases()], ids=lambda case: case.name)
def test_the_table_is_what_is_found(case):
    name, found, kept, told = WRITTEN[case.name]
    assert columns(row(case))[:3] == [name, found, kept]
    if int(kept):
        assert float(told) <= TOLERANCE
