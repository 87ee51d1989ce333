"""Mail between nodes that share no folder is sealed; what the ServerApp does to it is found out."""

import copy
import dataclasses
import logging

import pytest

from comdml_flwr.carriers.sealed.sealing import Sealer, public_key_of
from comdml_flwr.flower import mail
from tests.flower.wiretap import (
    NUM_AGENTS,
    PATTERNS,
    Wiretap,
    in_round,
    patterned_config,
    printed,
    refused,
    run,
)


@pytest.fixture
def open_letters(monkeypatch):
    """Envelopes that are not sealed, as if the work of sealing.py were not done."""
    monkeypatch.setattr(Sealer, "seal", lambda self, receiver, blob: bytes([self.agent + 1]) + blob)
    monkeypatch.setattr(Sealer, "unseal", lambda self, packed: (packed[0] - 1, bytearray(packed[1:])))


METHODS = pytest.mark.parametrize(
    "keys",
    [{}, {"num_chunks": 2, "averaging": "mixing", "topology": "ring"}, {"method": "splitfed", "cut": 2}],
    ids=["comdml", "comdml, mixing", "splitfed"],
)


@METHODS
def test_no_weight_activation_or_label_passes_through_flower(keys, tmp_path, apart):
    config = patterned_config(tmp_path, **keys)
    grid = Wiretap(config)
    run(grid, config)
    assert len(grid.packed) > 2 * NUM_AGENTS
    assert all(packed.startswith(b"#") for packed in grid.packed)
    assert grid.num_bytes() > 20_000
    assert grid.found() == set()


@METHODS
def test_the_search_finds_all_three_where_letters_are_not_sealed(keys, tmp_path, apart, open_letters):
    config = patterned_config(tmp_path, **keys)
    grid = Wiretap(config)
    run(grid, config)
    assert grid.found() == set(PATTERNS)


def test_nothing_is_said_and_nothing_is_sealed_where_all_see_the_folder(tmp_path, caplog):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    with caplog.at_level(logging.WARNING):
        text = printed(config, grid)
    assert "not signed" not in text + caplog.text
    assert {packed[:1] for packed in grid.packed} <= {b"=", b"@"}


def test_a_server_cannot_talk_a_node_into_open_letters(tmp_path, apart):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    grid.change = in_round(2, 1, lambda facts: facts.update({"files": True}))
    assert "told that it shares" in refused(grid, config)
    assert grid.found() == set()


@pytest.mark.parametrize("exchange", [0, 1])
def test_a_server_cannot_make_a_node_use_a_nonce_twice(exchange, tmp_path, apart):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    grid.change = in_round(2, 1, lambda facts: facts.update({"exchange": exchange}))
    assert f"seals no mail of exchange {exchange}" in refused(grid, config)


def repeated(packed):
    return [packed, packed]


def in_the_open(packed):
    return [b"=" + packed[1:]]


def of_another_exchange(packed):
    """Lower the exchange's number, the last byte of which is the 25th."""
    return [packed[:24] + bytes([packed[24] - 1]) + packed[25:]]


def changed(packed):
    return [packed[:-1] + bytes([packed[-1] ^ 1])]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (repeated, "came twice"),
        (in_the_open, "bytes that begin with b'=' are no sealed envelope"),
        (of_another_exchange, "is of exchange 0: in exchange 2 only those from 1 on are new"),
        (changed, "does not open"),
        (lambda packed: [b""], "0 bytes that begin with b'' are no sealed envelope"),
    ],
    ids=["repeated", "in the open", "of another exchange", "changed", "empty"],
)
def test_what_a_server_forges_is_read_by_nobody(forge, reason, tmp_path, apart, caplog):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)

    def lie(message):
        facts = message.content["facts"]
        if packed := facts.get("packed", []):
            forged = forge(packed[0])
            facts["packed"] = [*forged, *packed[1:]]
            facts["senders"] = [facts["senders"][0]] * len(forged) + facts["senders"][1:]

    grid.change = lie
    told = refused(grid, config)
    assert reason in told + caplog.text
    assert "leaves out: mail from agent" in caplog.text


