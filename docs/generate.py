"""Write the pages and pictures of the documentation that are generated, or say which of them are out of date.

    python -m docs.generate
    python -m docs.generate --check

`--check` writes nothing, and its exit status is 1 if a file is not what it should be.
"""

import sys
from pathlib import Path

from docs.command_pages import cli_page
from docs.configuration_pages import configuration_page, project_file, run_keys
from docs.floors_picture import floors_picture

ROOT = Path(__file__).resolve().parent.parent


def pages() -> dict[Path, str]:
    """Return every generated file and its text."""
    docs = ROOT / "docs"
    configuration, project = docs / "reference" / "configuration.md", ROOT / "pyproject.toml"
    return {
        configuration: configuration_page(configuration.read_text()),
        project: project_file(project.read_text()),
        ROOT / "comdml_flwr" / "cli" / "commands" / "run_keys.json": run_keys(),
        docs / "reference" / "cli.md": cli_page(),
        docs / "development" / "floors.svg": floors_picture(),
    }


def stale() -> dict[Path, str]:
    """Return the files that differ from what they should be, with what they should be."""
    return {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}


def main() -> int:
    """Write what is stale, or with --check only name it."""
    only_check = sys.argv[1:] == ["--check"]
    found = stale()
    for path, text in found.items():
        print(f"{path.relative_to(ROOT)} {'is out of date' if only_check else 'written'}")
        if not only_check:
            path.write_text(text)
    if not found:
        print("nothing to write")
    return int(only_check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
