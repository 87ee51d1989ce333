"""Count what each half of a model costs, at each of its cuts.

Theory of `profile_model`: a half runs forward and backward over its own stages only, so its cost is the
sum over its stages, with one exception: a half's input is detached, so its first stage (and any stage
whose input depends on no parameter) computes no gradient for its input. Each stage is therefore counted
twice, with and without such a gradient, on the meta device, where tensors have shapes but no values (on the
CPU, with zeros, if a stage makes tensors of its own or looks at values); a half adds up the counts that
apply. What a stage keeps for its backward pass goes by storage: what two of them keep counts once.

Shape suffixes: N samples and the rest of an activation.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.messages import FLOAT_BYTES
from comdml_flwr.learning.codec import ActivationCodec
from comdml_flwr.learning.flop_count import StageCount, Weights, count_stage, count_stages, weights_of
from comdml_flwr.learning.global_generator import global_generator
from comdml_flwr.learning.structure import map_tensors
from comdml_flwr.learning.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class CutProfile:
    """What one cut costs, counted and not timed.

    Parameters
    ----------
    cut : int
        1..M.
    slow_flops, fast_flops : int
        Forward and backward of one sample (2 per multiply-add); the slow side's includes its auxiliary head.
    activation_bytes : int
        The activation of one sample as it travels, targets not included.
    activation_shape : tuple[int, ...]
        Its shape, without the samples.
    slow_params, fast_params : int
        Trainable numbers of each half, without the auxiliary head: they add up to the model's.
    slow_peak_bytes, fast_peak_bytes : int
        Weights, gradients, momentum, and what one batch keeps for its backward pass; the slow side's includes
        its auxiliary head. Not modelled: the loss, workspace inside one operation, other batches that wait.
    """

    cut: int
    slow_flops: int
    fast_flops: int
    activation_bytes: int
    activation_shape: tuple[int, ...]
    slow_params: int
    fast_params: int
    slow_peak_bytes: int
    fast_peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What a whole model costs, in the terms of `CutProfile`, and its cuts 1..M.

    `target_bytes` is the target of one sample, which goes with its activation.
    """

    whole_flops: int
    params: int
    peak_bytes: int
    target_bytes: int
    cuts: ByCut[CutProfile]


def profile_model(model: nn.Sequential, task: Task, batch_size: int, codec: ActivationCodec) -> ModelProfile:
    """Count the operations, bytes and parameters of a model and of both halves at each of its cuts.

    Parameters
    ----------
    model : nn.Sequential
        Neither it nor any random state is changed.
    task : Task
        What it learns: its samples, and the auxiliary heads.
    batch_size : int
        Samples per batch, for the peaks; at least 1.
    codec : ActivationCodec
        How activations travel.

    Returns
    -------
    ModelProfile
        Operations are per sample, peaks per batch.

    Raises
    ------
    InputError
        If a batch of the task's samples does not pass through the model.
    """
    if batch_size < 1:
        raise InputError("batch size", batch_size, "must be at least 1")
    batch = task.sample(batch_size)
    try:
        counts = count_stages(model, batch)
    except InputError:  # perhaps a stage makes tensors of its own, or looks at values
        with global_generator(0):
            counts = count_stages(model, map_tensors(_zeros, batch))
    flops, params, peak_bytes = _add_up(counts)
    return ModelProfile(
        whole_flops=flops // batch_size,
        params=params,
        peak_bytes=peak_bytes,
        target_bytes=task.target_bytes(),
        cuts=ByCut(_profile_cut(counts, cut, task, codec) for cut in range(1, len(counts))),
    )


def _profile_cut(counts: list[StageCount], cut: int, task: Task, codec: ActivationCodec) -> CutProfile:
    activation_N = counts[-cut - 1].output
    batch_size, *shape = activation_N.shape
    head = task.aux_head(tuple(shape), torch.Generator())
    weights = weights_of(head)
    head_count = count_stage(head.to(activation_N.device), activation_N, weights)
    slow_flops, slow_params, slow_peak_bytes = _add_up([*counts[:-cut], head_count])
    fast_flops, fast_params, fast_peak_bytes = _add_up(counts[-cut:])
    return CutProfile(
        cut=cut,
        slow_flops=slow_flops // batch_size,
        fast_flops=fast_flops // batch_size,
        activation_bytes=codec.bytes_per_sample(tuple(shape)),
        activation_shape=tuple(shape),
        slow_params=slow_params - sum(trainable for trainable, _ in weights.values()),
        fast_params=fast_params,
        slow_peak_bytes=slow_peak_bytes,
        fast_peak_bytes=fast_peak_bytes,
    )


def _add_up(counts: Iterable[StageCount]) -> tuple[int, int, int]:
    """Return (flops of one batch, params, peak bytes) of a chain of stages whose input is detached."""
    flops = 0
    weights: Weights = {}
    saved: dict[int, torch.UntypedStorage] = {}
    needs_grad = False
    for count in counts:
        one_pass = count.passes[needs_grad]
        flops, saved = flops + one_pass.flops, saved | one_pass.saved
        weights |= count.weights
        needs_grad = one_pass.output_needs_grad
    params = sum(trainable for trainable, _ in weights.values())
    num_kept = 2 * params + sum(number for _, number in weights.values())  # with a gradient and a momentum
    return flops, params, FLOAT_BYTES * num_kept + sum(storage.nbytes() for storage in saved.values())


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros_like(x, device="cpu")
