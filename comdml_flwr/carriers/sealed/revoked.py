"""Members whose certificates or signing keys count no more, though the authority or the others know them.

A file holds, one after another and in any order, with `#` for comments:

* certificates as PEM, as `agent.crt` (carriers/transport/credentials.py): the agent that one names is revoked
  under any certificate. A machine that gets a new one gets it for another id;
* names of agents as certificates have them, `comdml://agent/3`, one a line: the same without the certificate;
* public keys, as in `trusted-keys`: what they sign is taken from nobody.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key
from cryptography.x509 import (
    ExtensionNotFound,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_pem_x509_certificate,
)

from comdml_flwr.carriers.sealed.key_cards import KeyCard, TrustedKey, fingerprint
from comdml_flwr.core.errors import InputError

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_URI = re.compile(r"comdml://agent/([0-9]{1,9})")
_RULE = (
    "must hold certificates or public keys as PEM, public keys of OpenSSH's, or comdml://agent/N, one a line"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Who is revoked.

    Parameters
    ----------
    agents : frozenset[int]
        Agents whose certificates are.
    keys : frozenset[bytes]
        Fingerprints of the signing keys that are.
    place : str
        The file, for messages.
    """

    agents: frozenset[int] = frozenset()
    keys: frozenset[bytes] = frozenset()
    place: str = ""

    def among(self, cards: Iterable[bytes]) -> frozenset[int]:
        """Return the agents that are revoked among those with these key cards, and those named by id."""
        signed = (card.agent for card in map(KeyCard.unpack, cards) if card.signer in self.keys)
        return frozenset((*self.agents, *signed))


NOBODY_REVOKED = Revoked()


def read_revoked(path: Path, what: str) -> Revoked:
    """Read who is revoked.

    Parameters
    ----------
    path : Path
        The file; an empty one revokes nobody.
    what : str
        The key that names it, for messages.

    Raises
    ------
    InputError
        It cannot be read, or something else is in it: nobody is taken for not revoked by mistake.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(what, str(path), f"must be a file that can be read ({error.strerror})") from None
    agents: set[int] = set()
    keys: set[bytes] = set()
    try:
        for block in _BLOCK.finditer(content):
            if block[1] == b"CERTIFICATE":
                agents |= _agents_named_by(block[0])
            else:
                keys.add(_fingerprint(load_pem_public_key(block[0])))
        for line in _BLOCK.sub(b"", content).decode().splitlines():
            entry = line.partition("#")[0].strip()
            if named := _URI.fullmatch(entry):
                agents.add(int(named[1]))
            elif entry:
                keys.add(_fingerprint(load_ssh_public_key(line.strip().encode())))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(what, str(path), _RULE) from None
    return Revoked(agents=frozenset(agents), keys=frozenset(keys), place=str(path))


def _agents_named_by(certificate_pem: bytes) -> set[int]:
    try:
        found = load_pem_x509_certificate(certificate_pem).extensions
        names = found.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        raise ValueError("it names no agent") from None
    uris = names.get_values_for_type(UniformResourceIdentifier)
    agents = {int(named[1]) for uri in uris if (named := _URI.fullmatch(uri))}
    if not agents:
        raise ValueError("it names no agent")
    return agents


def _fingerprint(key: object) -> bytes:
    if not isinstance(key, TrustedKey):
        raise TypeError("it is of another kind")
    return fingerprint(key)
