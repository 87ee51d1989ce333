"""Errors in a user's own code: told in one line that names the user's own file and line.

A model builder, a loader, a stage or a sample's transform is called by our code, and calls PyTorch in turn.
So of an error's traceback the frame that counts is the innermost one that lies neither in this package nor
in an installed one nor in the standard library. Where there is none, as for an error in a layer of PyTorch's
own, our frame that led there is named instead.

`flwr run` runs a copy of the app, in `apps/<publisher>.<name>.<version>.<hash>` of Flower's folder. Its files
are named by their path in the app.

The environment variable COMDML_TRACEBACK=1 lets the whole traceback be printed too, on standard error.
"""

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comdml_flwr.core.errors import ComdmlError, RunError
from comdml_flwr.core.version import PACKAGE

TRACEBACK = "COMDML_TRACEBACK"
_INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
_SITE = re.compile(r"/(?:site|dist)-packages/")
_UNPACKED = re.compile(r".*/apps/[^/]+\.[^/]+\.[^/]+\.[0-9a-f]{8,}/(.+)")  # Flower's copy of an app


def describe_error(error: BaseException) -> str:
    """Return an error in one line: ours as it is, others with the place in the user's code.

    Examples
    --------
    >>> describe_error(RunError("nobody is left"))
    'nobody is left'
    """
    if isinstance(error, ComdmlError):
        return str(error)
    reason = f"{type(error).__name__}: {' '.join(_message(error).split())}".removesuffix(": ")
    if notes := getattr(error, "__notes__", ()):
        reason += f" ({'; '.join(notes)})"
    place = _users_place(error) or _innermost(error, _is_ours)
    return f"{place}: {reason}" if place else reason


def is_of_user(error: BaseException) -> bool:
    """Tell whether an error has come out of the user's code."""
    return _users_place(error) is not None


def find_told(error: BaseException | None) -> BaseException | None:
    """Return the one of an error and its causes that a person should read; None where none is known here.

    It is ours, or comes out of the user's code or ours.
    """
    while error is not None:
        if isinstance(error, ComdmlError) or _users_place(error) or _innermost(error, _is_ours):
            return error
        error = error.__cause__
    return None


@contextmanager
def naming_user_code() -> Iterator[None]:
    """Make a RunError with the user's file and line of whatever is raised inside; also a decorator.

    Raises
    ------
    RunError
        Something was raised that is not ours; it is the cause.
    """
    try:
        yield
    except ComdmlError:
        raise
    except Exception as error:
        raise RunError(describe_error(error)) from error


def wants_traceback() -> bool:
    """Tell whether COMDML_TRACEBACK=1 asks for tracebacks."""
    return os.environ.get(TRACEBACK, "0") not in ("", "0")


def show_traceback(error: BaseException) -> None:
    """Print an error's whole traceback on standard error, if COMDML_TRACEBACK=1 asks for it."""
    if wants_traceback():
        traceback.print_exception(error, file=sys.stderr)


def _message(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _users_place(error: BaseException) -> str | None:
    if isinstance(error, SyntaxError) and error.filename and error.lineno and _is_users(error.filename):
        return _shown(error.filename, error.lineno, "")
    return _innermost(error, _is_users)


def _innermost(error: BaseException, is_wanted: Callable[[str], bool]) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    wanted = [frame for frame in frames if is_wanted(frame.filename)]
    return _shown(wanted[-1].filename, wanted[-1].lineno or 0, wanted[-1].name) if wanted else None


def _is_users(file: str) -> bool:
    if file.startswith("<") or _SITE.search(file):  # `<frozen importlib._bootstrap>`, `<string>`
        return False
    return not _is_ours(file) and not _is_inside(file, (Path(sysconfig.get_path(n)) for n in _INSTALLED))


def _is_ours(file: str) -> bool:
    return _is_inside(file, [PACKAGE])


def _is_inside(file: str, folders: Iterable[Path]) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in folders)


def _shown(file: str, line: int, name: str) -> str:
    where = f" in {name}" if name and not name.startswith("<") else ""
    return f"{_in_its_app(file)}, line {line}{',' if where else ''}{where}"


def _in_its_app(file: str) -> str:
    """Return a file by its path in the app, or else from the folder that it is imported from."""
    if unpacked := _UNPACKED.fullmatch(file):
        return unpacked[1]
    roots = [Path(entry or ".").absolute() for entry in (".", *sys.path)]
    inside = [str(Path(file).relative_to(root)) for root in roots if Path(file).is_relative_to(root)]
    return inside[0] if inside else file
