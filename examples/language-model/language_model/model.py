"""A small transformer, as a chain of stages.

Shape suffixes: N samples, L positions, H heads, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

LENGTH = 64  # characters that it sees at once
WIDTH, NUM_HEADS, NUM_BLOCKS = 32, 4, 4


class Embedding(nn.Module):
    """What a character is, and where it stands."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(num_tokens, WIDTH), nn.Embedding(LENGTH, WIDTH)

    def forward(self, ids_NL: Tensor) -> Tensor:
        """Return features (N, L, D)."""
        return self.characters(ids_NL) + self.places.weight


class Block(nn.Module):
    """Attention to what stands before, then a small network at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.merge = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """Return features (N, L, D)."""
        parts = self.attend(self.norm_1(x_NLD)).unflatten(2, (3, NUM_HEADS, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        found_NHLD = scaled_dot_product_attention(query, key, value, is_causal=True)
        x_NLD = x_NLD + self.merge(found_NHLD.transpose(1, 2).flatten(2))
        return x_NLD + self.narrow(gelu(self.widen(self.norm_2(x_NLD))))


def transformer(input_shape: tuple[int, ...], num_tokens: int, generator: torch.Generator) -> nn.Sequential:
    """Build it; between any two of its stages it can be cut."""
    last = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_tokens))
    stages = nn.Sequential(Embedding(num_tokens), *(Block() for _ in range(NUM_BLOCKS)), last)
    for name, weights in stages.named_parameters():
        if weights.dim() > 1:
            nn.init.normal_(weights, std=0.05, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(weights)
    return stages
