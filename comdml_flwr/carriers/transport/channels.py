"""gRPC as the transport wants it: options, credentials, channels.

gRPC's own retries, proxies and shared connections are off: a member dials a member, and outgoing.py decides
when to try again.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeAlias

import grpc

from comdml_flwr.carriers.transport.credentials import Credentials, agent_host
from comdml_flwr.carriers.transport.members import MAX_FRAME_BYTES, Limits, Member
from comdml_flwr.core.errors import InputError

_HTTP2_FRAME_BYTES = (1 << 24) - 1  # the most that HTTP/2 allows
_WINDOW_BYTES = 8 << 20  # what may be under way on a stream: 100 Mbit/s for 0.6 s
_Options: TypeAlias = Sequence[tuple[str, int | str]]


def new_server(
    listen: str,
    handler: grpc.GenericRpcHandler,
    credentials: Credentials | None,
    limits: Limits,
    pool: Executor,
    on_handshake: Callable[[], None] = lambda: None,
) -> tuple[grpc.Server, int]:
    """Return a server that is not started yet, and its port; InputError where it cannot listen.

    `on_handshake` is called when a TLS handshake begins.
    """
    own: _Options = (
        ("grpc.so_reuseport", 0),  # or two members would share a port, and each get half of the streams
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", int(limits.keepalive_s * 1000)),  # up to HTTP/2's first frame
        ("grpc.max_connection_idle_ms", int(limits.idle_s * 1000)),
    )
    server = grpc.server(pool, (handler,), options=(*_options(limits), *own))  # type: ignore[arg-type]
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, _server_credentials(credentials, on_handshake))
    except RuntimeError:
        port = 0
    if not port:
        raise InputError("listen", listen, "cannot be listened on: not this machine's, or in use")
    return server, port


def new_channel(member: Member, credentials: Credentials | None, limits: Limits) -> grpc.Channel:
    """Return a channel to a member; with credentials, one that accepts nobody else at its address.

    It dials at least twice in the time that the member may be out of reach, or a member that has just come
    would be given up by the outcome of the last dial before.
    """
    own: _Options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", int(limits.keepalive_s * 1000)),  # a dial's deadline
        ("grpc.max_reconnect_backoff_ms", int(min(1.0, limits.patience_s / 2) * 1000)),
    )
    options = (*_options(limits), *own)
    if credentials is None:
        return grpc.insecure_channel(member.address, options)
    named = ("grpc.ssl_target_name_override", agent_host(member.agent))
    tls = grpc.ssl_channel_credentials(
        credentials.authority_pem, credentials.key_pem, credentials.certificate_pem
    )
    return grpc.secure_channel(member.address, tls, (*options, named))


def _options(limits: Limits) -> _Options:
    return (
        ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
        ("grpc.max_send_message_length", MAX_FRAME_BYTES),
        ("grpc.http2.max_frame_size", _HTTP2_FRAME_BYTES),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.keepalive_time_ms", int(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(2 * limits.keepalive_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(2 * limits.keepalive_s * 1000)),  # or a minute, whatever the above
        ("grpc.http2.max_pings_without_data", 0),
    )


def _server_credentials(credentials: Credentials, on_handshake: Callable[[], None]) -> grpc.ServerCredentials:
    own = grpc.ssl_server_certificate_configuration(
        [(credentials.key_pem, credentials.certificate_pem)], root_certificates=credentials.authority_pem
    )

    def asked_for_certificate() -> None:
        """Return None, for "it has not changed"; gRPC asks at each handshake.

        Whatever else it returns, gRPC puts in place of what other handshakes use at that moment: with grpcio
        1.85, one in six times that 500 connections began and ended at once this process died of it.
        """
        on_handshake()

    return grpc.dynamic_ssl_server_credentials(
        own,
        asked_for_certificate,  # type: ignore[arg-type]  # the stubs do not know the None of gRPC's manual
        require_client_authentication=True,
    )
