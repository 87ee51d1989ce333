"""Certificates for a test federation: an authority of its own, and one certificate and key for each agent.

Keys are EC P-256. A federation with an authority of its own uses that instead; credentials.py says what a
certificate must hold.
"""

import datetime
import ipaddress
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from comdml_flwr.carriers.transport.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    agent_host,
    agent_uri,
)
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import PRIVATE_FILE, PRIVATE_FOLDER, why_not_private, write_file, write_new

AUTHORITY_KEY_FILE = "ca.key"
AUTHORITY_DAYS = 5 * 365
_CLOCK_SKEW = datetime.timedelta(hours=1)  # a machine whose clock is behind accepts new certificates, too
_PUBLIC_FILE = 0o644
_Authority: TypeAlias = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make_certificates(
    folder: Path, agents: Sequence[int], hosts: Mapping[int, Sequence[str]], days: int
) -> list[Path]:
    """Make a folder of credentials for each agent, and the authority where the folder has none yet.

    Parameters
    ----------
    folder : Path
        The federation's folder; it gets `ca.crt`, `ca.key` and `agent-<id>/{ca.crt, agent.crt, agent.key}`.
    agents : Sequence[int]
        Agent ids.
    hosts : Mapping[int, Sequence[str]]
        Host names and IP addresses that the certificates of these agents name besides; ComDML needs none.
    days : int
        How long the certificates are valid.

    Returns
    -------
    list[Path]
        The agents' folders.

    Raises
    ------
    InputError
        Something is there already, or cannot be written.
    """
    names = {agent: [_host_name(host) for host in hosts.get(agent, ())] for agent in agents}
    folders = [folder / f"agent-{agent}" for agent in agents]
    for path in folders:
        if path.exists():
            raise InputError("--agents", path.name, f"is in {folder} already; nothing is overwritten")
    try:
        authority = _find_authority(folder) or _new_authority(folder)
        for agent, path in zip(agents, folders, strict=True):
            _write_agent(authority, agent, names[agent], days, path)
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()  # where it has nothing
        raise InputError("folder", str(folder), f"cannot be written: {error.strerror}") from None
    return folders


def _find_authority(folder: Path) -> _Authority | None:
    paths = [folder / AUTHORITY_FILE, folder / AUTHORITY_KEY_FILE]
    if not any(path.exists() for path in paths):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(paths[0].read_bytes())
        key = load_pem_private_key(paths[1].read_bytes(), password=None)
        certificate.verify_directly_issued_by(certificate)
    except (OSError, ValueError, TypeError, InvalidSignature) as error:
        rule = f"must hold {AUTHORITY_FILE} and {AUTHORITY_KEY_FILE}, or neither ({error})"
        raise InputError("folder", str(folder), rule) from None
    if reason := why_not_private(paths[1], "every agent"):
        raise InputError(AUTHORITY_KEY_FILE, str(paths[1]), f"{reason}: chmod 600 {paths[1]}")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InputError("folder", str(folder), f"{AUTHORITY_KEY_FILE} is not the key of {AUTHORITY_FILE}")
    return certificate, key


def _new_authority(folder: Path) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ComDML federation {os.urandom(4).hex()}")])
    usage = {"key_cert_sign": True, "crl_sign": True}
    certificate = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_new(folder / AUTHORITY_KEY_FILE, _key_pem(key), mode=PRIVATE_FILE)
        write_new(folder / AUTHORITY_FILE, certificate.public_bytes(Encoding.PEM), mode=_PUBLIC_FILE)
    except OSError:  # one without the other is of no use
        (folder / AUTHORITY_KEY_FILE).unlink(missing_ok=True)
        raise
    return certificate, key


def _write_agent(
    authority: _Authority, agent: int, hosts: Iterable[x509.GeneralName], days: int, folder: Path
) -> None:
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"agent {agent}")])
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(agent_uri(agent)),
        x509.DNSName(agent_host(agent)),
        *hosts,
    ]
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(name, issuer.subject, key, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage({"digital_signature": True}), critical=True)
        .add_extension(both_sides, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(PRIVATE_FOLDER)
    try:
        write_file(partial / AUTHORITY_FILE, issuer.public_bytes(Encoding.PEM), mode=_PUBLIC_FILE)
        write_file(partial / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM), mode=_PUBLIC_FILE)
        write_file(partial / KEY_FILE, _key_pem(key), mode=PRIVATE_FILE)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(allowed: Mapping[str, bool]) -> x509.KeyUsage:
    forbidden = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**{**forbidden, **allowed})


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise InputError("--hosts", host, "must be a host name (in ASCII) or an IP address") from None


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
