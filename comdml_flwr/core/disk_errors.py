"""One line for what a full, removed or read-only disk raises."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comdml_flwr.core.errors import RunError

_OF_A_DISK = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip


@contextmanager
def naming_what_cannot_be_written(folder: Path) -> Iterator[None]:
    """Make a RunError of what a disk raises; errors of a network, which are OSErrors too, pass.

    Parameters
    ----------
    folder : Path
        Named where the system names no file.

    Raises
    ------
    RunError
        With the file and the reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_A_DISK:
            raise
        raise RunError(f"results cannot be written: {error.filename or folder}: {error.strerror}") from error
