"""The process that shows a run in Weights & Biases: it reads the run's folder and calls wandb.

    python -m comdml_flwr.runs.tracking.wandb_process RUN_FOLDER

It follows `rounds.jsonl` until its standard input ends, which is when the run is over or has died; then it
adds what is in `summary.json` and finishes: with exit code 0, or with 1 if there is no summary. What goes
wrong is its last line on standard output, and its exit status is 1. wandb_tracker.py starts it, and says why
it is apart.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from comdml_flwr.runs.rounds_file import KEY
from comdml_flwr.runs.tracking.names import numbers

POLL_S = 0.5
MAX_ID = 128  # characters, of wandb


def follow(path: Path, ended: Event) -> Iterator[dict[str, object]]:
    """Yield the whole lines of a growing file; stop when `ended` is set and all are read."""
    place = 0
    while True:
        is_last = ended.wait(POLL_S)
        text = path.read_bytes() if path.exists() else b""
        whole = text.rfind(b"\n") + 1
        for line in text[place:whole].splitlines():
            table = json.loads(line)
            table.pop(KEY, None)
            yield table
        place = max(place, whole)
        if is_last:
            return


def show(folder: Path, ended: Event) -> None:
    """Show the run in a folder under the id that is the folder's name."""
    import wandb

    config = json.loads((folder / "config.json").read_text())
    run = wandb.init(
        project=config["wandb-project"],
        id=folder.name[:MAX_ID],
        name=folder.name,
        resume="allow",
        dir=str(folder),
        mode=config["wandb"],  # an argument, so that WANDB_MODE does not count
        config=config,
        settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
    )
    for line in follow(folder / "rounds.jsonl", ended):
        run.log(numbers(line), step=int(str(line["round"])))
    summary = folder / "summary.json"
    if summary.exists():
        run.summary.update({f"run/{name}": value for name, value in json.loads(summary.read_text()).items()})
    run.finish(exit_code=0 if summary.exists() else 1)


def main() -> None:
    """Show the run in the folder that is named on the command line."""
    ended = Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    Thread(target=wait_for_the_end, daemon=True).start()
    try:
        show(Path(sys.argv[1]), ended)
    except Exception as error:
        print(f"\n{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
