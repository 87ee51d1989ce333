"""The testbed's network, as command lines of iproute2.

Each host is a network namespace with one interface, `eth0`; its other end is a port of a bridge, which has a
namespace of its own with the SuperLink's address. So the machine's own network is left as it is: not one
interface, address or route is added to it.

    host 0: eth0 --- h0 \
    host 1: eth0 --- h1 -- bridge (10.77.0.1, SuperLink)
    host 2: eth0 --- h2 /

What a host sends is shaped at its `eth0` by htb: a class for each other host and for the SuperLink, chosen by
destination address, below a class for its network card. What the SuperLink sends is shaped at the bridge
itself, which forwarded packets do not pass, by a class for each host. What a card may receive is bounded at
the bridge's port by tbf. A pair without a link has an unreachable route.

The fleet file's bandwidth is that of the payload, and `tc` counts whole frames: rates are higher by the share
of headers in a full TCP segment. Segments of a connection come in lots of up to 16 KiB, as network cards and
kernels hand them over: one by one, each of them wakes the receiver, which then takes four times as long over
them as TLS and gRPC need.
"""

from collections.abc import Iterable, Iterator, Sequence

from experiments.testbed.hosts import NETWORK, SUPERLINK_ADDRESS, Host

Command = tuple[str, ...]

BRIDGE = "bridge"
_FRAME_BYTES, _PAYLOAD_BYTES = 1514, 1448  # of a full TCP segment with time stamps, MTU 1500
_LOT_BYTES = 16_384
_BURST_S = 0.01  # timers of a busy machine are late by some milliseconds
_LEAST_BURST_BYTES = 2 * _LOT_BYTES
_UNBOUND_BYTES_PER_S = 1.25e9
_SUPERLINK_CLASS, _REST_CLASS, _FIRST_CLASS = 3, 2, 16  # 1 is the card
_WORST_WAIT = "400ms"  # in tbf's queue


def network_commands(hosts: Sequence[Host]) -> Iterator[Command]:
    """Make namespaces, bridge, addresses, then the bandwidths."""
    yield from (
        _ip("netns", "add", NETWORK),
        _inside(NETWORK, "link", "set", "lo", "up"),
        _inside(NETWORK, "link", "add", BRIDGE, "type", "bridge"),
        _inside(NETWORK, "addr", "add", f"{SUPERLINK_ADDRESS}/24", "dev", BRIDGE),
        _inside(NETWORK, "link", "set", BRIDGE, *_LOTS, "up"),
    )
    for host in hosts:
        yield from _host_commands(host)
    for host in hosts:
        yield from shaping_of_host(host, hosts)
    yield from shaping_of_superlink(hosts)


_LOTS = ("gso_max_size", str(_LOT_BYTES))


def _host_commands(host: Host) -> Iterator[Command]:
    name, port = host.namespace, _port(host)
    yield from (
        _ip("netns", "add", name),
        _inside(NETWORK, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name),
        _inside(NETWORK, "link", "set", port, "master", BRIDGE, *_LOTS, "up"),
        _inside(name, "link", "set", "lo", "up"),
        _inside(name, "addr", "add", f"{host.address}/24", "dev", "eth0"),
        _inside(name, "link", "set", "eth0", *_LOTS, "up"),
    )


def shaping_of_host(host: Host, hosts: Sequence[Host]) -> Iterator[Command]:
    """Bound what a host sends, to each other host and to the SuperLink, and what its card receives."""
    yield from _card(host.namespace, "eth0", host.bytes_per_s or _UNBOUND_BYTES_PER_S)
    yield from _class(host.namespace, "eth0", _SUPERLINK_CLASS, SUPERLINK_ADDRESS, host.superlink.bytes_per_s)
    for other in hosts:
        if other.agent == host.agent:
            continue
        bytes_per_s = host.links[other.agent].bytes_per_s
        if bytes_per_s == 0:
            yield _inside(host.namespace, "route", "add", "unreachable", f"{other.address}/32")
        else:
            yield from _class(
                host.namespace, "eth0", _FIRST_CLASS + other.partition, other.address, bytes_per_s
            )
    if host.bytes_per_s is not None:
        rate, burst = _rate_and_burst(host.bytes_per_s)
        yield _tc(
            NETWORK, "qdisc", _port(host), "root", "tbf", "rate", rate, "burst", burst, "latency", _WORST_WAIT
        )


def shaping_of_superlink(hosts: Iterable[Host]) -> Iterator[Command]:
    """Bound what the SuperLink sends to each host."""
    yield from _card(NETWORK, BRIDGE, _UNBOUND_BYTES_PER_S)
    for host in hosts:
        yield from _class(
            NETWORK, BRIDGE, _FIRST_CLASS + host.partition, host.address, host.superlink.bytes_per_s
        )


def _card(namespace: str, device: str, bytes_per_s: float) -> Iterator[Command]:
    rate, burst = _rate_and_burst(bytes_per_s)
    yield _tc(namespace, "qdisc", device, "root", "handle", "1:", "htb", "default", str(_REST_CLASS))
    for parent, number in (("1:", 1), ("1:1", _REST_CLASS)):
        yield _tc(
            namespace, "class", device, "parent", parent, "classid", f"1:{number:x}", *_htb(rate, burst)
        )


def _class(namespace: str, device: str, number: int, address: str, bytes_per_s: float) -> Iterator[Command]:
    flow, match = f"1:{number:x}", ("u32", "match", "ip", "dst", f"{address}/32")
    bounds = _htb(*_rate_and_burst(bytes_per_s))
    yield _tc(namespace, "class", device, "parent", "1:1", "classid", flow, *bounds)
    yield _tc(
        *(namespace, "filter", device, "parent", "1:", "protocol", "ip", "prio", "1"), *match, "flowid", flow
    )


def _htb(rate: str, burst: str) -> Command:
    quantum = str(4 * _FRAME_BYTES)  # the default follows the rate, and the kernel warns of it
    return ("htb", "rate", rate, "burst", burst, "cburst", burst, "quantum", quantum)


def _rate_and_burst(bytes_per_s: float) -> tuple[str, str]:
    frames_bytes_per_s = bytes_per_s * _FRAME_BYTES / _PAYLOAD_BYTES
    burst_bytes = max(_LEAST_BURST_BYTES, round(frames_bytes_per_s * _BURST_S))
    return f"{round(frames_bytes_per_s * 8)}bit", f"{burst_bytes}b"


def _port(host: Host) -> str:
    return f"h{host.partition}"


def _ip(*words: str) -> Command:
    return ("ip", *words)


def _inside(namespace: str, *words: str) -> Command:
    return ("ip", "-n", namespace, *words)


def _tc(namespace: str, what: str, device: str, *words: str) -> Command:
    return ("tc", "-n", namespace, what, "add", "dev", device, *words)
