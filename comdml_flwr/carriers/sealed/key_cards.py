"""Key cards: by what a node lets others seal mail to it, signed where the members know each other.

A card holds an agent's id and its public key for a run. The ServerApp hands on everybody's cards, so it could
replace them by its own and read all mail. Where each member has a signing key that the others know, it
cannot:

* the member signs (run, agent, public key) with its signing key. This may be the key by which its SuperNode
  is known to the SuperLink (`--auth-supernode-private-key`). Flower hands neither that key nor others' public
  keys to a ClientApp, so `--node-config` names the files: `signing-key` and `trusted-keys`;
* a node with trusted keys takes a table only if every card is signed by one of them, and no two by the same:
  a member vouches for one agent. It vouches for whichever it says, so a member who helps the ServerApp can
  take another's place; nobody else can.

Signing keys are Ed25519 or elliptic curve keys (ECDSA with SHA-256), in OpenSSH's format or as PEM, without a
passphrase.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import why_not_private

SigningKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
TrustedKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
Trusted: TypeAlias = Mapping[bytes, TrustedKey]
"""Public keys of the members, by fingerprint."""

_CARD = struct.Struct(">q32s32s")  # agent, public key, the signing key's fingerprint; then the signature
_NOBODY = bytes(32)
_PURPOSE = b"comdml-flwr key card 1"
_KINDS = "must hold Ed25519 or elliptic curve keys, in OpenSSH's format or as PEM, without a passphrase"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCard:
    """An agent's public key for a run.

    Parameters
    ----------
    agent : int
        Its id.
    public_key : bytes
        X25519, 32 bytes.
    signer : bytes
        Fingerprint of the signing key; zeros where it is not signed.
    signature : bytes
        Over the run, the agent and its public key; empty where it is not signed.
    """

    agent: int
    public_key: bytes
    signer: bytes = _NOBODY
    signature: bytes = b""

    @property
    def is_signed(self) -> bool:
        """Whether it bears a signature, be it good or not."""
        return bool(self.signature)

    def pack(self) -> bytes:
        """Return the card as bytes."""
        return _CARD.pack(self.agent, self.public_key, self.signer) + self.signature

    @classmethod
    def unpack(cls, packed: bytes) -> "KeyCard":
        """Return the card in these bytes."""
        if len(packed) < _CARD.size:
            raise RunError(f"a key card of {len(packed)} bytes: must have {_CARD.size} or more")
        agent, public_key, signer = _CARD.unpack_from(packed)
        return cls(agent=agent, public_key=public_key, signer=signer, signature=packed[_CARD.size :])


def new_card(run: str, agent: int, public_key: bytes, signing_key: SigningKey | None = None) -> KeyCard:
    """Return an agent's card, signed if there is a key to sign with.

    Parameters
    ----------
    run : str
        What tells this run from all others.
    agent : int
        Whose card it is.
    public_key : bytes
        X25519, 32 bytes.
    signing_key : SigningKey, optional
        The member's.
    """
    if signing_key is None:
        return KeyCard(agent=agent, public_key=public_key)
    text = _signed_text(run, agent, public_key)
    if isinstance(signing_key, ed25519.Ed25519PrivateKey):
        signature = signing_key.sign(text)
    else:
        signature = signing_key.sign(text, ec.ECDSA(SHA256()))
    signer = fingerprint(signing_key.public_key())
    return KeyCard(agent=agent, public_key=public_key, signer=signer, signature=signature)


def table_of_keys(
    cards: Iterable[bytes], run: str, trusted: Trusted | None = None, *, unsigned: Collection[int] = ()
) -> dict[int, bytes]:
    """Return the public keys on cards, by agent id.

    Parameters
    ----------
    cards : Iterable[bytes]
        Everybody's, as the ServerApp handed them on.
    run : str
        What tells this run from all others.
    trusted : Trusted, optional
        Keys of the members; without them, the ServerApp's word is taken.
    unsigned : Collection[int]
        Whose cards need no signature: a server that the ServerApp itself plays.

    Raises
    ------
    RunError
        A card is not signed by a member, or the table is no table; one line.
    """
    table: dict[int, bytes] = {}
    signers: dict[bytes, int] = {}
    for card in map(KeyCard.unpack, cards):
        if card.agent in table:
            raise RunError(f"the run's table of keys has two for agent {card.agent}")
        table[card.agent] = card.public_key
        if trusted is None or card.agent in unsigned:
            continue
        _check_signature(card, run, trusted)
        if card.signer in signers:
            raise RunError(f"one member signed the keys of agents {signers[card.signer]} and {card.agent}")
        signers[card.signer] = card.agent
    return table


def _check_signature(card: KeyCard, run: str, trusted: Trusted) -> None:
    who = f"the key of agent {card.agent}"
    if not card.is_signed:
        raise RunError(f"{who} is not signed: its SuperNode needs a signing-key in its --node-config")
    if card.signer not in trusted:
        raise RunError(f"{who} is signed by somebody who is not among the trusted-keys of this node")
    key, text = trusted[card.signer], _signed_text(run, card.agent, card.public_key)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(card.signature, text)
        else:
            key.verify(card.signature, text, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise RunError(f"{who} has a false signature: it is another's key, or of another run") from None


def _signed_text(run: str, agent: int, public_key: bytes) -> bytes:
    return _PURPOSE + struct.pack(">q", agent) + public_key + run.encode()


def fingerprint(key: TrustedKey) -> bytes:
    """Return SHA-256 of a public key: 32 bytes."""
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises
    ------
    InputError
        There is none, or none of these kinds; or others than its owner may read it.
    """
    text = _read("signing-key", path)
    load = load_pem_private_key if b"OPENSSH" not in text else load_ssh_private_key
    try:
        key = load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError("signing-key", str(path), _KINDS) from None
    if not isinstance(key, SigningKey):
        raise InputError("signing-key", str(path), _KINDS)
    if reason := why_not_private(path, "this node"):
        raise InputError("signing-key", str(path), f"{reason}: chmod 600 {path}")
    return key


def load_trusted_keys(path: Path) -> Trusted:
    """Read public keys from a file (OpenSSH's: one a line; or one as PEM), or from all files of a folder.

    Raises
    ------
    InputError
        There are none, or something else is among them.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    keys = [key for file in files for key in _public_keys_in(file)]
    if not keys:
        raise InputError("trusted-keys", str(path), "must be a file with public keys, or a folder of such")
    return {fingerprint(key): key for key in keys}


def _public_keys_in(path: Path) -> list[TrustedKey]:
    text = _read("trusted-keys", path)
    pem = text.lstrip().startswith(b"-----BEGIN")
    lines = [text] if pem else [line for line in text.splitlines() if line.strip() and line[:1] != b"#"]
    load = load_pem_public_key if pem else load_ssh_public_key
    try:
        keys = [load(line) for line in lines]
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("trusted-keys", str(path), _KINDS) from None
    trusted = [key for key in keys if isinstance(key, TrustedKey)]
    if len(trusted) < len(keys):
        raise InputError("trusted-keys", str(path), _KINDS)
    return trusted


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(key, str(path), f"must be a file that can be read ({error.strerror})") from None
