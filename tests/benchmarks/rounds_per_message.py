"""What Flower costs per round when one of its messages starts ten rounds, and when it starts one.

    python -m tests.benchmarks.rounds_per_message     # some minutes; see README.md

A real federation on loopback (SuperLink with TLS and SuperNode authentication, two SuperNodes), the direct
carrier, ten rounds of ComDML with as little training as there can be. The overhead of a round is the run's
`elapsed_s`, a stopwatch in the ServerApp, less what the rounds themselves take on the nodes, over ten:

    told         what the rounds themselves take is the sum of their `elapsed_s`, which with a round a message
                 holds the time in which a node waits for the other one's process to start
    undisturbed  it is ten times the median of the rounds 2 to 10 of one message, in both runs
"""

import argparse
import json
import platform
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.flower.deployment import Federation

NUM_ROUNDS = 10
_RUN = f'carrier="direct" num-rounds={NUM_ROUNDS} local-epochs=1 batch-size=256'


def measure(federation: Federation, rounds_per_message: int) -> tuple[float, list[float]]:
    """Return what a run takes in the ServerApp, and what its rounds take on the nodes, in seconds."""
    folder, _ = federation.run(f"{_RUN} rounds-per-message={rounds_per_message}")
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return float(summary["elapsed_s"]), [float(each["elapsed_s"]) for each in rounds]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, flwr {version('flwr')}")
    with tempfile.TemporaryDirectory() as name, Federation(Path(name) / "federation", 2) as federation:
        for _ in range(given.repeats):
            runs = {count: measure(federation, count) for count in (NUM_ROUNDS, 1)}
            own_s = statistics.median(runs[NUM_ROUNDS][1][1:])
            told, undisturbed = {}, {}
            for count, (run_s, rounds_s) in runs.items():
                told[count] = (run_s - sum(rounds_s)) / NUM_ROUNDS
                undisturbed[count] = run_s / NUM_ROUNDS - own_s
                print(f"{count:2} rounds a message: run {run_s:.1f} s, sum of rounds {sum(rounds_s):.1f} s")
            for way, overhead_s in (("told", told), ("undisturbed", undisturbed)):
                many_s, one_s = overhead_s[NUM_ROUNDS], overhead_s[1]
                print(f"{way:11} a round: {many_s:.2f} s and {one_s:.2f} s, ratio {many_s / one_s:.3f}")


if __name__ == "__main__":
    main()
