"""Plays one history again, with its log: `python -m tests.carriers.replay RUN "History(...)"`.

RUN is a name of `tests.carriers.simulation.RUNS`. A hunt prints this line for a history that breaks a law.
"""

import logging
import shlex
import sys
from math import inf

import torch

from comdml_flwr.carriers.simulated import history as faults
from comdml_flwr.carriers.simulated.carrier import SimulatedCarrier
from tests.carriers.laws import broken_laws
from tests.carriers.lies import Liar
from tests.carriers.simulation import RUNS, observed_carrier, tiny_setup

_NAMES = {name: getattr(faults, name) for name in ("History", "Crash", "Stall", "Cut", "Partition", "Slow")}
_NAMES["Liar"] = Liar


def command_of(run, history):
    """Return the command line that plays a history again."""
    return f"python -m tests.carriers.replay {shlex.quote(run)} {shlex.quote(repr(history))}"


class _Log(logging.Handler):
    """Prints each line with the virtual time."""

    def __init__(self, carrier: SimulatedCarrier) -> None:
        super().__init__(logging.INFO)
        self._carrier = carrier

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{self._carrier.now_s:8.2f} s  {record.getMessage()}")


def main(run, text):
    """Play it; return the exit status, 1 if a law is broken."""
    torch.set_num_threads(1)
    history = eval(text, {"inf": inf, **_NAMES})
    setup = tiny_setup(**RUNS[run])
    carrier = observed_carrier(setup, history)
    log, handler = logging.getLogger("comdml_flwr"), _Log(carrier)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        parts = carrier.run(1, setup.config.num_rounds, history)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    for agent, part in parts.items():
        ended = ", ".join(f"{number} {told['weights_sha256'][:8]}" for number, told in part.reports.items())
        state = "dead" if part.has_crashed else part.error or f"gone: {list(part.gone)}"
        print(f"agent {agent}: rounds {ended or 'none'}; {state}")
    broken = broken_laws(setup, history, parts)
    print(*broken or ["no law is broken"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
