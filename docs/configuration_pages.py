"""The three places that show every key of the run configuration, made of the keys' declarations."""

import json
import re

from comdml_flwr.core.config import SUBJECTS
from comdml_flwr.core.settings.base import Settings, kebab

_TABLE = re.compile(r"(<!-- generated: the tables -->\n).*(<!-- end of the tables -->)", re.DOTALL)
_BLOCK = re.compile(r"(\[tool\.flwr\.app\.config\][^\n]*\n)[^\[]*")


def configuration_page(page: str) -> str:
    """Return the page of the keys with the tables that it should have: one for each subject."""
    tables = "\n".join(map(_table, SUBJECTS))
    return _TABLE.sub(lambda found: f"{found[1]}\n{tables}\n{found[2]}", page)


def project_file(text: str) -> str:
    """Return pyproject.toml with the block of keys and defaults that it should have."""
    lines = [f"{key} = {value}" for subject in SUBJECTS for key, value, _ in _keys(subject)]
    return _BLOCK.sub(lambda found: found[1] + "".join(f"{line}\n" for line in lines), text)


def run_keys() -> str:
    """Return what `comdml run --help` reads."""
    return (
        json.dumps({subject.model_config["title"]: _keys(subject) for subject in SUBJECTS}, indent=1) + "\n"
    )


def _table(subject: type[Settings]) -> str:
    rows = [f"| `{key}` | `{value}` | {meaning} |" for key, value, meaning in _keys(subject)]
    head = [f"## {subject.model_config['title']}", "", "| key | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _keys(subject: type[Settings]) -> list[tuple[str, str, str]]:
    fields = subject.model_fields.items()
    return [(kebab(name), json.dumps(field.default), field.description or "") for name, field in fields]
