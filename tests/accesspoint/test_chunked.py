"""Bodies in aws-chunked framing, in each form that S3 has: what is right arrives, what is not is stored nowhere."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nearpoint.signing import ChunkEncoder, Credentials, Message, sign_v4, sign_v4a
from nearpoint.wire.message import Headers, Request

HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
MODES = [
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
]
SIGNED = MODES[1:]


def _chunked(mode: str, data: bytes, change: Callable[[bytes], bytes] = lambda framed: framed) -> Request:
    """A put of `data`; `change` is done to the framed body after it has been signed."""
    has_trailer = mode.endswith("TRAILER")
    now = datetime.now(UTC)
    fields = [
        ("Host", HOST),
        ("Content-Encoding", "aws-chunked"),
        ("X-Amz-Decoded-Content-Length", str(len(data))),
        *([("X-Amz-Trailer", "x-amz-checksum-crc32")] if has_trailer else []),
    ]
    message = Message("PUT", "/chunked", "", fields)
    if "ECDSA" in mode:
        made = sign_v4a(message, ROOT, region_set="*", now=now, payload_hash=mode)
    else:
        made = sign_v4(message, ROOT, region="any", now=now, payload_hash=mode)
    fields += made
    seed = dict(fields)["Authorization"].rpartition("Signature=")[2]
    encoder = ChunkEncoder(mode, ROOT, signed_at=now, region=None if "ECDSA" in mode else "any", seed=seed)
    framed = b"".join(encoder.feed(data[at : at + 60_000]) for at in range(0, len(data), 60_000))
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    framed += encoder.finish({"x-amz-checksum-crc32": checksum} if has_trailer else None)
    return Request("PUT", "/chunked", Headers(fields), change(framed))


def _stored(world: Any) -> list[str]:
    return [path for store in world.stores.values() for path in store.objects if path.endswith("/chunked")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [0, 5, 200_000])
async def test_every_form_is_taken(world: Any, mode: str, size: int) -> None:
    data = bytes(at * 7 % 251 for at in range(size))
    status, _, answer = await world.raw(_chunked(mode, data))
    assert status == 200, answer
    got = world.stores["near"].bodies[-1]
    assert got == data or (mode.endswith("TRAILER") and size > 65_536 and b"x-amz-checksum-crc32:" in got)


@pytest.mark.parametrize("mode", SIGNED)
@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_changed_byte_is_seen(world: Any, mode: str, size: int) -> None:
    last = b"\xfa" * 3

    def change(framed: bytes) -> bytes:
        at = framed.rindex(last)
        return framed[:at] + b"\xfb" + framed[at + 1 :]

    status, _, answer = await world.raw(_chunked(mode, b"\x01" * (size - 3) + last, change))
    assert (status, b"<Code>SignatureDoesNotMatch</Code>" in answer) == (403, True)
    assert not _stored(world)


@pytest.mark.parametrize("mode", [mode for mode in SIGNED if mode.endswith("TRAILER")])
@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_changed_trailer_is_seen(world: Any, mode: str, size: int) -> None:
    def change(framed: bytes) -> bytes:
        at = framed.rindex(b"x-amz-checksum-crc32:") + len(b"x-amz-checksum-crc32:")
        return framed[:at] + b"AAAAAA==" + framed[at + 8 :]

    status, _, answer = await world.raw(_chunked(mode, b"\x01" * size, change))
    assert (status, b"<Code>SignatureDoesNotMatch</Code>" in answer) == (403, True)
    assert not _stored(world)


@pytest.mark.parametrize("mode", SIGNED)
async def test_chunks_in_another_order_are_seen(world: Any, mode: str) -> None:
    data = b"a" * 60_000 + b"b" * 60_000 + b"c"

    def change(framed: bytes) -> bytes:
        middle = framed.index(b"b" * 100)
        start = framed.rindex(b"\r\n", 0, framed.rindex(b";chunk-signature=", 0, middle)) + 2
        end = framed.index(b"\r\n", middle) + 2
        return framed[start:end] + framed[:start] + framed[end:]

    status, _, answer = await world.raw(_chunked(mode, data, change))
    assert (status, b"<Code>SignatureDoesNotMatch</Code>" in answer) == (403, True)
    assert not _stored(world)
