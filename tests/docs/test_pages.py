"""What holds for every page: its links lead somewhere, and nothing generated is out of date."""

import re
import tomllib

import pytest
import yaml

import comdml_flwr
from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from docs.generate import stale
from tests.docs.commands import ROOT, blocks, pages

_FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def links_of(page):
    return _LINK.findall(_FENCED.sub("", page.read_text()))


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_lead_to_files_and_headings(page):
    for link in links_of(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), link
        if anchor:
            assert anchor in anchors_of(to), link


def test_a_page_of_docs_links_to_nothing_outside_docs():
    """The site has only these files."""
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        inner = [link.partition("#")[0] for link in links_of(page) if "://" not in link]
        assert [link for link in inner if not (page.parent / link).resolve().is_relative_to(docs)] == []


def test_the_files_that_are_named_exist():
    names = re.compile(
        r"`((?:comdml_flwr|clients|containers(?!/federation)|docs|examples|experiments|strategies|tests)/[\w/.-]+)`"
    )
    for page in pages():
        for name in names.findall(page.read_text()):
            is_made_there = "diloco" in name  # by who reads adding_a_method.md
            assert (ROOT / name).exists() or is_made_there, f"{page.name}: {name}"


def test_every_page_is_in_the_navigation():
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)

    def files(entry):
        if isinstance(entry, str):
            yield entry
        for value in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            yield from files(value)

    docs = ROOT / "docs"
    assert sorted(files(settings["nav"])) == sorted(str(p.relative_to(docs)) for p in docs.rglob("*.md"))


def test_there_is_nothing_to_write():
    """`python -m docs.generate` writes what is out of date."""
    assert [str(path.relative_to(ROOT)) for path in stale()] == []


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    described = re.findall(r"^::: comdml_flwr\.(\w+)$", page, flags=re.MULTILINE)
    in_table = re.findall(r"\[`(\w+)`\]", page)
    assert sorted(described) == sorted(in_table) == sorted({*comdml_flwr.__all__} - {"__version__"})


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8_000


def test_the_fleet_file_of_the_guide_is_one():
    (text,) = blocks(ROOT / "docs" / "guides" / "fleet_file.md", "toml")
    fleet = parse_fleet(text, "the guide's")
    assert len(fleet.agents) == 2


def test_the_comparison_file_of_the_guide_is_one(tmp_path):
    (text,) = blocks(ROOT / "docs" / "guides" / "compare.md", "toml")
    (tmp_path / "first.toml").write_text(text)
    comparison = load_comparison(tmp_path / "first.toml")
    assert comparison.name == tomllib.loads(text)["name"]