def test_a_letter_of_an_earlier_exchange_is_left_out(tmp_path, apart, caplog):
    """The ServerApp kept the first envelope to node 1 and hands it on once more, two exchanges later."""
    config = patterned_config(tmp_path)
    grid, kept = Wiretap(config), []

    def lie(message):
        facts = message.content["facts"]
        if message.metadata.dst_node_id == 999 and facts.get("packed"):
            kept.append(copy.deepcopy(facts["packed"]))
            if len(kept) == 3:
                facts["packed"] = [*facts["packed"], kept[0][0]]
                facts["senders"] = [*facts["senders"], 0]

    grid.change = lie
    assert refused(grid, config) == ""
    assert "leaves out: mail from agent 0: an envelope from agent 0 is of exchange" in caplog.text
    assert "on are new" in caplog.text


def test_a_letter_to_another_node_is_left_out(tmp_path, apart, caplog):
    config = patterned_config(tmp_path)
    grid, kept = Wiretap(config), []

    def lie(message):
        packed = message.content["facts"].get("packed", [])
        if message.metadata.dst_node_id == 1000:
            kept.extend(packed)
        elif message.metadata.dst_node_id == 999 and kept:
            message.content["facts"]["packed"] = [kept[-1]]
            message.content["facts"]["senders"] = [2]

    grid.change = lie
    refused(grid, config)
    assert "to agent 0 arrived at agent 1" in caplog.text


def own_folders(temporary):
    (place,) = temporary.glob("comdml-flwr-*-node")
    return sorted(place.iterdir())


def test_private_keys_are_the_nodes_own_and_gone_afterwards(tmp_path, temporary, apart):
    config = patterned_config(tmp_path)
    grid, modes = Wiretap(config), set()

    def look(message):
        if message.metadata.message_type == "train.steps":
            folders = own_folders(temporary)
            assert len(folders) == NUM_AGENTS
            for folder in folders:
                (key,) = folder.glob("keys/*/*")
                assert key.stat().st_size == 32
                modes.add((key.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o777))

    grid.change = look
    run(grid, config)
    assert modes == {(0o600, 0o700)}
    assert own_folders(temporary) == []


def test_private_keys_do_not_pass_through_flower(tmp_path, temporary, apart):
    config = patterned_config(tmp_path)
    grid, keys = Wiretap(config), set()
    grid.change = lambda message: keys.update(
        path.read_bytes() for path in temporary.glob("comdml-flwr-*-node/*/keys/*/*")
    )
    run(grid, config)
    assert len(keys) == NUM_AGENTS
    for key in keys:
        assert not any(key in seen for seen in grid.seen)
        assert any(public_key_of(key) in seen for seen in grid.seen)


def test_a_node_that_lost_its_key_says_so_in_one_line(tmp_path, temporary, apart):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)

    def lose(facts):
        for key in temporary.glob("comdml-flwr-*-node/*/keys/1/*"):
            key.unlink()

    grid.change = in_round(2, 1, lose)
    line = refused(grid, config)
    assert "agent 1 has lost its key for this run: there is none in" in line
    assert line.endswith("start the run again")


def test_a_place_that_belongs_to_another_user_is_refused(tmp_path, apart, monkeypatch):
    config = patterned_config(tmp_path)
    monkeypatch.setattr(mail.os, "getuid", lambda: 12345)
    assert "belongs to another user" in refused(Wiretap(config), config)


@pytest.mark.parametrize("lie", ["no envelope", "another's"])
def test_what_a_member_seals_and_is_no_envelope_of_its_own_costs_its_receivers_nothing(
    lie, tmp_path, apart, caplog, monkeypatch
):
    encode = mail.encode_envelope

    def lying(envelope):
        if (envelope.sender, envelope.kind) != (1, "contribution"):
            return encode(envelope)
        return b"nothing" if lie == "no envelope" else encode(dataclasses.replace(envelope, sender=2))

    monkeypatch.setattr(mail, "encode_envelope", lying)
    config = patterned_config(tmp_path)
    text = printed(config, Wiretap(config))
    assert "failed" not in text
    assert "leaves out: mail from agent 1: " in caplog.text
