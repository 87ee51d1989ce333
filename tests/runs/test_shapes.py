"""Samples that are no images: signals, volumes, rows of a table and tokens; their models are cut, too."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.fleets import agent_tables
from tests.flower.loop_grid import quiet_terminal

ROUNDS, NUM_SAMPLES, NUM_CLASSES = 3, 240, 3
SPEEDS = (4e7, 2e7, 1e6, 0.5e6)  # FLOP/s: slow ones, so that it pays to offload a tiny model


class Recurrent(nn.Module):
    """What a recurrent layer returns at each step."""

    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(8, 16, batch_first=True)

    def forward(self, x_NLD):
        return self.layer(x_NLD)[0]


class MeanOfSteps(nn.Module):
    """The mean over all steps."""

    def forward(self, x_NLD):
        return x_NLD.mean(1)


def convolutions(layer, pool, size):
    """Return a network over one channel, whatever the number of dimensions."""
    return nn.Sequential(
        nn.Sequential(layer(1, 8, size), nn.ReLU()),
        nn.Sequential(layer(8, 16, size), nn.ReLU()),
        nn.Sequential(pool(1), nn.Flatten(), nn.Linear(16, NUM_CLASSES)),
    )


def dense(wrap=lambda layer: layer):
    return nn.Sequential(
        nn.Sequential(wrap(nn.Linear(7, 32)), nn.ReLU()),
        nn.Sequential(wrap(nn.Linear(32, 32)), nn.ReLU()),
        nn.Linear(32, NUM_CLASSES),
    )


def recurrent():
    return nn.Sequential(nn.Embedding(20, 8), Recurrent(), MeanOfSteps(), nn.Linear(16, NUM_CLASSES))


KINDS = {
    "signals": ((1, 40), lambda: convolutions(nn.Conv1d, nn.AdaptiveAvgPool1d, 5)),
    "volumes": ((1, 6, 6, 6), lambda: convolutions(nn.Conv3d, nn.AdaptiveAvgPool3d, 2)),
    "rows of a table": ((7,), dense),
    "rows, with a weight that is recomputed": ((7,), lambda: dense(spectral_norm)),
    "tokens": ((6,), recurrent),
}


def run(tmp_path, shape, build, *, augment=False):
    """Run with samples whose values say their class."""
    generator = torch.Generator().manual_seed(1)
    labels_N = torch.randint(NUM_CLASSES, (NUM_SAMPLES,), generator=generator)
    column = labels_N.reshape(-1, *[1] * len(shape))
    x = torch.randn(NUM_SAMPLES, *shape, generator=generator) * 0.3 + column
    if build is recurrent:
        x = column * 5 + torch.randint(5, (NUM_SAMPLES, *shape), generator=generator)

    def model(shape, num_classes, generator):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return build()

    data = Dataset(
        name="samples",
        x_train_NCHW=x[:200],
        y_train_N=labels_N[:200],
        x_test_NCHW=x[200:],
        y_test_N=labels_N[200:],
        num_classes=NUM_CLASSES,
        augment=augment,
    )
    (tmp_path / "fleet.toml").write_text(
        f"[links]\nbandwidth_mbps = 100\n{agent_tables(4, flops_per_s=SPEEDS)}"
    )
    values = {
        "model": "own",
        "dataset": "own",
        "num-rounds": ROUNDS,
        "batch-size": 10,
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(tmp_path / "results"),
    }
    catalogue = Catalogue(models={"own": model}, datasets={"own": lambda config: data})
    return run_locally(values, num_agents=4, catalogue=catalogue, terminal=quiet_terminal(ROUNDS))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_any_shape_are_learned(kind, tmp_path):
    record = run(tmp_path, *KINDS[kind])
    first, last = record.rounds[0], record.rounds[-1]
    assert first.plan["pairs"], "somebody offloads"
    assert last.loss < first.loss
    assert last.score > 0.5


def test_what_is_no_image_is_not_shifted_and_mirrored(tmp_path):
    line = r"augment = True: must be False: it is for images, .*, and a sample is \(1, 40\)"
    with pytest.raises(InputError, match=line):
        run(tmp_path, *KINDS["signals"], augment=True)
    assert not (tmp_path / "results").exists()
