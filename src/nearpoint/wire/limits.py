"""How much a peer may send and how long it may take.

Every number bounds what one connection can cost; a station that knows better passes its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server. What exceeds them is answered 414, 431, 413, 408 or 503, or the connection is closed.

    - `request_line_bytes_max`: the request target; CloudFront allows 8,192, an S3 key of 1,024 bytes needs 3,072
      when every byte is percent-encoded.
    - `headers_bytes_max`, `header_count_max`: all fields of one message, names and values.
    - `body_bytes_max`: one request body; None for no bound.
    - `header_timeout_s`: from the first byte of a head to its end (RFC 9110 §15.5.9: 408), and a TLS handshake.
    - `idle_timeout_s`: between requests; the connection is closed without a word.
    - `body_timeout_s`: the handler waits for body bytes and none arrives: 408.
    - `write_timeout_s`: the peer takes no byte of what is to be sent: the connection is aborted.
    - `pipelined_max`: parsed requests that wait for their turn before reading pauses.
    - `streams_max`: requests under way on one HTTP/2 connection; one more is refused (REFUSED_STREAM).
    - `connections_max`: open connections of the server; one more is answered 503.
    """

    request_line_bytes_max: int = 16_384
    headers_bytes_max: int = 65_536
    header_count_max: int = 200
    body_bytes_max: int | None = None
    header_timeout_s: float = 10
    idle_timeout_s: float = 60
    body_timeout_s: float = 30
    write_timeout_s: float = 60
    pipelined_max: int = 16
    streams_max: int = 128
    connections_max: int = 20_000

    @property
    def tick_s(self) -> float:
        """How often deadlines are looked at: fine enough for the shortest, never more than once in 20 ms."""
        shortest = min(self.header_timeout_s, self.idle_timeout_s, self.body_timeout_s, self.write_timeout_s)
        return min(1.0, max(0.02, shortest / 8))


# What a peer may send after the handler has answered, so that the connection can be kept or closed without a reset.
DISCARD_BYTES_MAX = 262_144
LINGER_S = 2.0

# Bytes of chunk framing (sizes, extensions, trailers) allowed beyond eight per byte of content.
CHUNK_OVERHEAD_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long an exchange may stand still, in seconds.

    - `connect_s`: for a free place in the pool, and again for the connection with its TLS handshake.
    - `read_s`: without a byte of the response while it is waited for (its head, or its body by the consumer).
    - `head_s`: the same, for the head alone; as `read_s` when None.
    - `write_s`: without a byte of the request being taken.
    - `continue_s`: for `100 Continue` before the body is sent without it.
    """

    connect_s: float = 5
    read_s: float = 30
    write_s: float = 30
    continue_s: float = 1
    head_s: float | None = None
