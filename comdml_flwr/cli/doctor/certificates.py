"""An agent's own certificates: everything that would make mutual TLS fail, or be worth nothing.

What TLS itself would say is asked of TLS: the certificate shakes hands with itself, in memory, once as the
side that dials and once as the side that is dialled.
"""

import datetime
import ssl
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from comdml_flwr.carriers.transport.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    agent_host,
    read_credentials,
    why_key_not_private,
)
from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json

FEW_DAYS = 14  # a warning from here on
CHECK = "certificates"


def check_certificates(folder: Path, agent: int) -> Iterator[Finding]:
    """Look at the folder that `p2p-certificates` is to name.

    Parameters
    ----------
    folder : Path
        With `ca.crt`, `agent.crt` and `agent.key`.
    agent : int
        Whose it must be.
    """
    renew = (
        f"where ca.key is: mv FEDERATION/agent-{agent} old; comdml certificates FEDERATION --agents {agent};"
        f" then copy agent-{agent} to {folder}"
    )
    try:
        credentials = read_credentials(folder, agent)
        reason = _why_no_handshake(folder, agent)
    except InputError as error:
        yield Finding(CHECK, "wrong", str(error), renew)
        return
    if reason is not None:
        says = f"TLS refuses {folder / CERTIFICATE_FILE} under {AUTHORITY_FILE}: {reason}"
        yield Finding(CHECK, "wrong", says, renew)
        return
    if not_private := why_key_not_private(folder):
        path = folder / KEY_FILE
        facts = {"mode": f"{stat.S_IMODE(path.stat().st_mode):04o}"}
        yield Finding(CHECK, "wrong", not_private, f"chmod 600 {path}", facts)
    yield _check_days(credentials.certificate_pem, credentials.authority_pem, agent, renew)


def are_usable(findings: Iterable[Finding]) -> bool:
    """Tell whether these findings have certificates with which TLS works, even if their key is not safe."""
    return any(finding.check == CHECK and finding.state != "wrong" for finding in findings)


def client_context(folder: Path) -> ssl.SSLContext:
    """Return how an agent dials a peer."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder)


def _context(protocol: int, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    context.load_verify_locations(folder / AUTHORITY_FILE)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


def _why_no_handshake(folder: Path, agent: int) -> str | None:
    """Return why the certificate does not shake hands with itself; None if it does."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        dialled = _context(ssl.PROTOCOL_TLS_SERVER, folder).wrap_bio(there, back, server_side=True)
        dials = client_context(folder).wrap_bio(back, there, server_hostname=agent_host(agent))
        for side in (dials, dialled, dials, dialled):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    return None


def _check_days(certificate_pem: bytes, authority_pem: bytes, agent: int, renew: str) -> Finding:
    from cryptography.x509 import load_pem_x509_certificate

    certificate, authority = map(load_pem_x509_certificate, (certificate_pem, authority_pem))
    ends, serial = min(one.not_valid_after_utc for one in (certificate, authority)), certificate.serial_number
    days = (ends - datetime.datetime.now(datetime.UTC)).total_seconds() / 86_400
    says = f"agent {agent}'s, signed by {AUTHORITY_FILE}, valid until {ends:%Y-%m-%d} ({days:.0f} days)"
    says += f", serial={serial:X}"  # as a list of revoked certificates has it
    facts: dict[str, Json] = {"days_left": days, "serial": f"{serial:X}"}
    if days < FEW_DAYS:
        return Finding(CHECK, "warning", says, renew, facts)
    return Finding(CHECK, "ok", says, facts=facts)
