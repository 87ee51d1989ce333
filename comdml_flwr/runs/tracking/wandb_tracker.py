"""Weights & Biases, in a process of its own.

The library may raise, ask for an account, wait for a network for minutes, or hang when the interpreter ends;
none of that may cost a run anything. So this process never imports it. Another one (wandb_process.py) does,
and only reads the files that the run writes in any case: it has no terminal that it could ask at, nobody
waits for it during the run, and at the end it has `FINISH_S`; after that it is stopped. What it did not send
can be sent later: `wandb sync` with the folder that it has written.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from comdml_flwr.core.typed_json import Json
from comdml_flwr.core.version import CODE_FOLDER
from comdml_flwr.runs.records import RoundRecord

FINISH_S = 60.0
LONGEST_REASON = 300  # characters


class WandbTracker:
    """Shows a run in Weights & Biases.

    Parameters
    ----------
    folder : Path
        The run's folder; its `config.json` says the mode and the project.
    """

    def __init__(self, folder: Path) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `finish`)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "comdml_flwr.runs.tracking.wandb_process", str(folder)],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.DEVNULL,  # wandb's own process writes its log there
            start_new_session=True,  # no terminal to ask at, and Ctrl-C is for this process to handle
            env={
                **os.environ,
                # the process runs the code of this one
                "PYTHONPATH": os.pathsep.join(filter(None, [str(CODE_FOLDER), os.environ.get("PYTHONPATH")])),
                "WANDB_ERROR_REPORTING": "false",  # wandb's own bug reports go over the network, too
                "WANDB_X_DISABLE_STATS": "true",  # sampling the machine would disturb what is measured
            },
        )

    def round_ends(self, record: RoundRecord) -> None:
        """See whether the other process is still there; it finds the round in the run's files."""
        if self._process.poll() is not None:
            raise RuntimeError(self._reason())

    def finish(self, summary: Mapping[str, Json] | None) -> None:
        """Wait until all is written or sent, but not for longer than `FINISH_S`."""
        assert self._process.stdin is not None
        with self._output:
            try:
                self._process.stdin.close()
                self._process.wait(FINISH_S)
            except subprocess.TimeoutExpired:
                reason = f"not ready {FINISH_S:g} s after the run's end; `wandb sync` sends the rest"
                raise RuntimeError(reason) from None
            finally:  # also on Ctrl-C
                self._stop()
            if self._process.returncode != 0:
                raise RuntimeError(self._reason())

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()  # what wandb has started ends with it
            self._process.wait()

    def _reason(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return last[:LONGEST_REASON] or f"its process ended with status {self._process.returncode}"
