"""The digest of the code of this package."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from comdml_flwr.core.version import CODE_FOLDER, PACKAGE


@cache
def code_digest() -> str:
    """Return the digest of this package's Python files."""
    return digest_files(CODE_FOLDER, sorted(PACKAGE.rglob("*.py")))


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 digest of files: paths below `root`, sizes and bytes, in order."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
