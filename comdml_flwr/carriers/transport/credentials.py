"""How a member proves who it is: a certificate of the federation's own authority that names the agent.

Agent 3's certificate carries two subject alternative names:

* the URI `comdml://agent/3`, which the one who is dialled reads in the certificate of the one who dials;
* the DNS name `agent-3.comdml.internal`, which the one who dials demands of the one who is dialled, whatever
  the address: TLS itself then refuses a certificate that is another member's.

Certificates made elsewhere do as well where they carry both names and allow TLS servers and clients.
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import why_not_private

AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.crt", "agent.crt", "agent.key"


def agent_uri(agent: int) -> str:
    """Return the URI that names an agent in its certificate."""
    return f"comdml://agent/{agent}"


def agent_host(agent: int) -> str:
    """Return the DNS name that names an agent in its certificate."""
    return f"agent-{agent}.comdml.internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a member needs for mutual TLS.

    Parameters
    ----------
    authority_pem : bytes
        Certificate of the federation's authority; nobody else's certificates are accepted.
    certificate_pem, key_pem : bytes
        The member's own certificate (and chain) and private key.
    """

    authority_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


def load_credentials(folder: Path, agent: int) -> Credentials:
    """Read an agent's credentials from its folder.

    Raises
    ------
    InputError
        As `read_credentials` does; or others than the key's owner may read it.
    """
    credentials = read_credentials(folder, agent)
    if reason := why_key_not_private(folder):
        raise InputError(KEY_FILE, str(folder / KEY_FILE), f"{reason}: chmod 600 {folder / KEY_FILE}")
    return credentials


def why_key_not_private(folder: Path) -> str | None:
    """Return in a line why an agent's key is not safe; None: it is."""
    return why_not_private(folder / KEY_FILE, "this agent")


def read_credentials(folder: Path, agent: int) -> Credentials:
    """Read an agent's credentials from its folder, whoever may read them.

    Raises
    ------
    InputError
        A file is missing or is not what its name says, or the certificate is another agent's.
    """
    credentials = Credentials(
        authority_pem=_read(folder / AUTHORITY_FILE),
        certificate_pem=_read(folder / CERTIFICATE_FILE),
        key_pem=_read(folder / KEY_FILE),
    )
    check_credentials(credentials, agent, folder)
    return credentials


def check_credentials(credentials: Credentials, agent: int, folder: Path) -> None:
    """Refuse what TLS would refuse later and less clearly; InputError names the file."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificate

    what = folder / CERTIFICATE_FILE
    try:
        authority = load_pem_x509_certificate(credentials.authority_pem)
        certificate = load_pem_x509_certificate(credentials.certificate_pem)
        key = load_pem_private_key(credentials.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise InputError("certificates", str(folder), f"must hold PEM files ({error})") from None
    if key.public_key() != certificate.public_key():
        raise InputError(KEY_FILE, str(folder / KEY_FILE), f"must be the key of {CERTIFICATE_FILE}")
    for file, one in ((AUTHORITY_FILE, authority), (CERTIFICATE_FILE, certificate)):
        now = datetime.datetime.now(datetime.UTC)
        if one.not_valid_after_utc < now:
            rule = f"must be valid; it was until {one.not_valid_after_utc:%Y-%m-%d}"
            raise InputError(file, str(folder / file), rule)
        if one.not_valid_before_utc > now:
            begins, clock = f"{one.not_valid_before_utc:%Y-%m-%d %H:%M}", f"{now:%Y-%m-%d %H:%M}"
            rule = f"is not yet valid: it begins {begins} UTC, and this machine's clock says {clock} UTC"
            raise InputError(file, str(folder / file), rule)
    names = _names(certificate)
    for name in (agent_uri(agent), agent_host(agent)):
        if name not in names:
            raise InputError(CERTIFICATE_FILE, str(what), f"must name {name}; it names {', '.join(names)}")
    try:
        if certificate.issuer == authority.subject:
            certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise InputError(CERTIFICATE_FILE, str(what), f"must be signed by {AUTHORITY_FILE}") from None


def _names(certificate: object) -> list[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [*uris, *names.get_values_for_type(x509.DNSName)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("certificates", str(path), f"cannot be read: {error.strerror}") from None
