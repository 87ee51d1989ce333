"""Where an agent trains, and in which arithmetic."""

import re
from typing import Annotated, Literal, TypeAlias, TypeGuard

from pydantic import AfterValidator

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.settings.base import Settings, setting

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
_NAMES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:(0|[1-9]\d{0,3}))?")
_RULE = "must be auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"


def check_device_name(name: object, what: str) -> str:
    """Return what may be a device. Raises InputError, which names `what`, where it is none."""
    if not _may_be_device(name):
        raise InputError(what, name, _RULE)
    return name


def _device_name(name: str) -> str:
    if not _may_be_device(name):
        raise ValueError(_RULE)
    return name


def _may_be_device(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and _NAMES.fullmatch(name) is not None


class DeviceSettings(Settings, title="Device"):
    """Where an agent trains, and in which arithmetic."""

    device: Annotated[str, AfterValidator(_device_name)] = setting(
        "cpu",
        description="where an agent trains: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, or `auto` (a GPU if one is"
        " there); a SuperNode's `--node-config` may say another",
    )
    precision: Precision = setting(
        "float32",
        description="`float32`, or `bfloat16` or `float16`, in which layers that can then compute (autocast)"
        " and activations travel",
    )
    deterministic: bool = setting(
        False,
        description="let torch use deterministic kernels alone, so that a GPU gives the same bits each time",
    )
