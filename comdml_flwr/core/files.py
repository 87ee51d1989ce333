"""Files that are written whole or not at all; all that this package writes goes through here.

What is made is as open to others as the folder in which it is made: below a private folder everything is
private. An OSError that leaves here names the file, and nothing half-written stays behind.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
OPEN_FOLDER, OPEN_FILE = 0o777, 0o666  # less what the umask takes away


def read_file(path: Path) -> bytearray:
    """Read a file into a writable buffer, as `decode` likes it."""
    with path.open("rb") as file:
        blob = bytearray(os.fstat(file.fileno()).st_size)
        file.readinto(blob)
    return blob


def why_not_private(path: Path, whose: str) -> str | None:
    """Return in a line why a key is not safe where it lies, and who could be taken for whom; None: it is."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return None
    return f"others may read {path} (mode {mode:04o}), and who has it can be {whose}"


def is_file(path: Path) -> bool:
    """Tell whether a file is there; no file has a name that is too long, or has a null in it."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are not there yet."""
    if not path.is_dir():
        if path.parent != path:
            make_folder(path.parent)
        path.mkdir(_inherited(path, OPEN_FOLDER), exist_ok=True)


def write_file(path: Path, blob: bytes, *, sync: bool = False, mode: int | None = None) -> None:
    """Write a file so that it is there whole or not at all, in place of one that was.

    Parameters
    ----------
    path : Path
        Of the file; folders that are not there are made.
    blob : bytes
        All that it holds.
    sync : bool
        Whether it is also there whole after a power cut.
    mode : int, optional
        Who may read and write it, less the umask; without it, as many as may use its folder.
    """
    partial = _write_partial(path, blob, sync=sync, mode=mode)
    with _naming(path), _removing(partial):
        partial.replace(path)


def write_files(files: Mapping[Path, bytes], *, sync: bool = False) -> None:
    """Write files that belong together: none takes its place before the disk has all of them.

    They take their places in the order given.
    """
    with ExitStack() as removing:
        partials = {}
        for path, blob in files.items():
            partials[path] = _write_partial(path, blob, sync=sync, mode=None)
            removing.enter_context(_removing(partials[path]))
        for path, partial in partials.items():
            with _naming(path):
                partial.replace(path)


def write_new(path: Path, blob: bytes, *, mode: int | None = None) -> None:
    """Write a file that is not there yet, whole or not at all, into a folder that is there.

    Raises
    ------
    FileExistsError
        The file is there.
    """
    with _naming(path):
        path.parent.stat()
    partial = _write_partial(path, blob, sync=False, mode=mode)
    with _naming(path), _removing(partial):
        try:
            os.link(partial, path)
            partial.unlink()
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise
            partial.rename(path)


def append_line(path: Path, line: bytes, *, sync: bool = False) -> None:
    """Add a line to a file, whole or not at all; with `sync`, it is on disk when this returns."""
    with _naming(path), _open(path, os.O_APPEND, None) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _fill(file, line + b"\n", sync=sync)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            raise


def open_lock(path: Path) -> FileIO:
    """Open a file of which only the lock counts; it is made if need be."""
    with _naming(path):
        make_folder(path.parent)
        return _open(path, os.O_APPEND, None)


def _write_partial(path: Path, blob: bytes, *, sync: bool, mode: int | None) -> Path:
    """Write what is to become a file beside it; return where."""
    partial = path.with_name(f"{path.name}.partial")
    with _naming(path):
        if not path.parent.exists():
            make_folder(path.parent)
        with _removing(partial), _open(partial, os.O_TRUNC, mode) as file:
            _fill(file, blob, sync=sync)
    return partial


def _open(path: Path, flag: int, mode: int | None) -> FileIO:
    made = _inherited(path, OPEN_FILE) if mode is None else mode
    number = os.open(path, os.O_WRONLY | os.O_CREAT | flag, made)
    if mode is not None:
        os.fchmod(number, mode)  # one that a killed process has left may be open to more
    return FileIO(number, "wb")


def _fill(file: FileIO, blob: bytes, *, sync: bool) -> None:
    rest = memoryview(blob)
    while rest:  # the last part that a full disk takes is no error yet
        rest = rest[file.write(rest) :]
    if sync:
        os.fsync(file.fileno())


def _inherited(path: Path, most: int) -> int:
    """Return the mode of what is made in a folder: for its owner, and for as many others as use it."""
    return most & (stat.S_IMODE(path.parent.stat().st_mode) | PRIVATE_FOLDER)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error say of which file it is, which one that comes up in the middle of writing does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _removing(partial: Path) -> Iterator[None]:
    """Leave nothing half-written, whatever happens."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
