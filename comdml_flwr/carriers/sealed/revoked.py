"""Members whose certificates or signing keys count no more, though the authority or the others know them.

A file holds, one after another and in any order, with `#` for comments:

* certificates as PEM, as `agent.crt` (carriers/transport/credentials.py): the agent that one names is revoked
  under any certificate. A machine that gets a new one gets it for another id;
* serial numbers or SHA-256 fingerprints of certificates, one a line, as `openssl x509 -noout -serial` and
  `-fingerprint -sha256` print them: `serial=4FAA...`, `sha256 Fingerprint=AA:BB:...`. That certificate is
  refused, and its agent may come with another one. It is seen where a peer dials with it; what is sent to a
  machine that listens with it, until it is given up for not being heard of, it gets;
* names of agents as certificates have them, `comdml://agent/3`, one a line: the same without the certificate;
* public keys, as in `trusted-keys`: what they sign is taken from nobody.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
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
_SERIAL = re.compile(r"serial=((?:[0-9a-f]:?){1,40})", re.IGNORECASE)
_SHA256 = re.compile(r"sha256 fingerprint=((?:[0-9a-f]{2}:?){32})", re.IGNORECASE)
_RULE = (
    "must hold certificates or public keys as PEM, public keys of OpenSSH's, comdml://agent/N, serial=HEX or "
    "sha256 Fingerprint=HEX, one a line"
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
    serials : frozenset[int]
        Serial numbers of certificates that are, and not their agents.
    certificates : frozenset[bytes]
        SHA-256 fingerprints of such certificates.
    place : str
        The file, for messages.
    """

    agents: frozenset[int] = frozenset()
    keys: frozenset[bytes] = frozenset()
    serials: frozenset[int] = frozenset()
    certificates: frozenset[bytes] = frozenset()
    place: str = ""

    def among(self, cards: Iterable[bytes]) -> frozenset[int]:
        """Return the agents that are revoked among those with these key cards, and those named by id."""
        signed = (card.agent for card in map(KeyCard.unpack, cards) if card.signer in self.keys)
        return frozenset((*self.agents, *signed))

    def covers(self, certificate_pem: bytes) -> bool:
        """Tell whether a certificate is revoked by itself, which a peer has proven to be its own."""
        if not (self.serials or self.certificates):
            return False
        certificate = load_pem_x509_certificate(certificate_pem)
        return (
            certificate.serial_number in self.serials
            or certificate.fingerprint(SHA256()) in self.certificates
        )

    @property
    def num_entries(self) -> int:
        """How many agents, keys and certificates are revoked."""
        return len(self.agents) + len(self.keys) + len(self.serials) + len(self.certificates)


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
    serials: set[int] = set()
    certificates: set[bytes] = set()
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
            elif serial := _SERIAL.fullmatch(entry):
                serials.add(int(serial[1].replace(":", ""), 16))
            elif sha256 := _SHA256.fullmatch(entry):
                certificates.add(bytes.fromhex(sha256[1].replace(":", "")))
            elif entry:
                keys.add(_fingerprint(load_ssh_public_key(line.strip().encode())))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(what, str(path), _RULE) from None
    return Revoked(
        agents=frozenset(agents),
        keys=frozenset(keys),
        serials=frozenset(serials),
        certificates=frozenset(certificates),
        place=str(path),
    )


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
