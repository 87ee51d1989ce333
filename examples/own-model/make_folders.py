"""Write scikit-learn's digits into a folder for each node: `python make_folders.py [FOLDER] [NODES]`."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def main(folder: Path, num_nodes: int) -> None:
    """Give each node its part, in `FOLDER/node-N/images.npz`."""
    digits = load_digits()
    order = np.random.default_rng(1).permutation(len(digits.target))
    for number, rows in enumerate(np.array_split(order, num_nodes)):
        own = folder / f"node-{number}"
        own.mkdir(parents=True, exist_ok=True)
        np.savez(own / "images.npz", images=digits.images[rows][:, None], labels=digits.target[rows])


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    main(Path(given.get(0, Path.home() / "own-model-data")), int(given.get(1, 10)))
