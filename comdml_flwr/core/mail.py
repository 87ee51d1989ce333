"""What a kind of mail holds, declared once: a dataclass that an envelope is packed from and read into.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Withdrawal(Mail):
        kind: ClassVar[str] = "withdraw"
        agent: int

Fields of numbers, text and lists become the envelope's facts, and fields of arrays become its arrays, each
under the field's name. A field that may be None is left out where it is None. Reading checks that each field
is there and of its type; what a value may be is checked beside the kind, by who knows what all can compute.
What cannot be is a fault of its sender (`PeerFaultError`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import ClassVar, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import PeerFaultError, RunError
from comdml_flwr.core.messages import Array, Envelope, Floats
from comdml_flwr.core.typed_json import (
    Json,
    as_table,
    read_as,
    read_bool,
    read_float,
    read_floats,
    read_int,
    read_ints,
    read_optional_numbers,
    read_pairs,
    read_text,
    read_texts,
    read_triples,
)

Integers: TypeAlias = NDArray[np.int64]
Table: TypeAlias = Mapping[str, object]
"""A fact that is a table, as JSON has it; it is not copied."""
Tensors: TypeAlias = Mapping[str, Array]
"""All arrays of an envelope, under their own names: the field's name is not on the wire."""

_READERS: Mapping[object, Callable[[Json], object]] = {
    int: read_int,
    float: read_float,
    bool: read_bool,
    str: read_text,
    Mapping[str, float | None]: read_optional_numbers,
    Table: as_table,
    tuple[int, ...]: read_ints,
    tuple[str, ...]: read_texts,
    tuple[float, ...]: read_floats,
    tuple[tuple[int, int], ...]: read_pairs,
    tuple[tuple[int, int, int], ...]: read_triples,
}
_ARRAYS: Mapping[object, type[np.generic]] = {Floats: np.float32, Integers: np.int64}
_HINTS = {*_READERS, *_ARRAYS, Tensors}


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: what it is, and whether it may be left out."""

    name: str
    hint: object
    is_optional: bool


_FOUND: dict[type, tuple[_Field, ...]] = {}

MailT = TypeVar("MailT", bound="Mail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The base of all kinds; `kind` is the envelope's."""

    kind: ClassVar[str]

    def pack(self) -> tuple[dict[str, Json], dict[str, Array]]:
        """Return what goes into the envelope's `about`, and into its `arrays`, which are not copied."""
        about: dict[str, Json] = {}
        arrays: dict[str, Array] = {}
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            if field.hint == Tensors:
                arrays |= value
            elif value is not None:
                (about if field.hint in _READERS else arrays)[field.name] = value
        return about, arrays

    @classmethod
    def unpack(cls: type[MailT], envelope: Envelope) -> MailT:
        """Return what an envelope of this kind holds; its arrays are shared.

        Raises
        ------
        PeerFaultError
            A field is missing or is of another type; the line names kind, sender, round and field.
        """
        try:
            return cls.of(envelope.about, envelope.arrays, envelope.where)
        except RunError as error:
            raise PeerFaultError(envelope.sender, str(error)) from None

    @classmethod
    def of(cls: type[MailT], about: Mapping[str, Json], arrays: Mapping[str, Array], where: str) -> MailT:
        """Return what facts and arrays hold; `where` begins the line of an error."""
        values: dict[str, object] = {}
        for field in _fields(cls):
            if field.hint == Tensors:
                values[field.name] = arrays
            elif field.hint in _READERS:
                if field.name in about or not field.is_optional:
                    reader = _READERS[field.hint]
                    values[field.name] = read_as(reader, about.get(field.name), f"{where}: {field.name}")
            elif field.name in arrays or not field.is_optional:
                values[field.name] = _array(arrays, field, where)
        return cls(**values)


def _array(arrays: Mapping[str, Array], field: _Field, where: str) -> Array:
    array, dtype = arrays.get(field.name), _ARRAYS[field.hint]
    if array is None or array.dtype != dtype:
        raise RunError(f"{where}: {field.name} is no {np.dtype(dtype).name} array")
    return array


def _fields(kind: type[Mail]) -> tuple[_Field, ...]:
    """Return a kind's fields by their annotations, found once."""
    if kind in _FOUND:
        return _FOUND[kind]
    found = []
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is ClassVar:
            continue
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        (value,) = (option for option in options if option is not NoneType)
        assert value in _HINTS, f"{kind.__name__}.{name}: no mail has {value}"
        found.append(_Field(name, value, len(options) > 1))
    return _FOUND.setdefault(kind, tuple(found))
