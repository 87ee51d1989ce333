"""What a long run costs each of its processes in memory, threads and file descriptors.

    python -m tests.benchmarks.long_run [--rounds 120] [--rounds-per-message 120]

Five agents are processes and mail each other directly over mutual TLS on loopback; the model is small, so
that a round takes a fraction of a second. After each round every process is looked at; of rounds 20 to 30 and
of the last eleven the mean is told, which do not differ where nothing grows.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

from comdml_flwr.carriers.transport.certificates import make_certificates
from tests.carriers.processes import Crew, Process, Run

NUM_AGENTS, EARLY = 5, range(20, 31)
MB = 1024  # VmRSS is in KiB


def look_at(process: Process) -> tuple[float, int, int]:
    """Return a process's memory in MiB, its threads and its file descriptors."""
    about = Path(f"/proc/{process.id}")
    status = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / MB, int(status["Threads"]), len([*(about / "fd").iterdir()])


def seen_in(run: Run, num_rounds: int, per_message: int) -> dict[int, dict[int, tuple[float, int, int]]]:
    """Run all rounds; return what was seen, by agent and round."""
    seen: dict[int, dict[int, tuple[float, int, int]]] = {agent: {} for agent in run.processes}
    for first in range(1, num_rounds + 1, per_message):
        last = min(num_rounds, first + per_message - 1)
        run.start(first, last)
        for round_ in range(first, last + 1):
            run.hear_of_round(round_, without=())
            for agent, process in run.processes.items():
                seen[agent][round_] = look_at(process)
        run.finish()
    return seen


def long_run(num_rounds: int, per_message: int) -> dict[int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return for each agent the means of early and of late rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_certificates(folder / "federation", range(NUM_AGENTS), {}, days=1)
        crew = Crew(folder, NUM_AGENTS)
        try:
            config = {"num_rounds": num_rounds, "num_chunks": 2, "carrier": "direct"}
            with Run(crew, folder / "federation", config, NUM_AGENTS, shortest_s=20.0) as run:
                seen = seen_in(run, num_rounds, per_message)
                digests = {tuple(sorted(run.reports[r])) for r in run.reports}
                assert len(run.reports) == num_rounds, "rounds are missing"
                assert digests == {tuple(range(NUM_AGENTS))}, "somebody missed a round"
        finally:
            crew.close()
    late = range(num_rounds - len(EARLY) + 1, num_rounds + 1)

    def means(rounds: range, agent: int) -> tuple[float, ...]:
        return tuple(mean(column) for column in zip(*(seen[agent][r] for r in rounds), strict=True))

    return {agent: (means(EARLY, agent), means(late, agent)) for agent in seen}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--rounds-per-message", type=int, default=120)
    asked = parser.parse_args()
    late = f"{asked.rounds - len(EARLY) + 1}-{asked.rounds}"
    print(f"| agent | MiB in rounds 20-30, {late} | threads | descriptors |\n|---:|---:|---:|---:|")
    for agent, (before, after) in long_run(asked.rounds, asked.rounds_per_message).items():
        columns = [f"{early:.1f}, {then:.1f}" for early, then in zip(before, after, strict=True)]
        print(f"| {agent} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
