"""Whether what an agent trains fits into its device's memory: alone, and as a helper at the worst cut.

On a CPU that is the machine's memory, where the data set lies as well. Needed memory is counted from the
model (`learning.cut_profile`), in float32, and compared as the planner does, which asks no agent for more
than its `memory_bytes` in the fleet file. Not counted: workspace inside one operation, and what Python and
torch take, which this process has taken, too, when it looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from comdml_flwr.agents.measuring.node import free_memory_bytes
from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.units import human_bytes
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.structure import one_tensor
from comdml_flwr.learning.task import Classification
from comdml_flwr.planning.bounded_queue import helping_bytes, offloading_bytes
from comdml_flwr.planning.types import CutTable
from comdml_flwr.runs.assemble import codec_of, cut_table
from comdml_flwr.runs.catalogue import MODELS
from comdml_flwr.runs.model_costs import count_model

CHECK = "memory"


@dataclass(frozen=True, slots=True)
class Images:
    """What is learned from a data set, and how many samples a node holds."""

    task: Classification
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a training takes memory for.

    Parameters
    ----------
    model, data : str
        Their names.
    data_bytes : int or None
        Of a node's samples; None: this process has loaded them already.
    cuts : CutTable
        Of the model; at least one.
    batch_size : int
        Samples in a full batch.
    """

    model: str
    data: str
    data_bytes: int | None
    cuts: CutTable
    batch_size: int


IMAGES: Mapping[str, Images] = {
    "digits": Images(Classification(input_shape=(1, 8, 8), num_classes=10), 1_797),
    "cifar-10": Images(Classification(input_shape=(3, 32, 32), num_classes=10), 60_000),
    "cifar-100": Images(Classification(input_shape=(3, 32, 32), num_classes=100), 60_000),
    "cinic-10": Images(Classification(input_shape=(3, 32, 32), num_classes=10), 180_000),
    "fashion-mnist": Images(Classification(input_shape=(1, 28, 28), num_classes=10), 70_000),
}


def check_memory(
    config: RunConfig, available_bytes: int | None = None, device: Device | None = None
) -> Finding:
    """Compare available memory with what training takes.

    Parameters
    ----------
    config : RunConfig
        Names model, data set and batch size; one that is not ours is not looked at.
    available_bytes : int, optional
        By default what the device has left.
    device : Device, optional
        The one that trains; by default the CPU.
    """
    if config.model not in MODELS or config.dataset not in IMAGES:
        says = f"{config.model} on {config.dataset} is not counted: the model or the images are your own"
        return Finding(
            CHECK, "warning", says, f"--set model={'|'.join(MODELS)} --set dataset={'|'.join(IMAGES)}"
        )
    images, codec = IMAGES[config.dataset], codec_of(config)
    shape, num_classes = images.task.input_shape, images.task.num_classes
    counted = count_model(config.model, shape, num_classes, config.batch_size, codec, config.aux_head)
    taken = Taken(
        model=config.model,
        data=config.dataset,
        data_bytes=images.num_samples * one_tensor(images.task.sample(1), "images").nbytes,
        cuts=cut_table(counted.profile, config.batch_size),
        batch_size=config.batch_size,
    )
    return compare_memory(taken, available_bytes, device or Device())


def compare_memory(taken: Taken, available_bytes: int | None, device: Device) -> Finding:
    """Compare available memory, by default what the device has left, with what training takes."""
    if available_bytes is None:
        available_bytes = free_memory_bytes(device)
    cuts, batch_size, data_bytes = taken.cuts, taken.batch_size, taken.data_bytes
    whole, least = int(cuts[1].whole_bytes), int(min(offloading_bytes(cut) for cut in cuts))
    worst, cut = max((whole + int(helping_bytes(cut)), number) for number, cut in cuts.items())
    facts = {
        "available_bytes": available_bytes,
        "data_bytes": data_bytes,
        "whole_bytes": whole,
        "helping_bytes": worst,
        "least_bytes": least,
    }
    data = "is loaded" if data_bytes is None else f"takes {human_bytes(data_bytes)}"
    needed = (
        f"{taken.data} {data}, {taken.model} {human_bytes(whole)} at batches of {batch_size},"
        f" {human_bytes(worst)} with a partner at cut {cut} (counted)"
    )
    if available_bytes is None:
        mend = "look yourself: this system does not tell how much memory is available"
        return Finding(CHECK, "warning", needed, mend, facts)
    where = "" if device.is_host else f" on {device.name}"
    says = f"{human_bytes(available_bytes)} available{where}; {needed}"
    left = available_bytes - (data_bytes or 0) if device.is_host else available_bytes
    smaller = f"--set batch-size={max(1, batch_size // 2)}, on all machines"
    told = (
        f"memory_bytes = {max(left, 0):.2g} for this agent in the fleet file, and the plan asks for no more"
    )
    if left >= worst:
        return Finding(CHECK, "ok", says, facts=facts)
    if left >= whole:
        return Finding(
            CHECK, "warning", f"{says}: it cannot help at every cut", f"{told}; or {smaller}", facts
        )
    if left >= least:
        says = f"{says}: it cannot train the whole model, only offload"
        return Finding(CHECK, "warning", says, f"{told}; or {smaller}", facts)
    return Finding(
        CHECK, "wrong", f"{says}: too little at any cut", f"end other programs; or {smaller}", facts
    )
