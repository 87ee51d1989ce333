"""Round trip and bandwidth of a link, by the stopwatch of the one who sends.

Envelopes of random bytes go through the transport that runs use; each is timed from the moment it is handed
over to the peer's answer that it lies in its inbox. They grow until one takes long enough to be timed, and
each is as long as the one before it says that this takes, so that a link of 10 Mbit/s costs half a second in
each direction. No clock but one's own is looked at.
"""

import time

import numpy as np

from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.core.messages import Envelope
from comdml_flwr.planning.types import Link

BITS = "bits"  # the kind of these envelopes; who gets one has nothing to do with it
FIRST_BYTES, MOST_BYTES = 1 << 16, 1 << 25
PATIENCE_S = 60.0  # for one envelope; the first one takes so long at 9 kbit/s
_LONG_ENOUGH_S, _AIM_S = 0.3, 0.4
_LEAST_GROWTH, _MOST_GROWTH = 2, 16
_NUM_EMPTY = 3  # the fastest of them tells the round trip


def measure_link(transport: Transport, peer: int) -> Link:
    """Measure the link to a peer that takes what comes.

    Parameters
    ----------
    transport : Transport
        Started; nothing else is sent to the peer meanwhile.
    peer : int
        Who may not be sending to us, or the two would share the link.

    Returns
    -------
    Link
        Bytes per second from here to there, measured; the latency is half the round trip of an empty
        envelope.

    Raises
    ------
    PeerGoneError
        The peer cannot be reached any more.
    OverdueError
        An envelope was not taken within `PATIENCE_S`.
    """
    _time_envelope(transport, peer, 0)  # the first one also connects
    round_trip_s = min(_time_envelope(transport, peer, 0) for _ in range(_NUM_EMPTY))
    num_bytes = FIRST_BYTES
    while True:
        took_s = _time_envelope(transport, peer, num_bytes)
        on_the_link_s = max(took_s - round_trip_s, took_s / 10)
        if on_the_link_s > _LONG_ENOUGH_S or num_bytes >= MOST_BYTES:
            return Link(bytes_per_s=num_bytes / on_the_link_s, latency_s=round_trip_s / 2)
        growth = min(_MOST_GROWTH, max(_LEAST_GROWTH, _AIM_S / on_the_link_s))
        num_bytes = min(MOST_BYTES, round(growth * num_bytes))


def _time_envelope(transport: Transport, peer: int, num_bytes: int) -> float:
    bits = np.random.default_rng(0).integers(0, 256, num_bytes, dtype=np.uint8)
    envelope = Envelope(sender=transport.own, receiver=peer, round=0, kind=BITS, arrays={BITS: bits})
    began = time.perf_counter()
    transport.send(envelope)
    transport.flush(PATIENCE_S, [peer])
    return time.perf_counter() - began
