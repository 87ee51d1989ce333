"""Kinds of mail: what is packed is read again, and what is of another type is refused in one line."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.mail import Integers, Mail, Tensors
from comdml_flwr.core.messages import Envelope, Floats
from comdml_flwr.core.typed_json import read_list
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Mail):
    kind: ClassVar[str] = "aux head"
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Mail):
    kind: ClassVar[str] = "aux head"
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes(Mail):
    kind: ClassVar[str] = "aux head"
    size: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights(Mail):
    kind: ClassVar[str] = "aux head"
    weights: Floats


def envelope(about=None, arrays=None):
    return Envelope(sender=3, receiver=4, round=7, kind="aux head", about=about or {}, arrays=arrays or {})


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


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Whole, 3, 3),
        (Whole, -1, -1),
        (Number, 3, 3.0),
        (Number, 2.5, 2.5),
    ],
)
def test_a_fact_comes_out_as_its_type(kind, value, expected):
    found = kind.unpack(envelope({"size": value})).size
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((Whole, value) for value in (True, 3.0, float("nan"), "3", None, [3], {})),
        *((Number, value) for value in (True, "3", None, [3.0], {})),
    ],
)
def test_each_other_type_of_a_fact_is_refused_in_one_line(kind, value):
    with pytest.raises(RunError) as caught:
        kind.unpack(envelope({"size": value}))
    tells_where(str(caught.value), "size")


def test_what_a_reader_refuses_is_told_with_whose_mail_it_is():
    mail = envelope({"size": [1, "2"]})
    assert read_list(mail.about["size"]) == (1, "2")
    with pytest.raises(RunError, match=r"^aux head from agent 3, round 7: size: '2' is no whole number$"):
        Sizes.unpack(mail)


@pytest.mark.parametrize("kind", [Whole, Number, Weights])
def test_what_is_not_there_is_refused_in_one_line(kind):
    with pytest.raises(RunError) as caught:
        kind.unpack(envelope({"other": 1}, {"other": np.zeros(1, np.float32)}))
    tells_where(str(caught.value), "weights" if kind is Weights else "size")


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool", ">f4"])
def test_an_array_of_another_type_is_refused_in_one_line(dtype):
    with pytest.raises(RunError) as caught:
        Weights.unpack(envelope(arrays={"weights": np.zeros(3, dtype)}))
    tells_where(str(caught.value), "weights")


def tells_where(line, name):
    assert line.startswith("aux head from agent 3, round 7: ")
    assert name in line
    assert "\n" not in line


def test_an_array_comes_out_itself_and_not_a_copy():
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = Weights.unpack(envelope(arrays={"weights": weights})).weights
    assert np.array_equal(found, weights)
    assert np.shares_memory(found, weights)
