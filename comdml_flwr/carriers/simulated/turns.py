"""Agents that run one at a time, in threads of their own, while the time is virtual.

An agent goes on until it waits: for mail, or for time to pass. Then the next one is drawn among those that
can go on; when none can, time passes until one can. So one seed is one history, and the time between two
events costs nothing.
"""

import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from math import inf

from comdml_flwr.carriers.simulated.history import Crash, History, Stall
from comdml_flwr.carriers.simulated.network import Network
from comdml_flwr.core.errors import RunError

_THREADS = ThreadPoolExecutor(1000, "simulated agent")
"""Used again by one run after another, as modules to train with are built once for each thread."""


class CrashError(BaseException):
    """An agent's process dies here; no handler of errors is to go on with it.

    Parameters
    ----------
    back_after_s : float
        When it is there again, in seconds; inf: never.
    """

    def __init__(self, back_after_s: float = inf) -> None:
        super().__init__(back_after_s)
        self.back_after_s = back_after_s


class NoEndError(RunError):
    """A simulated run goes on for longer than any run should."""


class _StopError(BaseException):
    """The simulation is over; the agents that still run are to end."""


class Turns:
    """Lets agents run in turn.

    Parameters
    ----------
    network : Network
        Tells who has mail, and keeps the time.
    history : History
        Who dies, or stalls, and when.
    rng : random.Random
        Draws who goes on.
    limit_s : float
        When all should have ended, in virtual seconds.
    """

    def __init__(self, network: Network, history: History, rng: random.Random, limit_s: float) -> None:
        self._network, self._rng, self._limit_s = network, rng, limit_s
        self._crashes = {(f.agent, f.action): f for f in history.faults if isinstance(f, Crash)}
        self._stalls = {(f.agent, f.action): f for f in history.faults if isinstance(f, Stall)}
        self._num_actions: dict[int, int] = {}
        self._wakes_s: dict[int, float] = {}  # of those who run
        self._wants_mail: set[int] = set()
        self._may_go: dict[int, threading.Semaphore] = {}
        self._is_over = threading.Semaphore(0)
        self._error: BaseException | None = None

    def run(self, bodies: Mapping[int, Callable[[], None]]) -> None:
        """Run what each agent does until all have ended.

        Raises
        ------
        NoEndError
            They have not by the limit; the line names them.
        """
        self._wakes_s = dict.fromkeys(sorted(bodies), 0.0)
        self._num_actions = dict.fromkeys(bodies, 0)
        self._may_go = {agent: threading.Semaphore(0) for agent in bodies}
        running = [_THREADS.submit(self._run, agent, body) for agent, body in bodies.items()]
        self._go_on(None)
        try:
            self._is_over.acquire()
        except BaseException as error:  # such as Ctrl-C
            self._error = error
        for may_go in self._may_go.values():  # those that are left find that it is over
            may_go.release()
        wait(running)
        if self._error is not None:
            raise self._error

    def act(self, agent: int) -> None:
        """Count an action of an agent, which may die or stall at it."""
        self._num_actions[agent] += 1
        place = agent, self._num_actions[agent]
        if stall := self._stalls.get(place):
            self.sleep(agent, stall.seconds)
        if crash := self._crashes.get(place):
            raise CrashError(crash.back_after_s)

    def sleep(self, agent: int, seconds: float) -> None:
        """Let time pass for an agent."""
        self._wait(agent, self._network.now_s + seconds)

    def wait_for_mail(self, agent: int, timeout_s: float) -> None:
        """Let time pass for an agent until it has mail, at most for so long."""
        self._wants_mail.add(agent)
        self._wait(agent, self._network.now_s + timeout_s)

    def _wait(self, agent: int, until_s: float) -> None:
        self._wakes_s[agent] = until_s
        self._go_on(agent)
        self._wants_mail.discard(agent)
        if self._error is not None:
            raise _StopError

    def _run(self, agent: int, body: Callable[[], None]) -> None:
        self._may_go[agent].acquire()
        try:
            if self._error is None:
                body()
        except _StopError:
            return
        except BaseException as error:  # of the simulation itself
            self._error = self._error or error
        del self._wakes_s[agent]
        self._go_on(None)

    def _go_on(self, agent: int | None) -> None:
        """Let the next one go on; return when it is this agent's turn again, or at once if it has ended."""
        following = self._next() if self._wakes_s and self._error is None else None
        if following is None:
            self._is_over.release()
        elif following != agent:
            self._may_go[following].release()
        if agent is not None and following != agent:
            self._may_go[agent].acquire()

    def _next(self) -> int | None:
        """Return who goes on; None where the limit is reached."""
        while True:
            now_s = self._network.now_s
            ready = [
                agent
                for agent, wakes_s in self._wakes_s.items()
                if wakes_s <= now_s or (agent in self._wants_mail and self._network.has_mail(agent))
            ]
            if ready:
                return ready[0] if len(ready) == 1 else self._rng.choice(ready)
            now_s = min(min(self._wakes_s.values()), self._network.next_arrival_s())
            if now_s > self._limit_s:
                left = ", ".join(map(str, self._wakes_s))
                self._error = NoEndError(f"after {self._limit_s:g} s agents {left} have not ended")
                return None
            self._network.advance(now_s)
