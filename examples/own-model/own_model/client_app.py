"""The ClientApp: one agent, with the data of its node's folder."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from comdml_flwr import Classification, Place, peer_client_app


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and what the convolutions make of it."""
        return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))


class Network(nn.Module):
    """A small residual network; where it can be cut is found from its graph."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1)
        self.one, self.two, self.three = Block(16), Block(16), Block(16)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W)."""
        x = self.three(self.two(self.one(torch.relu(self.stem(x)))))
        return self.head(x.mean((2, 3)))


def network(input_shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
    """Build the model; its weights come from the seed of the run."""
    return Network(input_shape[0], num_classes)


def load_data(place: Place) -> tuple[object, object]:
    """Read the images of this node's folder: three quarters to train on, the rest to test on."""
    default = Path.home() / "own-model-data" / f"node-{place.partition_id}"
    with np.load(Path(place.node_config.get("data-path", default)) / "images.npz") as file:
        x, y = file["images"].astype(np.float32) / 16 - 0.5, file["labels"]
    num_train = len(x) * 3 // 4
    return (x[:num_train], y[:num_train]), (x[num_train:], y[num_train:])


app = peer_client_app(model=network, task=Classification(num_classes=10), data=load_data)
