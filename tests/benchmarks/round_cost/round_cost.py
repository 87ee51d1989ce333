"""What a ComDML round costs through Flower's engine, relative to a round of Flower's own FedAvg.

    python tests/benchmarks/round_cost/round_cost.py

Ten nodes, two actors, ResNet-56 on digits, 2 local epochs; rounds with training and evaluation, measured in
turn in one run, for one, two and four chunks. Measured seconds are this machine's; quote the ratio.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FEDERATION = "num-supernodes=10 client-resources-num-cpus=1 init-args-num-cpus=2"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def measure(num_chunks: int, num_blocks: int) -> dict[str, list[float]]:
    """Return seconds per round, block by block, of both methods."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "FLWR_HOME": f"{folder}/flwr",
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port := free_port()),
            "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
            "FLWR_TELEMETRY_ENABLED": "0",
        }
        run_config = f'num-chunks={num_chunks} num-blocks={num_blocks} results-dir="{folder}/results"'
        flwr = shutil.which("flwr", path=str(Path(sys.executable).parent)) or "flwr"
        command = [
            flwr,
            "run",
            str(HERE),
            "--stream",
            "--federation-config",
            FEDERATION,
            "--run-config",
            run_config,
        ]
        try:
            log = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            result = Path(folder, "results", "round_cost.json")
            if not result.exists():
                sys.exit(log.stdout + log.stderr)
            return json.loads(result.read_text())
        finally:
            subprocess.run(["pkill", "-f", f"flower-superlink.*{port}"], check=False)
            time.sleep(1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--blocks", type=int, default=4, help="blocks of two rounds, of each method in turn")
    arguments = parser.parse_args()
    print("chunks  ComDML s/round  FedAvg s/round  ratio: median (min-max) over blocks")
    for num_chunks in arguments.chunks:
        seconds = measure(num_chunks, arguments.blocks)
        ratios = [own / other for own, other in zip(seconds["comdml"], seconds["fedavg"], strict=True)]
        own, other = (statistics.median(seconds[name]) for name in ("comdml", "fedavg"))
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(
            f"{num_chunks:6d}  {own:14.2f}  {other:14.2f}  {statistics.median(ratios):.2f} ({spread})",
            flush=True,
        )


if __name__ == "__main__":
    main()
