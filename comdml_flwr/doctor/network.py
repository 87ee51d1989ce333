"""The port on which peers reach this machine, and the SuperLink that it dials."""

import errno
import socket
import ssl
from pathlib import Path

from comdml_flwr.doctor.findings import Finding
from comdml_flwr.doctor.streams import connect, dial, in_ms, names, speaks_http2, why
from comdml_flwr.transport.members import is_loopback, split_address

PORT, SUPERLINK = "p2p-address", "superlink"


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
    host, port = split_address(where, "p2p-listen" if listen else "p2p-address")
    if port == 0 or split_address(address, "p2p-address")[1] == 0:
        return Finding(PORT, "wrong", f"{where} names no port", 'p2p-address="HOST:9500", a port above 1023')
    try:
        _listen_once(host, port)
    except OSError as error:
        return Finding(PORT, "wrong", f"{where} cannot be listened on: {why(error)}", _mend(error, port))
    if is_loopback(address):
        says = f"{address} is free, but no other machine reaches a loopback address"
        return Finding(PORT, "warning", says, f'p2p-address="ADDRESS-OF-THIS-MACHINE:{port}"')
    return Finding(PORT, "ok", f"{where} is free")


def check_superlink(address: str, root_certificates: Path | None = None) -> Finding:
    """Dial a SuperLink as a SuperNode would: TCP, then TLS, then the first bytes of gRPC.

    Parameters
    ----------
    address : str
        HOST:PORT.
    root_certificates : Path, optional
        The file for `--root-certificates`; without it, as in a SuperNode, the system's authorities.
    """
    host, port = split_address(address, "--superlink")
    try:
        context = _context(root_certificates)
    except OSError as error:  # ssl.SSLError is one, too
        says = f"{root_certificates} is no file of certificates: {why(error)}"
        return Finding(
            SUPERLINK, "wrong", says, "--root-certificates FILE, the SuperLink's ca.crt, a PEM file"
        )
    try:
        connection, round_trip_s = dial(host, port)
    except OSError as error:
        mend = (
            "there: flower-superlink --port ...; on the way: open the port in the firewall; here: HOST:PORT"
        )
        return Finding(SUPERLINK, "wrong", f"{address} cannot be reached: {why(error)}", mend)
    facts = {"round_trip_s": round_trip_s}
    told = f"{address} answers; round trip {in_ms(round_trip_s)}"
    try:
        with connection, context.wrap_socket(connection, server_hostname=host) as stream:
            if speaks_http2(stream):
                return Finding(SUPERLINK, "ok", f"{told}, over TLS", facts=facts)
    except ssl.SSLCertVerificationError as error:
        given = "the system's authorities" if root_certificates is None else root_certificates
        mend = "--root-certificates FILE, the ca.crt that signed its certificate; HOST as it is named there"
        says = f"{address} shows a certificate that is refused under {given}: {why(error)}"
        return Finding(SUPERLINK, "wrong", says, mend, facts)
    except OSError as error:
        return _without_tls(host, port, root_certificates, Finding(SUPERLINK, "ok", told, facts=facts), error)
    return _no_superlink(told, "speaks TLS, but not gRPC", facts)


def _context(root_certificates: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=root_certificates)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # gRPC does not ask for it
    context.set_alpn_protocols(["h2"])
    return context


def _without_tls(
    host: str, port: int, root_certificates: Path | None, told: Finding, error: OSError
) -> Finding:
    """Say what it is that did not speak TLS."""
    try:
        with connect(host, port) as connection:
            is_grpc = speaks_http2(connection)
    except OSError:
        is_grpc = False
    if not is_grpc:
        return _no_superlink(told.says, f"speaks neither TLS ({why(error)}) nor gRPC", told.facts)
    says, mend = f"{told.says}, without TLS", "there: flower-superlink --ssl-certfile ... --ssl-keyfile ..."
    if root_certificates is None:
        says += ": who is on the way reads and changes everything, and SuperNodes need --insecure"
        return Finding(SUPERLINK, "warning", says, mend, told.facts)
    return Finding(SUPERLINK, "wrong", f"{says}, which --root-certificates asks for", mend, told.facts)


def _no_superlink(told: str, what: str, facts: object) -> Finding:
    assert isinstance(facts, dict)
    mend = "HOST:PORT of the SuperLink's Fleet API, as flower-superlink printed it"
    return Finding(SUPERLINK, "wrong", f"{told}, but it {what}", mend, facts)


def _listen_once(host: str, port: int) -> None:
    with names():
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: TIME_WAIT is no fault
        listener.bind(place)
        listener.listen(1)


def _mend(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"ss -ltnp 'sport = :{port}' tells who has it (a run that goes on?); or take another port"
    if error.errno == errno.EACCES:
        return "take a port above 1023"
    return f'p2p-listen="0.0.0.0:{port}" where p2p-address is another machine\'s (NAT); or correct it'
