"""How the client's channels are set up.

A picture in and rendered pictures out can be large, so messages may be; keepalive finds a peer
that went away, or stands still, without a word. gRPC's own retries stay off: what is worth
repeating is decided from the service's reason (`limelight.retries`), not from the status alone.
"""

from limelight.proxies import proxy_options

MAX_MESSAGE_BYTES = 64 << 20

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # While calls wait, a peer that sends nothing for 6 s is pinged; gRPC's core answers pings,
    # however busy the service is. Without an answer in 4 s the calls end (UNAVAILABLE), and are
    # made again on another connection.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # What decides in gRPC's core, and would be a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # An answer may take minutes: without this, gRPC would ping twice and then hardly any more.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    # The first reconnection comes sooner than the first retry of a call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also how long a peer may take to answer a new connection, where gRPC would wait 20 s: a
    # kernel takes connections for a process that stands still.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


def options_for(address: str) -> list[tuple[str, int | str]]:
    """The arguments of a channel to `address`; those of its proxy are read from the environment."""
    return [*OPTIONS, *proxy_options(address)]
