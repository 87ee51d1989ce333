"""Who takes part, where they listen, and how much of everything there may be."""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from comdml_flwr.carriers.transport.frames import HEAD_BYTES
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.bounded_queue import QUEUE_BATCHES

MAX_FRAME_BYTES = 4 * 1024 * 1024  # no longer message is read; gRPC's own default


@dataclass(frozen=True, slots=True)
class Member:
    """An agent of the run and where it listens.

    Parameters
    ----------
    agent : int
        Its id.
    address : str
        HOST:PORT; an IPv6 address stands in brackets.
    """

    agent: int
    address: str

    def __post_init__(self) -> None:
        split_address(self.address, "p2p-address")
        if self.agent < 0:
            raise InputError("agent", self.agent, "must be at least 0")


def split_address(address: str, what: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; InputError naming `what` where it is none."""
    host, colon, port = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit()) or (":" in host and not is_bracketed):
        raise InputError(what, address, "must be HOST:PORT, an IPv6 host in brackets")
    if int(port) > 65_535:
        raise InputError(what, address, "must have a port of at most 65535")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Tell whether an address cannot be reached from another machine."""
    host, _ = split_address(address, "p2p-address")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of memory and time.

    Parameters
    ----------
    max_envelope_bytes : int
        The longest envelope that is sent or taken; a run's is what its model needs
        (flower/clientapp/direct_rounds.py).
    max_header_bytes : int
        The longest header (names, shapes and facts, as JSON) of an envelope; as Python objects it takes up
        to 40 times as much.
    num_waiting : int
        How much mail of one peer may wait to be received, and how much to be taken by it, in its longest
        envelopes. The memory that plans count holds as many batches at each end.
    num_kept : int
        How much mail of one peer may be in use after it was received, in longest envelopes: what a peer may
        have sent ahead of a round, the models that it has handed over, and mail of a round that began again.
    frame_bytes : int
        Length of the messages into which envelopes are cut; tests/benchmarks has what each length gives.
    patience_s : float
        How long a peer that cannot be reached is tried again before it counts as gone.
    keepalive_s : float
        A peer that is silent for so long is asked for a sign of life, and has twice as long to give it: it
        comes behind the 8 MiB that may be under way, so links below 4 Mbit/s need more.
    stall_s : float
        The longest pause in the middle of an envelope.
    idle_s : float
        How long a connection may be there without a stream; a handshake may take `keepalive_s`.
    """

    max_envelope_bytes: int = 16 << 30
    max_header_bytes: int = 1 << 20
    num_waiting: int = QUEUE_BATCHES
    num_kept: int = 8
    frame_bytes: int = 1 << 20
    patience_s: float = 20.0
    keepalive_s: float = 10.0
    stall_s: float = 60.0
    idle_s: float = 60.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise InputError(name, getattr(self, name), "must be more than 0")
        if not HEAD_BYTES < self.frame_bytes <= MAX_FRAME_BYTES:
            rule = f"must be more than {HEAD_BYTES} and at most {MAX_FRAME_BYTES}"
            raise InputError("frame_bytes", self.frame_bytes, rule)

    def has_room(self, waiting: Collection[int], num_bytes: int) -> bool:
        """Tell whether an envelope may join those of one peer that wait.

        The bound follows what is sent, so that it holds batches of any length. Beside it there is room for
        one header of the longest kind, which is many short envelopes.

        Parameters
        ----------
        waiting : Collection[int]
            Lengths in bytes of those that wait.
        num_bytes : int
            Its own.

        Examples
        --------
        >>> limits = Limits(num_waiting=2, max_header_bytes=100)
        >>> limits.has_room([5000], 5000), limits.has_room([5000, 5000], 101), limits.has_room([], 5000)
        (True, False, True)
        """
        bound = self.num_waiting * max([num_bytes, *waiting]) + self.max_header_bytes
        return not waiting or sum(waiting) + num_bytes <= bound
