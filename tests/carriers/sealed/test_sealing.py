"""Sealed envelopes: only the receiver reads them, once, as they were sent; all else is refused in a line."""

import struct
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.carriers.sealed import sealing
from comdml_flwr.carriers.sealed.sealing import Sealer, new_private_key, public_key_of
from comdml_flwr.core.errors import RunError

LAW = settings(max_examples=100)
HEADER = struct.Struct(">cqqQI")
KEYS = {agent: new_private_key() for agent in (-1, 0, 1, 2)}
TABLE = {agent: public_key_of(key) for agent, key in KEYS.items()}
AGENTS = st.sampled_from(sorted(KEYS))


def sealer(agent, exchange, since=0, *, run="run", keys=KEYS, table=TABLE):
    return Sealer(
        run=run,
        agent=agent,
        private_key=keys[agent],
        public_keys=table,
        exchange=exchange,
        since=since,
    )


def refused(receiver, envelope):
    """Return the line with which an envelope is refused."""
    with pytest.raises(RunError) as caught:
        receiver.unseal(envelope)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def with_header(envelope, **changes):
    """Return an envelope with another header."""
    names = ("mark", "sender", "receiver", "exchange", "place")
    header = dict(zip(names, HEADER.unpack_from(envelope), strict=True)) | changes
    return HEADER.pack(*header.values()) + envelope[HEADER.size :]


@LAW
@given(AGENTS, AGENTS, st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 2**40))
def test_letters_come_out_as_they_went_in(sender, receiver, blobs, exchange):
    one, other = sealer(sender, exchange), sealer(receiver, exchange + 1)
    envelopes = [one.seal(receiver, blob) for blob in blobs]
    assert [other.unseal(envelope) for envelope in envelopes] == [(sender, blob) for blob in blobs]


def test_what_comes_out_is_a_buffer_that_can_be_written_into():
    _, blob = sealer(1, 2).unseal(sealer(0, 1).seal(1, b"weights"))
    assert isinstance(blob, bytearray)


def test_a_letter_is_its_header_and_what_rfc_8439_makes_of_the_blob():
    """An oracle that follows the theory of operation by hand."""
    envelope = sealer(0, 7).seal(1, b"weights" * 20)
    secret = X25519PrivateKey.from_private_bytes(KEYS[1]).exchange(
        X25519PublicKey.from_public_bytes(TABLE[0])
    )
    info = b"comdml-flwr sealed envelope 1" + struct.pack(">qq", 0, 1) + TABLE[0] + TABLE[1] + b"run"
    key = HKDF(SHA256(), 32, salt=None, info=info).derive(secret)
    header = envelope[: HEADER.size]
    assert header == HEADER.pack(b"#", 0, 1, 7, 0)
    nonce = struct.pack(">QI", 7, 0)
    opened = ChaCha20Poly1305(key).decrypt(nonce, envelope[HEADER.size :], b"run" + header)
    assert opened == b"weights" * 20
    assert len(envelope) == len(opened) + 45


@LAW
@given(st.data())
def test_a_letter_of_which_one_bit_was_changed_is_refused(data):
    envelope = bytearray(sealer(0, 3).seal(1, b"activations"))
    place = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[place // 8] ^= 1 << place % 8
    refused(sealer(1, 5), bytes(envelope))


@LAW
@given(st.integers(0, 55))
def test_a_truncated_letter_is_refused(length):
    envelope = sealer(0, 3).seal(1, b"activations")
    assert len(envelope) == 56
    refused(sealer(1, 4), envelope[:length])


@LAW
@given(
    st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: HEADER.pack(b"#", 0, 1, 3, 0) + rest)
)
def test_bytes_that_nobody_sealed_are_refused(envelope):
    refused(sealer(1, 4), envelope)


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({"sender": 2}, 1),
        ({"sender": 1}, 1),
        ({"receiver": 2}, 2),
        ({"receiver": 0}, 0),
        ({"sender": 1, "receiver": 0}, 0),
        ({"exchange": 4}, 1),
        ({"exchange": 2}, 1),
        ({"place": 1}, 1),
    ],
    ids=str,
)
def test_every_field_of_the_header_is_bound(changes, opens):
    """Each change keeps the envelope within what its receiver takes, so that only the seal can refuse it."""
    envelope = sealer(0, 3).seal(1, b"labels")
    assert sealer(1, 9).unseal(envelope) == (0, b"labels")
    assert "does not open" in refused(sealer(opens, 9), with_header(envelope, **changes))


def test_a_letter_of_another_run_does_not_open():
    """Not even where the keys are the same ones, which they never are."""
    envelope = sealer(0, 3, run="another").seal(1, b"labels")
    assert "does not open" in refused(sealer(1, 4), envelope)


