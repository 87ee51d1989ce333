"""Mail between nodes that share no folder is sealed; what the ServerApp does to it is found out.

The known patterns: all weights of the model are one number, all activations at its cuts another, all labels a
third; steps are so small that no weight changes. In letters that are not sealed they are easy to find, and a
test finds them.
"""

import copy
import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flwr.common.serde import recorddict_to_proto
from torch import nn

from comdml_flwr.assemble import Catalogue
from comdml_flwr.errors import RunError
from comdml_flwr.flower import mail, peer_client_app
from comdml_flwr.flower.peer_strategy import PeerStrategy
from comdml_flwr.key_cards import KeyCard
from comdml_flwr.sealing import Sealer, new_private_key, public_key_of
from strategies.splitfed import run_splitfed
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal
from tests.small import few_digits, fleet_text, small_config

NUM_AGENTS = 3
WEIGHT, ACTIVATION, LABEL = 0.015625, 1.7182817, 7
PATTERNS = {
    "weights": np.full(16, WEIGHT, np.float32).tobytes(),
    "activations": np.full(16, ACTIVATION, np.float32).tobytes(),
    "labels": np.full(4, LABEL, np.int64).tobytes(),
}


class Always(nn.Module):
    """Gives one number, whatever comes in; its input has a gradient all the same."""

    def forward(self, x_NCHW):
        return x_NCHW * 0 + ACTIVATION


def patterned(shape, num_classes, generator):
    """Return a model whose weights and activations are known."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(shape[0], 8, 3, padding=1), Always()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), Always()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), Always()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)),
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(WEIGHT)
    return model


def all_sevens(config):
    data = few_digits()
    return dataclasses.replace(data, y_train_N=torch.full_like(data.y_train_N, LABEL))


CATALOGUE = Catalogue(models={"patterned": patterned}, datasets={"sevens": all_sevens})


class Wiretap(LoopGrid):
    """A grid that keeps all that passes, as bytes in Flower's own layout, and may change it."""

    def __init__(self, config, node_config=lambda place: {}):
        app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
        super().__init__(app, NUM_AGENTS, config.with_defaults_named(), node_config)
        self.seen, self.change, self.lettered = [], lambda message: None, []

    def _handle(self, message):
        self.change(message)
        self._see(message)
        name = super()._handle(message)
        self._see(self._replies[name])
        return name

    def _see(self, message):
        self.seen.append(recorddict_to_proto(message.content).SerializeToString())
        self.lettered += message.content["facts"].get("letters", [])

    def found(self):
        """Return which patterns passed."""
        return {name for name, pattern in PATTERNS.items() if any(pattern in seen for seen in self.seen)}

    def num_bytes(self):
        return sum(map(len, self.seen))


def patterned_config(tmp_path, **keys):
    keys = {"method": "comdml", "num_rounds": 2, "optimizer": "sgd", "momentum": 0.0} | keys
    config = small_config(learning_rate=1e-30, **keys)
    names = {"model": "patterned", "dataset": "sevens"}
    return grid_config(config.model_copy(update=names), tmp_path / "results")


def run(grid, config, terminal=None):
    """Run a method over a grid; return its summary."""
    terminal = terminal or quiet_terminal(config.num_rounds)
    if config.method == "splitfed":
        run_splitfed(grid, config, fleet_text(NUM_AGENTS), CATALOGUE, terminal)
    else:
        PeerStrategy(config, fleet_text(NUM_AGENTS), terminal).start(grid)
    (summary,) = Path(config.results_dir).glob("*/summary.json")
    return json.loads(summary.read_text())


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files: what a run leaves there shows."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(mail.tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def apart(monkeypatch):
    """No node sees the run's folder."""
    monkeypatch.setattr(peer_client_app, "is_shared", lambda folder, token: False)


@pytest.fixture
def open_letters(monkeypatch):
    """Letters that are not sealed, as if the work of sealing.py were not done."""
    monkeypatch.setattr(Sealer, "seal", lambda self, receiver, blob: bytes([self.agent + 1]) + blob)
    monkeypatch.setattr(Sealer, "unseal", lambda self, letter: (letter[0] - 1, bytearray(letter[1:])))


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
    assert len(grid.lettered) > 2 * NUM_AGENTS
    assert all(letter.startswith(b"#") for letter in grid.lettered)
    assert grid.num_bytes() > 20_000
    assert grid.found() == set()


@METHODS
def test_the_search_finds_all_three_where_letters_are_not_sealed(keys, tmp_path, apart, open_letters):
    config = patterned_config(tmp_path, **keys)
    grid = Wiretap(config)
    run(grid, config)
    assert grid.found() == set(PATTERNS)


