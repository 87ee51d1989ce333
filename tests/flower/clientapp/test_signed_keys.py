"""Signed keys: the ServerApp, which hands on the table of keys, cannot put others into it."""

import dataclasses
import logging

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from comdml_flwr.carriers.sealed.key_cards import KeyCard
from comdml_flwr.carriers.sealed.sealing import new_private_key, public_key_of
from comdml_flwr.core.files import PRIVATE_FILE, write_file
from tests.flower.wiretap import NUM_AGENTS, Wiretap, patterned_config, printed, refused


def members(tmp_path):
    """Make a signing key for each node, as `ssh-keygen -t ecdsa -b 384` does; return what its config says."""
    (tmp_path / "members").mkdir()
    for place in range(NUM_AGENTS):
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        write_file(tmp_path / f"key-{place}", private, mode=PRIVATE_FILE)
        (tmp_path / "members" / f"{place}.pub").write_bytes(public)
    return lambda place: {
        "signing-key": str(tmp_path / f"key-{place}"),
        "trusted-keys": str(tmp_path / "members"),
    }


def test_unsigned_keys_are_told_once_by_the_server_and_once_by_each_node(tmp_path, apart, caplog):
    config = patterned_config(tmp_path)
    with caplog.at_level(logging.WARNING):
        text = printed(config, Wiretap(config))
    assert text.count("the keys are not signed") == 1
    assert caplog.text.count("the keys are not signed") == NUM_AGENTS


@pytest.mark.parametrize("keys", [{}, {"method": "splitfed", "cut": 2}], ids=["comdml", "splitfed"])
def test_members_who_sign_train_together_and_nothing_is_said(keys, tmp_path, apart, caplog):
    config = patterned_config(tmp_path, **keys)
    grid = Wiretap(config, members(tmp_path))
    with caplog.at_level(logging.WARNING):
        text = printed(config, grid)
    assert "not signed" not in text + caplog.text
    assert grid.found() == set()


def on_cards(change):
    """Return what a ServerApp does that changes the cards which it hands on."""

    def lie(message):
        facts = message.content["facts"]
        if message.metadata.message_type == "train.steps":
            facts["cards"] = [card.pack() for card in change([*map(KeyCard.unpack, facts["cards"])])]

    return lie


def swap_two(cards):
    one, other, *rest = cards
    return [
        dataclasses.replace(one, agent=other.agent),
        dataclasses.replace(other, agent=one.agent),
        *rest,
    ]


def put_in_own(cards):
    own = public_key_of(new_private_key())
    return [*cards[:-1], dataclasses.replace(cards[-1], public_key=own)]


def put_in_own_unsigned(cards):
    return [*cards[:-1], KeyCard(agent=cards[-1].agent, public_key=public_key_of(new_private_key()))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_two, "the key of agent 1 has a false signature: it is another's key, or of another run"),
        (put_in_own, "the key of agent 2 has a false signature: it is another's key, or of another run"),
        (put_in_own_unsigned, "the key of agent 2 is not signed: its SuperNode needs a signing-key"),
        (lambda cards: [*cards, cards[0]], "table of keys has two for agent 0"),
    ],
    ids=["swapped", "its own", "its own, unsigned", "one twice"],
)
def test_a_server_that_lies_about_signed_keys_is_refused(change, reason, tmp_path, apart):
    config = patterned_config(tmp_path)
    grid = Wiretap(config, members(tmp_path))
    grid.change = on_cards(change)
    assert reason in refused(grid, config)


def test_keys_that_were_swapped_are_found_out_by_their_owners(tmp_path, apart):
    """Also where they are not signed."""
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    grid.change = on_cards(swap_two)
    assert "holds another key for agent 0 than its own" in refused(grid, config)


def test_keys_that_were_swapped_before_a_third_open_no_letter(tmp_path, apart):
    """Also where they are not signed: the ServerApp must put in keys of its own to get further."""
    config = patterned_config(tmp_path)
    grid, lie = Wiretap(config), on_cards(lambda cards: [cards[0], *swap_two(cards[1:])])
    grid.change = lambda message: lie(message) if message.metadata.dst_node_id == 1000 else None
    assert "the run's table of keys is false" in refused(grid, config)


def test_a_node_that_trusts_members_takes_no_unsigned_key(tmp_path, apart):
    config, configs = patterned_config(tmp_path), members(tmp_path)
    grid = Wiretap(config, lambda place: configs(place) if place != 1 else {})
    assert "the key of agent 1 is not signed: its SuperNode needs a signing-key" in refused(grid, config)


def test_a_member_who_is_no_longer_trusted_is_refused(tmp_path, apart):
    config, configs = patterned_config(tmp_path), members(tmp_path)
    (tmp_path / "members" / "2.pub").unlink()
    line = refused(Wiretap(config, configs), config)
    assert "the key of agent 2 is signed by somebody who is not among the trusted-keys" in line


@pytest.mark.parametrize(
    ("node_config", "reason"),
    [
        ({"signing-key": "none"}, "--node-config signing-key = 'none': goes together with trusted-keys"),
        ({"trusted-keys": "none"}, "trusted-keys = 'none': must be a file that can be read"),
        ({"signing-key": 3, "trusted-keys": "none"}, "--node-config signing-key = 3: must be a path"),
    ],
    ids=["one alone", "no file", "no path"],
)
def test_a_node_that_is_set_up_badly_is_refused_in_one_line(node_config, reason, tmp_path, apart):
    config = patterned_config(tmp_path)
    assert reason in refused(Wiretap(config, lambda place: node_config), config)
