"""The port on which peers reach this machine, and the SuperLink that it dials."""

import errno
import json
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from comdml_flwr.carriers.transport.listening import listen_once
from comdml_flwr.carriers.transport.members import is_loopback, split_address
from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.cli.doctor.streams import TIMEOUT_S, dial, in_ms, why
from comdml_flwr.core.typed_json import Json

PORT, SUPERLINK = "p2p-address", "superlink"
_WAY = "on the way: let the port through the firewall; here: correct HOST:PORT"
_NO_SUPERLINK = "HOST:PORT of the SuperLink, one for all since Flower 1.41 (flower-superlink --port, or 8000)"
_LONGEST_ANSWER = 1 << 20


def check_port(address: str, listen: str | None = None) -> Finding:
    """Look whether the port of `p2p-address` can be listened on, by doing so for a moment.

    Parameters
    ----------
    address : str
        HOST:PORT under which peers reach this machine.
    listen : str, optional
        `p2p-listen`: where it listens, if that is another address.
    """
    where = listen or address
    what = "p2p-listen" if listen else "p2p-address"
    _, port = split_address(where, what)
    if port == 0 or split_address(address, "p2p-address")[1] == 0:
        return Finding(PORT, "wrong", f"{where} names no port", 'p2p-address="HOST:9500", a port above 1023')
    try:
        listen_once(where, what)
    except OSError as error:
        return Finding(PORT, "wrong", f"{where} cannot be listened on: {why(error)}", _mend(error, port))
    if is_loopback(address):
        says = f"{address} is free, but no other machine reaches a loopback address"
        return Finding(PORT, "warning", says, f'p2p-address="ADDRESS-OF-THIS-MACHINE:{port}"')
    return Finding(PORT, "ok", f"{where} is free")


def check_superlink(address: str, root_certificates: Path | None = None) -> Finding:
    """Dial a SuperLink as a SuperNode would, over TCP and TLS, and ask it what it is.

    Parameters
    ----------
    address : str
        HOST:PORT.
    root_certificates : Path, optional
        The file for `--root-certificates`; without it, as in a SuperNode, the system's authorities.
    """
    host, port = split_address(address, "--superlink")
    try:
        context = ssl.create_default_context(cafile=root_certificates)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # SuperNodes do not ask for it
    except OSError as error:  # ssl.SSLError is one, too
        says = f"{root_certificates} is no file of certificates: {why(error)}"
        return Finding(
            SUPERLINK, "wrong", says, "--root-certificates FILE, the SuperLink's ca.crt, a PEM file"
        )
    try:
        connection, round_trip_s = dial(host, port)
        connection.close()
    except OSError as error:
        says = f"{address} cannot be reached: {why(error)}"
        return Finding(
            SUPERLINK, "wrong", says, f"there: flower-superlink --host 0.0.0.0 --port {port}; {_WAY}"
        )
    told = f"{address} answers; round trip {in_ms(round_trip_s)}"
    facts: dict[str, Json] = {"round_trip_s": round_trip_s}
    try:
        version = _ask(HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context))
    except ssl.SSLCertVerificationError as error:
        given = "the system's authorities" if root_certificates is None else root_certificates
        says = f"{address} shows a certificate that is refused under {given}: {why(error)}"
        mend = "--root-certificates FILE, the ca.crt that signed its certificate; HOST as it is named there"
        return Finding(SUPERLINK, "wrong", says, mend, facts)
    except (OSError, HTTPException):
        return _without_tls(host, port, root_certificates, told, facts)
    if version is None:
        return Finding(SUPERLINK, "wrong", f"{told}, but it is no SuperLink", _NO_SUPERLINK, facts)
    return Finding(SUPERLINK, "ok", f"{told}, Flower {version} over TLS", facts={**facts, "flwr": version})


def _without_tls(
    host: str, port: int, root_certificates: Path | None, told: str, facts: dict[str, Json]
) -> Finding:
    """Say what it is that did not speak TLS."""
    try:
        version = _ask(HTTPConnection(host, port, timeout=TIMEOUT_S))
    except (OSError, HTTPException):
        version = None
    if version is None:
        return Finding(SUPERLINK, "wrong", f"{told}, but it is no SuperLink", _NO_SUPERLINK, facts)
    says, facts = f"{told}, Flower {version} without TLS", {**facts, "flwr": version}
    mend = "there: flower-superlink --ssl-ca-certfile ... --ssl-certfile ... --ssl-keyfile ..."
    if root_certificates is None:
        says += ": who is on the way reads and changes everything, and SuperNodes need --insecure"
        return Finding(SUPERLINK, "warning", says, mend, facts)
    return Finding(SUPERLINK, "wrong", f"{says}, which --root-certificates asks for", mend, facts)


def _ask(connection: HTTPConnection) -> str | None:
    """Return the version of the SuperLink at the other end; None where it is something else.

    Raises
    ------
    OSError, HTTPException
        It speaks neither of what was asked for: TLS, HTTP.
    """
    with closing(connection):
        connection.request("GET", "/openapi.json")
        try:
            about = json.loads(connection.getresponse().read(_LONGEST_ANSWER))
        except ValueError:
            return None
    info = about.get("info") if isinstance(about, dict) else None
    is_superlink = isinstance(info, dict) and info.get("title") == "SuperLink API"
    return str(info.get("version")) if isinstance(info, dict) and is_superlink else None


def _mend(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"ss -ltnp 'sport = :{port}' tells who has it (a run that goes on?); or take another port"
    if error.errno == errno.EACCES:
        return "take a port above 1023"
    return f'p2p-listen="0.0.0.0:{port}" where p2p-address is another machine\'s (NAT); or correct it'