def members(tmp_path):
    """Make a signing key for each node, as `ssh-keygen -t ecdsa -b 384` does; return what its config says."""
    (tmp_path / "members").mkdir()
    for place in range(NUM_AGENTS):
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (tmp_path / f"key-{place}").write_bytes(private)
        (tmp_path / "members" / f"{place}.pub").write_bytes(public)
    return lambda place: {
        "signing-key": str(tmp_path / f"key-{place}"),
        "trusted-keys": str(tmp_path / "members"),
    }


def printed(config, grid):
    """Run, and return what the ServerApp printed."""
    terminal = quiet_terminal(config.num_rounds)
    run(grid, config, terminal)
    return terminal.console.file.getvalue()


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


def test_nothing_is_said_and_nothing_is_sealed_where_all_see_the_folder(tmp_path, caplog):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    with caplog.at_level(logging.WARNING):
        text = printed(config, grid)
    assert "not signed" not in text + caplog.text
    assert {letter[:1] for letter in grid.lettered} <= {b"=", b"@"}


def refused(grid, config):
    """Run; return the line with which it ended. No more is left behind than after any run."""
    with pytest.raises(RunError) as caught:
        run(grid, config)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(Path(config.results_dir).glob("*/summary.json"))
    return str(caught.value)


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


def test_keys_of_others_that_were_swapped_open_no_letter(tmp_path, apart):
    """Also where they are not signed: the ServerApp must have the private keys to get further."""
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    grid.change = on_cards(lambda cards: [cards[0], *swap_two(cards[1:])])
    assert "holds another key for agent 1 than its own" in refused(grid, config)


def test_a_node_that_trusts_members_takes_no_unsigned_key(tmp_path, apart):
    config, configs = patterned_config(tmp_path), members(tmp_path)
    grid = Wiretap(config, lambda place: configs(place) if place != 1 else {})
    assert "the key of agent 1 is not signed: its SuperNode needs a signing-key" in refused(grid, config)


def test_a_member_who_is_no_longer_trusted_is_refused(tmp_path, apart):
    config, configs = patterned_config(tmp_path), members(tmp_path)
    (tmp_path / "members" / "2.pub").unlink()
    line = refused(Wiretap(config, configs), config)
    assert "the key of agent 2 is signed by somebody who is not among the trusted-keys" in line


def in_round(round_, place, change):
    """Return a ServerApp that changes the facts of one message: the first of a round to a node."""
    done = []

    def lie(message):
        facts = message.content["facts"]
        rounds = facts.get("rounds", [])
        if not done and rounds and rounds[0] == round_ and message.metadata.dst_node_id == 1000 - place:
            done.append(place)
            change(facts)

    return lie


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


def repeated(letter):
    return [letter, letter]


def in_the_open(letter):
    return [b"=" + letter[1:]]


def of_another_exchange(letter):
    """Lower the exchange's number, the last byte of which is the 25th."""
    return [letter[:24] + bytes([letter[24] - 1]) + letter[25:]]


def changed(letter):
    return [letter[:-1] + bytes([letter[-1] ^ 1])]


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (repeated, "came twice"),
        (in_the_open, "bytes that begin with b'=' are no sealed letter"),
        (of_another_exchange, "is of exchange 0: in exchange 2 only those from 1 on are new"),
        (changed, "does not open"),
        (lambda letter: [b""], "0 bytes that begin with b'' are no sealed letter"),
    ],
    ids=["repeated", "in the open", "of another exchange", "changed", "empty"],
)
def test_a_server_that_forges_a_letter_is_refused(forge, reason, tmp_path, apart):
    config = patterned_config(tmp_path)
    grid = Wiretap(config)

    def lie(message):
        letters = message.content["facts"].get("letters", [])
        if letters:
            message.content["facts"]["letters"] = [*forge(letters[0]), *letters[1:]]

    grid.change = lie
    assert reason in refused(grid, config)


def test_a_letter_of_an_earlier_exchange_is_refused(tmp_path, apart):
    """The ServerApp kept the first letter to node 1 and hands it on once more, two exchanges later."""
    config = patterned_config(tmp_path)
    grid, kept = Wiretap(config), []

    def lie(message):
        facts = message.content["facts"]
        if message.metadata.dst_node_id == 999 and facts.get("letters"):
            kept.append(copy.deepcopy(facts["letters"]))
            if len(kept) == 3:
                facts["letters"] = [*facts["letters"], kept[0][0]]

    grid.change = lie
    assert "on are new" in refused(grid, config)


def test_a_letter_to_another_node_is_refused(tmp_path, apart):
    config = patterned_config(tmp_path)
    grid, kept = Wiretap(config), []

    def lie(message):
        letters = message.content["facts"].get("letters", [])
        if kept and letters:
            message.content["facts"]["letters"] = [kept[0]]
        kept.extend(letters)

    grid.change = lie
    assert "to agent 0 came to agent 1" in refused(grid, config)


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
