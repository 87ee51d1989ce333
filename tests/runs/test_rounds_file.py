"""The lines of `rounds.jsonl`: whichever is changed, lost or moved is found, by its number."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comdml_flwr.core.strict_json import to_json
from comdml_flwr.runs.rounds_file import KEY, Chain, read_lines

TABLES = [{"round": number, "loss": 1 / number, "plan": {"pairs": []}} for number in range(1, 6)]


def linked(tables, chain=None):
    chain = chain or Chain()
    return [chain.link(table) for table in tables]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "rounds.jsonl"


def read(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return read_lines(path)


def test_what_was_written_is_read(path):
    assert read(path, linked(TABLES)) == TABLES
    assert read_lines(path, 2) == TABLES[:2]
    assert read(path, []) == []


def test_each_line_is_json_with_its_digest_last(path):
    *_, last = (json.loads(line) for line in linked(TABLES))
    assert list(last) == [*TABLES[-1], KEY]
    assert len(last[KEY]) == 64


@given(st.data())
def test_a_line_that_is_changed_is_found_by_its_number(path, data):
    lines = linked(TABLES)
    number = data.draw(st.integers(0, len(lines) - 1))
    line, place = lines[number], data.draw(st.integers(0, len(lines[number]) - 1))
    other = data.draw(st.sampled_from([character for character in '0 "}x' if character != line[place]]))
    lines[number] = line[:place] + other + line[place + 1 :]
    found = f"{number + 1}" if number else "[12]"  # the first one may look like one without a digest
    with pytest.raises(ValueError, match=rf"^line {found} is "):
        read(path, lines)


@pytest.mark.parametrize("number", range(4))
def test_a_line_that_is_lost_or_has_moved_is_found(number, path):
    lines = linked(TABLES)
    for other in (
        [*lines[:number], *lines[number + 1 :]],
        [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]],
    ):
        with pytest.raises(ValueError, match=rf"^line {number + 1} is not as it was written$"):
            read(path, other)


def test_a_line_that_has_lost_its_digest_is_found(path):
    lines = linked(TABLES)
    lines[2] = to_json(TABLES[2])
    with pytest.raises(ValueError, match=r"^line 3 is not as it was written$"):
        read(path, lines)


def test_lines_of_a_version_without_digests_are_read_and_covered_by_the_first_that_has_one(path):
    chain, old = Chain(), [to_json(table) for table in TABLES[:3]]
    for line in old:
        chain.check(line)
    lines = [*old, *linked(TABLES[3:], chain)]
    assert read(path, lines) == TABLES
    assert read(path, old) == TABLES[:3]
    with pytest.raises(ValueError, match=r"^line 4 is not as it was written$"):
        read(path, [lines[0].replace("1.0", "2.0"), *lines[1:]])
