"""Kinds of mail: what is packed is read again, and what is of another type is refused in one line."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.mail import Integers, Mail, Tensors
from comdml_flwr.core.messages import Envelope, Floats
from comdml_flwr.core.wire import decode_envelope, encode_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything(Mail):
    kind: ClassVar[str] = "everything"
    number: int
    share: float
    name: str
    ids: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    weights: Floats
    labels: Integers | None = None
    digest: str | None = None
    is_last: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared(Mail):
    kind: ClassVar[str] = "shared"
    round: int
    tensors: Tensors


def packed(mail, **changes):
    about, arrays = mail.pack()
    envelope = Envelope(
        sender=3, receiver=4, round=7, kind=mail.kind, about={**about, **changes}, arrays=arrays
    )
    return decode_envelope(bytearray(encode_envelope(envelope)))


def everything(**more):
    some = {"number": 3, "share": 0.5, "name": "a", "ids": (1, 2), "pairs": ((1, 2),)}
    return Everything(**some, weights=np.arange(3, dtype=np.float32), **more)


@pytest.mark.parametrize("more", [{}, {"digest": "ab", "is_last": True}])
def test_what_is_packed_is_read_again_over_the_wire(more):
    sent = everything(**more)
    read = Everything.unpack(packed(sent))
    assert read.weights.tolist() == sent.weights.tolist()
    assert read.labels is None
    for name in ("number", "share", "name", "ids", "pairs", "digest", "is_last"):
        assert getattr(read, name) == getattr(sent, name)


def test_what_may_be_left_out_is_not_on_the_wire():
    assert packed(everything()).about.keys() == {"number", "share", "name", "ids", "pairs"}


def test_all_tensors_of_an_envelope_are_read_under_their_own_names():
    tensors = {"weights": np.ones(2, np.float32), "control": np.zeros(2, np.float32)}
    read = Shared.unpack(packed(Shared(round=2, tensors=tensors)))
    assert {name: array.tolist() for name, array in read.tensors.items()} == {
        "weights": [1.0, 1.0],
        "control": [0.0, 0.0],
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"number": "3"}, "everything from agent 3, round 7: number: '3' is no whole number"),
        ({"share": None}, "everything from agent 3, round 7: share"),
        ({"ids": [1, "2"]}, "everything from agent 3, round 7: ids"),
        ({"is_last": 1}, "everything from agent 3, round 7: is_last: 1 is no truth value"),
    ],
)
def test_a_fact_of_another_type_is_refused_in_one_line(changes, said):
    with pytest.raises(RunError) as caught:
        Everything.unpack(packed(everything(), **changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_that_lacks_or_is_of_another_type_is_refused():
    _, arrays = everything().pack()
    about, _ = everything().pack()
    for wrong in ({}, {"weights": arrays["weights"].astype(np.float64)}):
        with pytest.raises(RunError, match="weights is no float32 array"):
            Everything.of(about, wrong, "everything")
