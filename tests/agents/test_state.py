"""Declared slots: what is kept, rolled back, handed over and written down."""

import numpy as np
import pytest
import torch

from comdml_flwr.agents.state import State, sha256_of
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.slots import Lifetime, Slot

MOMENTUM = Slot(name="momentum", lifetime=Lifetime.ROUND, shared=True, initial=np.zeros_like)
CONTROLS = Slot(name="control/", lifetime=Lifetime.ROUND)
SPENT = Slot(name="spent", lifetime=Lifetime.RUN, initial=lambda _: np.zeros(1, np.float32))
SLOTS = (MOMENTUM, CONTROLS, SPENT)


def used_state():
    """Return a state in which something of every slot is set."""
    state = State(SLOTS, torch.arange(3.0))
    state["control/4"] = torch.ones(3)
    state["own/body"] = torch.tensor([7.0])
    return state


def names(state):
    return {name: tensor.tolist() for name, tensor in state.items()}


def test_a_slot_begins_with_its_initial_value_and_a_family_with_nothing():
    assert names(State(SLOTS, torch.arange(3.0))) == {
        "weights": [0, 1, 2],
        "momentum": [0, 0, 0],
        "spent": [0],
    }


def test_a_tensor_that_no_slot_declares_cannot_be_kept():
    with pytest.raises(ValueError, match=r"tensor .contrl/4.: must be in .*: weights, ended, own/, momentum"):
        used_state()["contrl/4"] = torch.ones(3)


@pytest.mark.parametrize("name", ["weights", "own/body", "control/4", "control/"])
def test_two_slots_cannot_have_one_name(name):
    with pytest.raises(ValueError, match="another slot has this name or holds it in its family"):
        State([*SLOTS, Slot(name=name, lifetime=Lifetime.RUN)], torch.zeros(3))


@pytest.mark.parametrize(
    "keys",
    [
        {"name": ""},
        {"name": "/"},
        {"name": "heads/", "initial": np.zeros_like},
        {"name": "momentum", "shared": True},
        {"name": "momentum", "shared": True, "initial": np.zeros_like, "lifetime": Lifetime.PHASE},
    ],
)
def test_a_slot_that_cannot_be_is_refused(keys):
    with pytest.raises(ValueError, match=r"must|no initial"):
        Slot(**{"lifetime": Lifetime.ROUND, **keys})


def test_a_round_that_begins_again_counts_once():
    state = used_state()
    state["momentum"] = torch.full((3,), 0.5)  # taken over from another agent in this round
    state.pass_return_point()
    for _ in range(3):
        state.roll_back()
        state["momentum"] = state["momentum"] + 1
        state["control/4"], state["control/5"] = state["control/4"] + 1, torch.ones(3)
        state["spent"], state["own/body"] = state["spent"] + 1, state["own/body"] + 1
    assert names(state) == {
        "weights": [0, 1, 2],
        "momentum": [1.5, 1.5, 1.5],
        "control/4": [2, 2, 2],
        "control/5": [1, 1, 1],
        "spent": [3],  # RUN: what was spent stays spent
        "own/body": [10],  # PHASE: what was trained is averaged again
    }
    state.roll_back()
    assert "control/5" not in state


def test_a_committed_round_does_not_go_back():
    state = used_state()
    state.pass_return_point()
    state["momentum"] = torch.ones(3)
    state.commit()
    state.roll_back()
    assert state["momentum"].tolist() == [1, 1, 1]


def test_a_round_begins_without_what_the_last_one_trained():
    state = used_state()
    state.begin_round()
    assert {*state} == {"weights", "momentum", "control/4", "spent"}


def test_a_tensor_that_was_written_into_is_found_out():
    state = used_state()
    with pytest.raises(ValueError, match="tensor 'momentum' was written into: set it to a new one instead"):
        state["momentum"] += 1
    state = used_state()
    state["control/4"].mul_(2)
    with pytest.raises(ValueError, match="'control/4' was written into"):
        state.pass_return_point()


def test_another_agent_takes_over_what_is_shared_and_keeps_what_is_its_own():
    holder, other = used_state(), used_state()
    holder["weights"], holder["momentum"], holder["spent"] = (torch.full((n,), 9.0) for n in (3, 3, 1))
    other.take_over(holder.shared_arrays(), "model from agent 1")
    assert names(other) == {**names(used_state()), "weights": [9, 9, 9], "momentum": [9, 9, 9]}


@pytest.mark.parametrize(
    "arrays",
    [
        {"weights": np.zeros(3, np.float32)},
        {"weights": np.zeros(3, np.float32), "momentum": np.zeros(2, np.float32)},
        {"weights": np.zeros(3, np.float32), "momentum": np.zeros(3)},
    ],
)
def test_shared_slots_of_another_kind_are_refused_whole(arrays):
    state = used_state()
    with pytest.raises(RunError, match=r"model from agent 1: momentum is no float32 array of shape \(3,\)"):
        state.take_over(arrays, "model from agent 1")
    assert names(state) == names(used_state())


def test_the_digest_is_of_all_that_is_shared_and_of_nothing_else():
    state, digests = used_state(), []
    for name in ("weights", "momentum", "spent", "control/4", "own/body"):
        before = sha256_of(state.shared().values())
        state[name] = state[name] + 1
        digests.append(before == sha256_of(state.shared().values()))
    assert digests == [False, False, True, True, True]
    plain = State((), torch.arange(3.0))
    assert sha256_of(plain.shared().values()) == sha256_of([torch.arange(3.0)]), "of the weights alone"


@pytest.mark.parametrize("between_rounds", [False, True])
def test_a_state_comes_back_with_its_return_point(between_rounds):
    state, back = used_state(), State(SLOTS, torch.zeros(3))
    state.pass_return_point()
    state["momentum"] = state["momentum"] + 1
    state["ended"] = state["weights"]
    arrays, same = state.state_dict(between_rounds=between_rounds, with_return_point=not between_rounds)
    assert sum(len(array) for array in arrays.values()) == (10 if between_rounds else 14), "nothing twice"
    back.load_state_dict(arrays, same)
    left_out = {"own/body"} if between_rounds else set()
    assert names(back) == {name: value for name, value in names(state).items() if name not in left_out}
    assert back["ended"] is back["weights"]
    back.roll_back()
    assert back["momentum"].tolist() == ([1, 1, 1] if between_rounds else [0, 0, 0])