@LAW
@given(AGENTS)
def test_the_runs_token_is_also_among_the_associated_data(receiver):
    """The key depends on the token; so does the tag under one key."""
    envelope = sealer(0, 3).seal(receiver, b"labels")
    other = sealer(receiver, 4)
    other._run = b"another"
    other._derive = sealer(receiver, 4)._derive
    assert "does not open" in refused(other, envelope)


def test_a_letter_to_another_is_refused():
    assert "to agent 1 arrived at agent 2" in refused(sealer(2, 4), sealer(0, 3).seal(1, b"labels"))


@pytest.mark.parametrize(
    ("sealed", "since", "exchange", "taken"),
    [
        (3, 3, 4, True),
        (3, 0, 9, True),
        (3, 4, 5, False),
        (3, 8, 9, False),
        (4, 3, 4, False),
        (5, 3, 4, False),
    ],
)
def test_only_letters_since_the_last_exchange_are_new(sealed, since, exchange, taken):
    """An agent that was away finds what was sent since; nothing older, nothing of the present or later."""
    envelope, receiver = sealer(0, sealed).seal(1, b"labels"), sealer(1, exchange, since)
    if taken:
        assert receiver.unseal(envelope) == (0, b"labels")
    else:
        assert f"is of exchange {sealed}: in exchange {exchange} only" in refused(receiver, envelope)


def test_a_letter_that_comes_twice_is_refused():
    envelope, receiver = sealer(0, 3).seal(1, b"labels"), sealer(1, 4)
    receiver.unseal(envelope)
    assert "came twice" in refused(receiver, envelope)


def test_a_receiver_opens_a_letter_once_in_its_life():
    """Whatever exchanges follow: windows of one agent that takes part in them in order never overlap."""
    envelope, opened, since = sealer(0, 4).seal(1, b"labels"), 0, 0
    for exchange in (2, 3, 5, 6, 7, 12):
        try:
            sealer(1, exchange, since).unseal(envelope)
            opened += 1
        except RunError:
            pass
        since = exchange
    assert opened == 1


class Watched:
    """A cipher that notes under which key it is given which nonce."""

    def __init__(self, used, key):
        self._used, self._key, self._real = used, key, ChaCha20Poly1305(key)

    def encrypt(self, nonce, blob, associated):
        self._used.append((self._key, nonce))
        return self._real.encrypt(nonce, blob, associated)


@LAW
@given(st.lists(st.tuples(AGENTS, AGENTS), max_size=8), st.integers(1, 4))
def test_no_nonce_is_used_twice_under_a_key(turns, num_exchanges):
    used = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "ChaCha20Poly1305", partial(Watched, used))
        for exchange in range(1, num_exchanges + 1):
            sealers = {agent: sealer(agent, exchange, exchange - 1) for agent in KEYS}
            for agent, receiver in turns:
                sealers[agent].seal(receiver, b"the same")
    assert len(used) == len(turns) * num_exchanges
    assert len(set(used)) == len(used)


def test_the_two_directions_have_keys_of_their_own():
    assert sealer(0, 1)._derive(0, 1) == sealer(1, 1)._derive(0, 1)
    assert sealer(0, 1)._derive(0, 1) != sealer(0, 1)._derive(1, 0)


@pytest.mark.parametrize("exchange", [0, 2, 3])
def test_nobody_seals_for_an_exchange_that_is_over(exchange):
    with pytest.raises(RunError, match=f"has sealed its mail of exchange 3 and seals none of {exchange}"):
        sealer(0, exchange, since=3)


def test_a_table_with_another_key_for_oneself_is_refused():
    with pytest.raises(RunError, match="holds another key for agent 1 than its own"):
        sealer(1, 1, table={**TABLE, 1: TABLE[2]})


def test_keys_that_two_others_swapped_open_nothing():
    envelope = sealer(0, 1).seal(1, b"labels")
    swapped = {**TABLE, 0: TABLE[2], 2: TABLE[0]}
    assert "table of keys is false" in refused(sealer(1, 2, table=swapped), envelope)


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "has none for agent 1"), (bytes(32), "is no X25519 key"), (b"short", "is no X25519 key")],
    ids=["none", "of low order", "short"],
)
def test_a_key_that_is_none_is_refused(key, reason):
    table = {agent: TABLE[agent] for agent in (0, 2)} | ({} if key is None else {1: key})
    with pytest.raises(RunError, match=reason):
        sealer(0, 1, table=table).seal(1, b"labels")


def test_a_letter_that_is_too_long_for_the_cipher_is_refused(monkeypatch):
    monkeypatch.setattr(sealing, "MAX_BYTES", 10)
    sealer(0, 1).seal(1, bytes(10))
    with pytest.raises(RunError, match="an envelope of 11 bytes: must be at most 10"):
        sealer(0, 1).seal(1, bytes(11))
