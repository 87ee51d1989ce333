"""Files that are written whole or not at all."""

import os
from pathlib import Path


def read_file(path: Path) -> bytearray:
    """Read a file into a writable buffer, as `decode` likes it."""
    with path.open("rb") as file:
        blob = bytearray(os.fstat(file.fileno()).st_size)
        file.readinto(blob)
    return blob


def write_file(path: Path, blob: bytes, *, sync: bool = False) -> None:
    """Write a file so that it is there whole or not at all; with `sync`, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(blob)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
