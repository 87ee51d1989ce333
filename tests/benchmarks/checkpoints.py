"""What a checkpoint costs: ten agents, ResNet-56 and -110, on this machine's disk.

python -m tests.benchmarks.checkpoints [FOLDER]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.config import find_fleet, parse_config
from comdml_flwr.methods.phases.split_training import AUX_HEADS
from comdml_flwr.planning.fleet.fleet_file import load_fleet
from comdml_flwr.runs.assemble import assemble, participants_of, program_of
from comdml_flwr.runs.checkpoint_folders import new_checkpoint

NUM_AGENTS, NUM_TIMES = 10, 9


def main() -> None:
    """Print the size of a checkpoint and the time that it takes to write and to read it."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for model in ("resnet-56", "resnet-110"):
            config = parse_config({"model": model, "carrier": "local"})
            setup = assemble(config, load_fleet(find_fleet(config.fleet)), NUM_AGENTS)
            agents = participants_of(setup)
            for agent in agents:  # as after rounds in which it helped at every cut
                agent.tensors.update({AUX_HEADS.of(cut): x for cut, x in setup.initial_aux_heads.items()})
            carrier = LocalCarrier(agents, program_of(setup))
            write_s, read_s = [], []
            for round_ in range(1, NUM_TIMES + 1):
                began = time.perf_counter()
                with new_checkpoint(Path(folder, model), round_) as partial:
                    digests = carrier.keep(partial)
                write_s.append(time.perf_counter() - began)
                began = time.perf_counter()
                carrier.restore(Path(folder, model, str(round_)), digests)
                read_s.append(time.perf_counter() - began)
            size = sum(path.stat().st_size for path in Path(folder, model, str(round_)).iterdir())
            print(
                f"{model}: {size / 1e6:.1f} MB, written in {statistics.median(write_s):.3f} s,"
                f" read in {statistics.median(read_s):.3f} s (median of {NUM_TIMES})"
            )


if __name__ == "__main__":
    main()
