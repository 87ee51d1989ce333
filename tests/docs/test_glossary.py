"""The glossary is what the code says."""

import ast
import re

from tests.docs.commands import ROOT

GLOSSARY = ROOT / "docs" / "concepts" / "glossary.md"


def names_of(path):
    """Return every name that a file gives or uses, in words of lower case with underscores between them."""
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("name", "id", "arg", "attr"):
            if isinstance(name := getattr(node, field, None), str) and not name.startswith("__"):
                yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def words_that_are_not_used():
    """Return the words of the glossary's last table, as they would stand in a name."""
    rows = re.findall(
        r"^\| ([^|]+) \|", GLOSSARY.read_text().rpartition("| not | but |")[2], flags=re.MULTILINE
    )
    return [word.strip().replace(" ", "_") for row in rows[1:] for word in row.split(",")]


def test_no_name_in_the_code_holds_a_word_that_the_glossary_replaces():
    words = words_that_are_not_used()
    assert "foretold" in words
    bad = re.compile(rf"(?:^|_)(?:{'|'.join(words)})s?(?:_|$)")
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("comdml_flwr", "clients", "strategies", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        for name in names_of(path)
        if bad.search(name)
    }
    assert found == set()
