"""The example with data that each node alone has, as its README runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.flower.deployment import Federation, can_be_apart, summary_of
from tests.flower.engine import ROOT

EXAMPLE = ROOT / "examples" / "own-model"
LEAST_ACCURACY = 0.85


def make_folders(folder, num_nodes):
    words = [sys.executable, "make_folders.py", str(folder), str(num_nodes)]
    subprocess.run(words, cwd=EXAMPLE, check=True)


def test_its_python_has_at_most_sixty_lines():
    lines = [line for path in (EXAMPLE / "own_model").glob("*.py") for line in path.read_text().splitlines()]
    code = [line for line in lines if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) <= 60


@pytest.mark.skipif(not can_be_apart(), reason="needs unshare and tmpfs")
@pytest.mark.parametrize(
    "carriers",
    [
        pytest.param(["direct"], marks=pytest.mark.examples),
        pytest.param(["direct", "grid"], marks=pytest.mark.slow),  # a process for each message takes minutes
    ],
    ids=" and ".join,
)
def test_three_supernodes_train_on_all_that_each_alone_can_read(carriers, tmp_path):
    private = tmp_path / "private"
    make_folders(private, 3)
    sizes = []
    for number in range(3):
        with np.load(private / f"node-{number}" / "images.npz") as file:
            labels = file["labels"][: len(file["labels"]) * 3 // 4]
            sizes.append(np.bincount(labels, minlength=10).tolist())
    digests = set()
    with Federation(tmp_path / "federation", 3, apart=True, app=EXAMPLE, private=private) as federation:
        for carrier in carriers:
            run, log = federation.run(f'num-rounds=6 profiles="fleet" carrier="{carrier}"')
            agents = json.loads((run / "agents.json").read_text())["agents"]
            assert [agent["label_counts"] for agent in agents] == sizes
            assert [agent["num_samples"] for agent in agents] == list(map(sum, sizes))
            summary = summary_of(run)
            assert (summary["model"], summary["dataset"]) == ("network", "load_data")
            assert summary["accuracy"] >= LEAST_ACCURACY, log
            digests.add(summary["weights_sha256"])
    assert len(digests) == 1
    assert not list(federation.data_path.iterdir()), "the ServerApp and the SuperLink see nothing there"
