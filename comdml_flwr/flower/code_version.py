"""A digest of this app's code, by which the ServerApp sees that all nodes run what it runs.

In simulation, Flower's actors import the app from the directory in which the local SuperLink was started, so
without this check a run could silently use another checkout's client code.
"""

import hashlib
from functools import cache
from pathlib import Path

import comdml_flwr

PACKAGES = ("comdml_flwr", "clients", "strategies")


@cache
def code_digest() -> str:
    """Return the digest of the Python files of our packages, those next to `comdml_flwr` included."""
    root = Path(comdml_flwr.__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_folder() -> str:
    """Return the folder that our code was imported from."""
    return str(Path(comdml_flwr.__file__).resolve().parent.parent)
