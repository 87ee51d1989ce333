"""Models as chains of stages, and the auxiliary head that trains a slow side alone.

The model contract of this project: a model is an `nn.Sequential` whose children are its *stages*. A model of
S stages has M = S - 1 cuts; cut m keeps the first S - m stages on the slow side, so cut 1 offloads only the
last stage and cut M keeps only the first (the authors' order). `learning.split` cuts any such model.

Here: the bottleneck ResNets of ComDML's reference code (a stem of 16 channels, six groups of bottlenecks, a
head; eight stages, so seven cuts), after He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition",
CVPR 2016, doi 10.1109/CVPR.2016.90.

Weights and activations lie channels-last in memory: a quarter less time per batch on a CPU (ResNet-56,
batches of 8 to 64). The layout of an activation that comes from a peer changes no bit: the
weights' layout decides how a convolution runs, and the average pool brings its input into one order.

Shape suffixes: N samples, C channels, H height, W width, D channels of any activation, K classes.
"""

import torch
from torch import Tensor, nn

from comdml_flwr.core.errors import InputError

STEM_CHANNELS = 16
EXPANSION = 4  # a bottleneck of `width` channels puts out 4 * width
GROUP_WIDTHS_AND_STRIDES = ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1))
MIN_SIDE = (
    5  # two strides leave 2 x 2 pixels: BatchNorm has more than one value even in a batch of one sample
)


class Bottleneck(nn.Module):
    """Three convolutions (1x1, 3x3 with the stride, 1x1) around a shortcut.

    Parameters
    ----------
    channels_in : int
        Channels of the input.
    width : int
        Channels of the 3x3 convolution; the output has `EXPANSION * width`.
    stride : int
        Stride of the 3x3 convolution.
    """

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = EXPANSION * width
        self.conv1, self.bn1 = _conv(channels_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, channels_out, 1), nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                _conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return an activation of shape (N, EXPANSION * width, H / stride, W / stride), rounded up."""
        y_NDHW = self.relu(self.bn1(self.conv1(x_NCHW)))
        y_NDHW = self.relu(self.bn2(self.conv2(y_NDHW)))
        y_NDHW = self.bn3(self.conv3(y_NDHW))
        y_NDHW += self.shortcut(x_NCHW)
        return self.relu(y_NDHW)  # type: ignore[no-any-return]


class GlobalAveragePool(nn.Module):
    """The mean over all dimensions after the channel: (N, D, ...) -> (N, D)."""

    def forward(self, x_ND: Tensor) -> Tensor:
        """Return the means, shape (N, D); an input that is (N, D) already comes back as it is."""
        return x_ND.flatten(2).contiguous().mean(2) if x_ND.dim() > 2 else x_ND


def resnet(
    input_shape: tuple[int, ...], num_classes: int, generator: torch.Generator, *, blocks_per_group: int
) -> nn.Sequential:
    """Build a bottleneck ResNet of eight stages: stem, group1 .. group6, head.

    Parameters
    ----------
    input_shape : tuple[int, int, int]
        (channels, height, width) of one sample; height and width at least `MIN_SIDE` pixels.
    num_classes : int
        K, at least 2.
    generator : torch.Generator
        The only source of randomness; the global one is neither read nor advanced.
    blocks_per_group : int
        3 gives ResNet-56, 6 gives ResNet-110 (18 * blocks_per_group + 2 layers).

    Returns
    -------
    nn.Sequential
        The stages; it maps (N, C, H, W) float32 to logits (N, K).

    Raises
    ------
    InputError
        If an image of that shape or that number of classes cannot be.

    Examples
    --------
    >>> model = resnet((3, 32, 32), 10, torch.Generator().manual_seed(1), blocks_per_group=3)
    >>> sum(p.numel() for p in model.parameters())
    591322
    """
    _check_image_shape(input_shape)
    _check_num_classes(num_classes)
    if blocks_per_group < 1:
        raise InputError("blocks per group", blocks_per_group, "must be at least 1")
    with torch.device("meta"):  # no memory and, above all, no draws from the global generator
        model = nn.Sequential()
        model.add_module("stem", _stem(input_shape[0]))
        channels = STEM_CHANNELS
        for number, (width, stride) in enumerate(GROUP_WIDTHS_AND_STRIDES, start=1):
            model.add_module(f"group{number}", _group(channels, width, stride, blocks_per_group))
            channels = EXPANSION * width
        model.add_module("head", _head(channels, num_classes))
    return _initialise(model, generator)


def _stem(channels_in: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(channels_in, STEM_CHANNELS, 3), nn.BatchNorm2d(STEM_CHANNELS), nn.ReLU(inplace=True)
    )


def _group(channels_in: int, width: int, stride: int, num_blocks: int) -> nn.Sequential:
    first = Bottleneck(channels_in, width, stride)
    rest = (Bottleneck(EXPANSION * width, width, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *rest)


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(GlobalAveragePool(), nn.Linear(channels, num_classes))


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)


def _initialise(model: nn.Sequential, generator: torch.Generator) -> nn.Sequential:
    """Give a meta model memory and initial values.

    Convolutions: normal, variance 2 / fan-out (He et al., ICCV 2015). Linear: uniform within 1 /
    sqrt(fan-in), PyTorch's own default. BatchNorm: weight 1, bias 0, mean 0, variance 1; but weight 0 at
    the end of a bottleneck, which so begins as its shortcut (Goyal et al., arXiv 1706.02677, section
    5.1): ten agents on the digits reach 95 % in 6 rounds instead of 11 (SGD, learning rate 0.05, batches
    of 16).
    """
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
    return model.to(memory_format=torch.channels_last)


def _check_image_shape(input_shape: tuple[int, ...]) -> None:
    if len(input_shape) != 3:
        raise InputError("input shape", input_shape, "must be (channels, height, width)")
    if input_shape[0] < 1:
        raise InputError("input shape", input_shape, "needs at least 1 channel")
    if min(input_shape[1:]) < MIN_SIDE:
        raise InputError("input shape", input_shape, f"height and width must be at least {MIN_SIDE} pixels")


def _check_num_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise InputError("number of classes", num_classes, "must be at least 2")
