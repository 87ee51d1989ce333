"""Samples of several tensors: what is done with them, how they travel, and how a module takes them."""

import pytest
import torch
from torch import nn

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.learning.data.source import TensorSamples
from comdml_flwr.learning.structure import (
    call,
    check_structure,
    count_samples,
    flatten,
    one_tensor,
    take,
    unflatten,
)

NESTED = {"ids": torch.arange(6).view(3, 2), "more": (torch.arange(3), {"mask": torch.ones(3, 4)})}


def are_equal(one, other):
    ours, theirs = flatten(one), flatten(other)
    return [*ours] == [*theirs] and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("nested", [torch.arange(3), (torch.arange(3), torch.ones(3)), NESTED])
def test_names_give_the_structure_back(nested):
    back = unflatten(flatten(nested))
    assert type(back) is type(nested)
    assert are_equal(back, nested)


def test_names_say_where_a_tensor_stands():
    assert [*flatten(NESTED)] == ["ids", "more.0", "more.1.mask"]
    assert [*flatten(torch.ones(1))] == [""]


def test_a_tuple_of_more_than_ten_keeps_its_order():
    many = tuple(torch.tensor([place]) for place in range(12))
    assert are_equal(unflatten(dict(sorted(flatten(many).items()))), many)


@pytest.mark.parametrize(
    "names",
    [[], ["", "0"], ["0", "2"], ["0", "mask"], ["0", "0.mask"], ["00", "1"], ["0", "\N{SUPERSCRIPT ONE}"]],
)
def test_names_of_no_structure_are_refused(names):
    with pytest.raises(RunError, match="form no"):
        unflatten({name: torch.ones(1) for name in names})


def test_rows_are_taken_of_each_tensor():
    for rows in (slice(1, 3), torch.tensor([1, 2])):
        taken = take(NESTED, rows)
        assert count_samples(taken) == 2
        assert torch.equal(flatten(taken)["more.1.mask"], torch.ones(2, 4))
        assert flatten(taken)["more.0"].tolist() == [1, 2]
    assert flatten(take(NESTED, slice(1, 3)))["ids"].data_ptr() == NESTED["ids"][1:].data_ptr()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([torch.ones(2)], "x = 'list': must be a tensor, or a tuple or dict of tensors"),
        (
            {"ids": torch.ones(2), "mask": (torch.ones(3),)},
            "x['mask'][0] = '3 samples': must be 2, as in x['ids']",
        ),
        ((torch.ones(2), torch.tensor(1)), "x[1] = 'a single number': must have the samples in its first"),
        ({"a": ()}, "x['a'] = (): must have at least one tensor"),
        ({"a.b": torch.ones(2)}, "x: key = 'a.b': must be a name, without a dot"),
        ({"7": torch.ones(2)}, "x: key = '7': must be a name, without a dot"),
        ({7: torch.ones(2)}, "x: key = 7: must be a name, without a dot"),
        ({"a": {"b": "text"}}, "x['a']['b'] = 'str': must be a tensor, or a tuple or dict"),
    ],
)
def test_what_is_no_structure_is_named_by_its_place(value, line):
    with pytest.raises(InputError) as error:
        check_structure(value, "x")
    assert str(error.value).startswith(line)
    assert check_structure(NESTED, "x") is NESTED


class Sum(nn.Module):
    def forward(self, a, b):
        return a - 2 * b


def test_a_module_takes_a_tuple_by_place_and_a_dict_by_name():
    a, b = torch.ones(2), torch.arange(2.0)
    for inputs in ((a, b), {"b": b, "a": a}):
        assert call(Sum(), inputs).tolist() == [1, -1]
        assert call(nn.Sequential(Sum(), nn.ReLU()), inputs).tolist() == [1, 0]
        assert call(nn.Sequential(nn.Sequential(Sum()), nn.ReLU()), inputs).tolist() == [1, 0]
    assert call(nn.ReLU(), b) is not b


def test_one_tensor_is_no_structure():
    assert one_tensor(NESTED["ids"], "labels") is NESTED["ids"]
    with pytest.raises(
        RunError, match=r"labels: \['ids', 'more.0', 'more.1.mask'\] where one tensor is expected"
    ):
        one_tensor(NESTED, "labels")


def test_samples_of_several_tensors_are_gathered_together():
    samples = TensorSamples(NESTED, (torch.arange(3), torch.arange(3)), torch.tensor([2, 0]))
    assert len(samples) == 2
    x, targets = samples.batch(torch.tensor([1]))
    assert (flatten(x)["more.0"].item(), targets[1].item()) == (0, 0)
    x, targets = samples.part(0, 1)
    assert (flatten(x)["more.0"].item(), targets[1].item()) == (2, 2)
    assert [part.tolist() for part in samples.all_targets()] == [[2, 0], [2, 0]]
    assert len(samples.none()) == 0
    assert len(TensorSamples(NESTED, (torch.arange(3),))) == 3
