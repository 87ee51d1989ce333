"""Models that are no chains of stages: six that are hard to cut, and a few that are easy."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


class SkipCnn(nn.Module):
    """A small residual network, as torchvision writes them."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Residual(8), Residual(8))
        self.pool = nn.MaxPool2d(2)
        self.layer2 = nn.Sequential(Residual(8))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.pool(x))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A block with a skip connection that is written into."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        y: Tensor = self.bn(self.conv(x))
        y += x
        return functional.relu(y)


class Encoder(nn.Module):
    """A transformer encoder over the rows of an image, with functional dropout."""

    def __init__(self, length: int = 8, width: int = 8, size: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(width, size)
        self.place = nn.Parameter(torch.zeros(length, size))
        self.blocks = nn.ModuleList([EncoderBlock(size) for _ in range(2)])
        self.head = nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.embed(x.reshape(x.shape[0], x.shape[-2], x.shape[-1])) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Attention and two linear layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, d // 2).permute(2, 3, 0, 1, 4).unbind(0)
        z = functional.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
        x = x + functional.dropout(self.proj(z.transpose(1, 2).reshape(n, t, d)), 0.1, self.training)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class TwoInputs(nn.Module):
    """Two inputs that meet before the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 16), nn.Linear(4, 16)
        self.mid, self.last = nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return logits."""
        x = functional.relu(self.left(a) + self.right(b))
        return self.last(functional.relu(self.mid(x)))  # type: ignore[no-any-return]


class SkipAcross(nn.Module):
    """The input is used again behind the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.skip = nn.Linear(6, 16), nn.Linear(16, CLASSES), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        z = self.two(functional.relu(self.one(x)))
        return self.skip(x) + z  # type: ignore[no-any-return]


class Tied(nn.Module):
    """The embedding is the last layer's weight as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mid = nn.Embedding(20, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits for each place."""
        return self.head(functional.gelu(self.mid(self.embed(ids))))  # type: ignore[no-any-return]


class ControlFlow(nn.Module):
    """What is computed depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        z = self.one(x)
        if z.mean() > 0:
            z = functional.relu(z)
        return self.two(z)  # type: ignore[no-any-return]


class HiddenFlow(nn.Module):
    """One of its modules depends on the values: it is one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.mid, self.last = ControlFlow(), nn.Linear(CLASSES, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.last(functional.relu(self.mid(self.block(x))))  # type: ignore[no-any-return]


class Drops(nn.Module):
    """Dropout everywhere: as layers, as functions, and of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.drop(functional.relu(self.one(functional.dropout(x, 0.2, training=self.training))))
        x = functional.dropout1d(self.two(x), 0.3, self.training)
        return self.last(self.drop(x))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Two LSTMs, which return their states as well, and the last step's output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(6, 12, batch_first=True)
        self.second = nn.LSTM(12, 12, batch_first=True)
        self.last = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x, _ = self.first(x)
        _, (h, _) = self.second(x)
        return self.last(h[-1])  # type: ignore[no-any-return]


def seeded(build: Callable[[], nn.Module]) -> Callable[..., nn.Module]:
    """Return a builder that seeds the global generator from its own."""

    def built(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return build()

    return built


MODULES: dict[str, Callable[..., nn.Module]] = {"skip-cnn": seeded(SkipCnn), "encoder": seeded(Encoder)}
"""Builders of models for images of (1, 8, 8) that are cut by their graph."""


class ByName(nn.Module):
    """Takes its inputs by name, returns a dict, and does what their sizes say, as Hugging Face's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.blocks = nn.ModuleList([EncoderBlock(16) for _ in range(2)])
        self.head = nn.Linear(16, 20)

    def forward(
        self, input_ids: Tensor | None = None, mask: Tensor | None = None, **more: object
    ) -> dict[str, Tensor]:
        """Return logits for each place, by name."""
        if (input_ids is None) or more:
            raise ValueError("input_ids are needed, and nothing else is known")
        x = self.embed(input_ids)
        length = x.shape[1]
        if length > 16:
            x = x[:, :16]
        angles = torch.arange(length, device=x.device)[:, None].expand(x.shape[0], length, 1) / 16
        for block in self.blocks:
            x = block(x + torch.sin(angles))
        return {"logits": self.head(x)}


HARD: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor | tuple[Tensor, ...]]]] = {
    "two inputs": (TwoInputs, lambda: (torch.randn(2, 6), torch.randn(2, 4))),
    "a skip across all cuts": (SkipAcross, lambda: torch.randn(2, 6)),
    "tied weights": (Tied, lambda: torch.randint(20, (2, 5))),
    "control flow": (ControlFlow, lambda: torch.randn(2, 6)),
    "dropout everywhere": (Drops, lambda: torch.randn(2, 6)),
    "recurrent": (Recurrent, lambda: torch.randn(2, 7, 6)),
}
"""Name -> how it is built, and a batch of two."""
