"""Key cards: only what a member signed for this run, this agent and this key is taken."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.carriers.sealed.key_cards import (
    KeyCard,
    fingerprint,
    load_signing_key,
    load_trusted_keys,
    new_card,
    table_of_keys,
)
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import PRIVATE_FILE, write_file

MAKERS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384, as Flower's": lambda: ec.generate_private_key(ec.SECP384R1()),
}
MEMBERS = [make() for make in MAKERS.values()]
TRUSTED = {fingerprint(key.public_key()): key.public_key() for key in MEMBERS}
PUBLIC = [bytes([number]) * 32 for number in range(3)]
CARDS = [new_card("run", agent, PUBLIC[agent], key) for agent, key in enumerate(MEMBERS)]


def table(cards, **keys):
    return table_of_keys([card.pack() for card in cards], "run", TRUSTED, **keys)


def test_signed_cards_make_the_table():
    assert table(CARDS) == dict(enumerate(PUBLIC))


LAW = settings(max_examples=100)


@LAW
@given(st.binary(min_size=72, max_size=200))
def test_bytes_of_enough_length_are_a_card(packed):
    assert KeyCard.unpack(packed).pack() == packed


@LAW
@given(st.binary(max_size=71))
def test_fewer_bytes_are_none(packed):
    with pytest.raises(RunError, match=f"a key card of {len(packed)} bytes: must have 72 or more"):
        KeyCard.unpack(packed)


@pytest.mark.parametrize("changed", range(3), ids=MAKERS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"public_key": bytes([9]) * 32}, "false signature"),
        ({"agent": 7}, "false signature"),
        ({"signature": b"no signature"}, "false signature"),
        ({"signature": b""}, "is not signed: its SuperNode needs a signing-key"),
        ({"signer": bytes(32)}, "not among the trusted-keys"),
    ],
    ids=["another key", "another agent", "no signature's bytes", "no signature", "a stranger's"],
)
def test_a_card_that_was_changed_is_refused(change, reason, changed):
    cards = [*CARDS[:changed], replace(CARDS[changed], **change), *CARDS[changed + 1 :]]
    with pytest.raises(RunError, match=reason):
        table(cards)


def test_a_card_of_another_run_is_refused():
    with pytest.raises(RunError, match="or of another run"):
        table_of_keys([card.pack() for card in CARDS], "another run", TRUSTED)


def test_two_agents_whose_keys_were_swapped_are_refused():
    one, other, third = CARDS
    swapped = [replace(one, public_key=PUBLIC[1]), replace(other, public_key=PUBLIC[0]), third]
    with pytest.raises(RunError, match="false signature: it is another's key"):
        table(swapped)


def test_a_stranger_who_signs_is_refused():
    card = new_card("run", 0, PUBLIC[0], ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(RunError, match="not among the trusted-keys"):
        table([card])


def test_a_member_vouches_for_one_agent():
    with pytest.raises(RunError, match="one member signed the keys of agents 0 and 1"):
        table([CARDS[0], new_card("run", 1, PUBLIC[1], MEMBERS[0])])


def test_an_agent_has_one_key():
    with pytest.raises(RunError, match="has two for agent 0"):
        table([CARDS[0], CARDS[0]])


def test_without_trusted_keys_the_servers_word_is_taken():
    cards = [KeyCard(agent=agent, public_key=key) for agent, key in enumerate(PUBLIC)]
    assert table_of_keys([card.pack() for card in cards], "run") == dict(enumerate(PUBLIC))
    assert not any(card.is_signed for card in cards)


def test_the_server_alone_needs_no_signature():
    server = new_card("run", -1, bytes(32))
    assert table([server, *CARDS], unsigned=[-1])[-1] == bytes(32)
    with pytest.raises(RunError, match="the key of agent -1 is not signed"):
        table([server, *CARDS])


def private_bytes(key, form):
    encoding, layout = {
        "openssh": (Encoding.PEM, PrivateFormat.OpenSSH),
        "pkcs8": (Encoding.PEM, PrivateFormat.PKCS8),
    }[form]
    return key.private_bytes(encoding, layout, NoEncryption())


def public_bytes(key, form):
    if form == "openssh":
        return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" who@where\n"
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("form", ["openssh", "pkcs8"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_keys_are_read_from_files_as_people_have_them(make, form, tmp_path):
    key = make()
    write_file(tmp_path / "key", private_bytes(key, form), mode=PRIVATE_FILE)
    (tmp_path / "key.pub").write_bytes(public_bytes(key, form))
    card = new_card("run", 4, PUBLIC[1], load_signing_key(tmp_path / "key"))
    trusted = load_trusted_keys(tmp_path / "key.pub")
    assert table_of_keys([card.pack()], "run", trusted) == {4: PUBLIC[1]}


def test_trusted_keys_are_one_file_or_a_folder_of_files(tmp_path):
    forms = ["openssh", "openssh", "pem"]
    together = b"# the members\n\n" + b"".join(public_bytes(key, "openssh") for key in MEMBERS)
    (tmp_path / "members").write_bytes(together)
    (tmp_path / "folder").mkdir()
    for number, (key, form) in enumerate(zip(MEMBERS, forms, strict=True)):
        (tmp_path / "folder" / f"{number}.pub").write_bytes(public_bytes(key, form))
    assert load_trusted_keys(tmp_path / "members").keys() == TRUSTED.keys()
    assert load_trusted_keys(tmp_path / "folder").keys() == TRUSTED.keys()


RSA = rsa.generate_private_key(65537, 2048)
LOCKED = MEMBERS[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("load", "content", "reason"),
    [
        (load_signing_key, None, r"must be a file that can be read \(No such file or directory\)"),
        (load_signing_key, b"no key", "must hold Ed25519 or elliptic curve keys"),
        (load_signing_key, private_bytes(RSA, "pkcs8"), "must hold Ed25519 or elliptic curve keys"),
        (load_signing_key, LOCKED, "without a passphrase"),
        (load_trusted_keys, None, r"must be a file that can be read \(No such file or directory\)"),
        (load_trusted_keys, b"", "must be a file with public keys, or a folder of such"),
        (load_trusted_keys, b"no key\n", "must hold Ed25519 or elliptic curve keys"),
        (load_trusted_keys, b"-----BEGIN nothing", "must hold Ed25519 or elliptic curve keys"),
        (load_trusted_keys, public_bytes(RSA, "openssh"), "must hold Ed25519 or elliptic curve keys"),
        (load_trusted_keys, private_bytes(MEMBERS[0], "openssh"), "must hold Ed25519 or elliptic curve keys"),
    ],
)
def test_files_that_hold_no_such_keys_are_refused(load, content, reason, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_signing_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(private_bytes(ed25519.Ed25519PrivateKey.generate(), "openssh"))
    path.chmod(0o640)
    with pytest.raises(InputError) as caught:
        load_signing_key(path)
    line = f"others may read {path} (mode 0640), and who has it can be this node: chmod 600 {path}"
    assert str(caught.value) == f"signing-key = '{path}': {line}"
    path.chmod(0o600)
    load_signing_key(path)
