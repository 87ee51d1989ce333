"""Whether an address can be listened on, found out by doing so for a moment."""

import errno
import socket

from comdml_flwr.carriers.transport.members import split_address
from comdml_flwr.core.errors import InputError


def check_listening(address: str, what: str) -> None:
    """Refuse an address that cannot be listened on.

    Parameters
    ----------
    address : str
        HOST:PORT.
    what : str
        What it is called, for the message.

    Raises
    ------
    InputError
        With the reason.
    """
    if split_address(address, what)[1] == 0:
        raise InputError(what, address, "must name a port, from 1 to 65535")
    try:
        listen_once(address, what)
    except OSError as error:
        hint = ""
        if error.errno == errno.EADDRNOTAVAIL:
            hint = "; where peers reach this machine under another one's address, set p2p-listen besides"
        rule = f"cannot be listened on here ({error.strerror or error}){hint}"
        raise InputError(what, address, rule) from None


def listen_once(address: str, what: str) -> None:
    """Listen for a moment.

    Raises
    ------
    InputError
        It is no HOST:PORT.
    OSError
        It cannot be listened on.
    """
    host, port = split_address(address, what)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except UnicodeError:
        raise OSError("the host is no name and no address") from None
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: TIME_WAIT is no fault
        listener.bind(place)
        listener.listen(1)
