"""What belongs to a testbed, by name; the real removal is in test_real_hosts.py."""

import os

import pytest

from comdml_flwr.core.errors import RunError
from experiments.testbed.leftovers import Leftovers, only_one, our_namespaces


def test_only_the_testbeds_namespaces_are_ours():
    listed = "comdml-tb-3 (id: 1)\ncomdml-tb-net\nvpn (id: 4)\nmy-comdml-tb-0\n\n"
    assert our_namespaces(listed) == ("comdml-tb-3", "comdml-tb-net")
    assert our_namespaces("") == ()


def test_nothing_is_said_to_be_nothing():
    empty = Leftovers(namespaces=(), processes=(), groups=(), folders=())
    assert not empty
    assert str(empty) == "nothing"
    left = Leftovers(namespaces=("comdml-tb-net",), processes=(7, 9), groups=(), folders=())
    assert left
    assert str(left) == "2 processes; namespaces comdml-tb-net"


def test_there_is_one_testbed_at_a_time():
    place = f"comdml-testbed-test-{os.getpid()}"
    with only_one(place), pytest.raises(RunError, match="another testbed runs on this machine"):
        only_one(place)
    only_one(place).close()
