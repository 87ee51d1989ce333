"""What `comdml plan` shows while it searches: a line on standard error in a terminal, nothing elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

from comdml_flwr.core.units import human_s

_STEP_S = 0.2  # the line changes no more often


class Search:
    """A search with a time limit, and its line; a context.

    Parameters
    ----------
    solver : str
        What searches.
    time_limit_s : float
        From now on.
    console : Console, optional
        Where the line goes; by default standard error.

    Attributes
    ----------
    is_stopped : bool
        Whether a listener has been told to stop.
    """

    def __init__(self, solver: str, time_limit_s: float, console: Console | None = None) -> None:
        console = console or Console(stderr=True, highlight=False)
        self._solver, self._began, self._limit_s = solver, time.monotonic(), time_limit_s
        self._line = Status(self._text(""), console=console) if console.is_terminal else None
        self._last_s = self._began
        self.is_stopped = False

    def __enter__(self) -> "Search":
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()

    @property
    def left_s(self) -> float:
        """How much time is left, at least a millisecond."""
        return max(self._limit_s - (time.monotonic() - self._began), 1e-3)

    def goes_on(self, low_s: float, best_s: float) -> bool:
        """Show between which makespans a search looks; tell whether there is time to go on."""
        now_s = time.monotonic()
        if self._line is not None and now_s - self._last_s > _STEP_S:
            self._last_s = now_s
            self._line.update(self._text(f": between {human_s(low_s)} and {human_s(best_s)}"))
        self.is_stopped = self.is_stopped or now_s - self._began > self._limit_s
        return not self.is_stopped

    def _text(self, found: str) -> str:
        passed_s = time.monotonic() - self._began
        return f"{self._solver}{found}; {passed_s:.0f} s of at most {self._limit_s:g} s"
