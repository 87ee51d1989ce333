"""Small models as people have them: layers that draw, halves without parameters, shared weights, ..."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Builder = Callable[[tuple[int, ...], int, torch.Generator], nn.Module]


def seeded_builder(build: Callable[[int, int], nn.Module]) -> Builder:
    """Return a builder that seeds the global generator from its own, for a function of sizes alone."""

    def built(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return build(torch.Size(shape).numel(), num_classes)

    return built


def _hidden(size: int, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, size), *more, nn.ReLU())


@seeded_builder
def drawing(size: int, num_classes: int) -> nn.Module:
    """Dropout in both halves of each cut, and a normalisation."""
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)),
        _hidden(16, nn.Dropout(0.3)),
        nn.Sequential(nn.Dropout(0.2), nn.Linear(16, num_classes)),
    )


@seeded_builder
def bare_ends(size: int, num_classes: int) -> nn.Module:
    """The first and the last stage have no parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, num_classes), nn.LogSoftmax(1)
    )


@seeded_builder
def in_place(size: int, num_classes: int) -> nn.Module:
    """Stages write into their input, the first one into the samples."""
    return nn.Sequential(
        nn.LeakyReLU(0.5, inplace=True),
        nn.Flatten(),
        nn.Linear(size, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, num_classes),
    )


@seeded_builder
def frozen_below(size: int, num_classes: int) -> nn.Module:
    """The lower half was trained elsewhere."""
    model = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU()), _hidden(16), nn.Linear(16, num_classes)
    )
    model[0].requires_grad_(False)
    return model


@seeded_builder
def frozen_above(size: int, num_classes: int) -> nn.Module:
    """The upper half is not trained."""
    model = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU()), _hidden(16), nn.Linear(16, num_classes)
    )
    model[2].requires_grad_(False)
    return model


@seeded_builder
def tied(size: int, num_classes: int) -> nn.Module:
    """The second and the third of four stages share a weight: cut 2 would part it."""
    one, other = nn.Linear(16, 16), nn.Linear(16, 16)
    other.weight = one.weight
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU()),
        nn.Sequential(one, nn.ReLU()),
        nn.Sequential(other, nn.ReLU()),
        nn.Linear(16, num_classes),
    )


@seeded_builder
def ends_tied(size: int, num_classes: int) -> nn.Module:
    """The first and the last stage share a weight: every cut would part it."""
    one, other = nn.Linear(16, 16), nn.Linear(16, 16)
    other.weight = one.weight
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 16), one, nn.ReLU()),
        _hidden(16),
        nn.Sequential(other, nn.ReLU(), nn.Linear(16, num_classes)),
    )


def returned_twice(shape: tuple[int, ...], num_classes: int, generator: torch.Generator) -> nn.Module:
    """One stage stands at two places."""
    model = tied(shape, num_classes, generator)
    assert isinstance(model, nn.Sequential)
    return nn.Sequential(model[0], model[1], model[1], model[3])


class Pick(nn.Module):
    """The outputs of a recurrent layer, at its last step."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """Return shape (N, D)."""
        return pair[0][:, -1]


ODD: dict[str, Builder] = {
    "drawing": drawing,
    "bare-ends": bare_ends,
    "in-place": in_place,
    "frozen-below": frozen_below,
    "frozen-above": frozen_above,
    "tied": tied,
    "ends-tied": ends_tied,
    "returned-twice": returned_twice,
}
