"""The digest of the code of this package."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from comdml_flwr.core.version import PACKAGE


@cache
def code_digest() -> str:
    """Return the digest of this package's Python files."""
    root = Path(code_folder())
    return digest_files(root, sorted((root / "comdml_flwr").rglob("*.py")))


def code_folder() -> str:
    """Return the folder that our code was imported from."""
    return str(PACKAGE.parent)


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 digest of files: paths below `root`, sizes and bytes, in order."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
