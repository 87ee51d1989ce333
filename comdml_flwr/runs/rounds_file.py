"""`rounds.jsonl`: a line for each round, with a digest by which a line that was changed is found.

The last value of a line, `chain_sha256`, is the SHA-256 of the digest before it and the line's own text. So
whoever reads the file finds the first line that is not as it was written, is missing or has moved; lines
that are missing at the end are found by their number, which `summary.json` and checkpoints tell. It protects
from accidents, and from changes by hand: whoever changes a line can compute all later digests, too.

Lines of older versions have none. They are taken as they are; where such a run goes on, the first line that
is added covers them.
"""

import hashlib
import re
from collections.abc import Mapping
from json import JSONDecodeError
from pathlib import Path

from comdml_flwr.core.strict_json import from_json, to_json
from comdml_flwr.core.typed_json import Json, read_table

KEY = "chain_sha256"
_END = re.compile(rf', "{KEY}": "([0-9a-f]{{64}})"}}\Z')


class Chain:
    """The digest of all lines so far, in the order of the file."""

    def __init__(self) -> None:
        self._number, self._sha256, self._is_linked = 0, "", False

    def link(self, line: Mapping[str, Json]) -> str:
        """Return the text of the next line, with its digest."""
        text = to_json(line)
        self._add(text, is_linked=True)
        return f'{text[:-1]}, "{KEY}": "{self._sha256}"}}'

    def check(self, text: str) -> None:
        """Take the text of the next line. Raises ValueError where it is not as it was written."""
        end, was_linked = _END.search(text), self._is_linked
        self._add(text[: end.start()] + "}" if end else text, is_linked=end is not None)
        if end[1] != self._sha256 if end else was_linked or KEY in text:
            raise ValueError(f"line {self._number} is not as it was written")

    def _add(self, text: str, *, is_linked: bool) -> None:
        self._sha256 = hashlib.sha256(f"{self._sha256}{text}".encode()).hexdigest()
        self._number, self._is_linked = self._number + 1, is_linked


def read_lines(path: Path, count: int | None = None) -> list[dict[str, Json]]:
    """Return the first lines of a file, by default all, without their digests.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        A line is not as it was written, or no table of JSON; it tells the line's number.
    """
    chain, tables = Chain(), []
    for number, text in enumerate(whole_lines(path)[:count], start=1):
        chain.check(text)
        try:
            table = read_table(from_json(text))
        except (TypeError, ValueError) as error:
            reason = str(error)
            if isinstance(error, JSONDecodeError):  # its own "line 1" would be taken for the file's
                reason = f"{error.msg} at character {error.colno}"
            raise ValueError(f"line {number} is no table of JSON: {reason}") from None
        table.pop(KEY, None)
        tables.append(table)
    return tables


def whole_lines(path: Path) -> list[str]:
    """Return the texts of a file's lines; also of one that does not end, as its process was killed."""
    text = path.read_text("utf-8")
    return text.removesuffix("\n").split("\n") if text else []
