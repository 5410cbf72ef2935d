from __future__ import annotations

import gzip
from typing import Any

import brotli
import pytest

from nearpoint.edge.compress import choose_coding, compressed, encoded_fields
from nearpoint.edge.config import compile_distribution
from nearpoint.edge.managed import CACHING_OPTIMIZED, CACHING_OPTIMIZED_UNCOMPRESSED
from nearpoint.wire.message import Headers, StreamBody

DOMAIN = "d111111abcdef8.cloudfront.net"
TEXT = b"a line of text that comes again and again\n" * 100


def behavior(**changes: Any) -> Any:
    given = {
        "TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all", "Compress": True, "CachePolicyId": CACHING_OPTIMIZED
    }  # fmt: skip
    config = {
        "Enabled": True,
        "Origins": [{"Id": "o", "DomainName": "o.example", "S3OriginConfig": {}}],
        "DefaultCacheBehavior": {name: value for name, value in (given | changes).items() if value is not None},
    }
    return compile_distribution(distribution_id="E1", domain=DOMAIN, config=config).behaviors[-1]


LEGACY = {"CachePolicyId": None, "ForwardedValues": {"QueryString": False}}


@pytest.mark.parametrize(
    ("changes", "accept", "fields", "status", "length", "coding"),
    [
        ({}, "gzip, br", {}, 200, 5000, "br"),
        ({}, "br;q=0, gzip", {}, 200, 5000, "gzip"),
        ({}, "gzip", {}, 404, 5000, "gzip"),
        ({}, "gzip", {}, 500, 5000, None),
        ({}, "gzip", {}, 206, 5000, None),
        ({}, "deflate", {}, 200, 5000, None),
        ({}, None, {}, 200, 5000, None),
        ({}, "gzip", {}, 200, 1000, "gzip"),
        ({}, "gzip", {}, 200, 999, None),
        ({}, "gzip", {}, 200, 10_000_000, "gzip"),
        ({}, "gzip", {}, 200, 10_000_001, None),
        ({}, "gzip", {}, 200, None, None),
        ({}, "gzip", {"Content-Type": "text/html; charset=utf-8"}, 200, 5000, "gzip"),
        ({}, "gzip", {"Content-Type": "TEXT/CSS"}, 200, 5000, "gzip"),
        ({}, "gzip", {"Content-Type": "image/png"}, 200, 5000, None),
        ({}, "gzip", {"Content-Encoding": "identity"}, 200, 5000, None),
        ({}, "gzip", {"Cache-Control": "max-age=5, no-transform"}, 200, 5000, None),
        ({"Compress": False}, "gzip", {}, 200, 5000, None),
        ({"CachePolicyId": CACHING_OPTIMIZED_UNCOMPRESSED}, "gzip, br", {}, 200, 5000, None),
        (LEGACY, "gzip, br", {}, 200, 5000, "gzip"),
        (LEGACY, "br", {}, 200, 5000, None),
    ],
)
def test_what_is_compressed(
    changes: Any, accept: str | None, fields: dict[str, str], status: int, length: int | None, coding: str | None
) -> None:
    request = Headers([("Accept-Encoding", accept)] if accept is not None else [])
    headers = Headers(list(({"Content-Type": "text/plain"} | fields).items()))
    assert choose_coding(behavior(**changes), request, status=status, headers=headers, length=length) == coding


@pytest.mark.parametrize(
    ("given", "kept"),
    [('"a"', 'W/"a"'), ('W/"a"', 'W/"a"'), ("a", None)],
)
def test_entity_tags(given: str, kept: str | None) -> None:
    fields = encoded_fields([("ETag", given), ("Content-Length", "5"), ("Vary", "Origin")], "br")
    assert dict(fields).get("ETag") == kept
    assert ("Content-Encoding", "br") in fields
    assert ("Vary", "Accept-Encoding") in fields
    assert "Content-Length" not in dict(fields)
    assert len(encoded_fields([("Vary", "accept-encoding")], "br")) == 2


def test_both_codings() -> None:
    assert gzip.decompress(compressed(TEXT, "gzip")) == TEXT
    assert brotli.decompress(compressed(TEXT, "br")) == TEXT


def serve(stage: Any, **changes: Any) -> Any:
    config = stage.config(Compress=True, CachePolicyId=CACHING_OPTIMIZED, **changes)
    del config["DefaultCacheBehavior"]["ForwardedValues"]
    return compile_distribution(distribution_id="E1", domain=DOMAIN, config=config)


@pytest.mark.parametrize("size", [5_000, 1_000_000])
async def test_one_object_in_three_codings(stage: Any, answer: Any, size: int) -> None:
    body = (TEXT * (size // len(TEXT) + 1))[:size]
    stage.answer = lambda request: answer(body, Content_Type="text/plain", ETag='"v1"', Cache_Control="max-age=60")
    await stage.open(serve(stage))
    read = {"": bytes, "gzip": gzip.decompress, "br": brotli.decompress}
    for coding, accept in (("br", "gzip, deflate, br"), ("gzip", "gzip"), ("", "identity")):
        for result in ("Miss", "Hit", "Hit"):
            reply = await stage.get("/a", accept_encoding=accept)
            assert (reply.cache, reply["content-encoding"]) == (result, coding or None)
            assert read[coding](reply.body) == body
            assert reply["etag"] == ('W/"v1"' if coding else '"v1"')
            if result == "Hit":
                assert int(reply["content-length"]) == len(reply.body)
        await stage.until(lambda: not stage.edge._transfer.flights)
    assert len(stage.seen) == 3
    not_modified = await stage.get("/a", accept_encoding="br", if_none_match='W/"v1"')
    assert not_modified.status == 304


async def test_what_breaks_off_is_not_kept(stage: Any, answer: Any) -> None:
    async def half() -> Any:
        yield b"x" * 500_000
        raise ConnectionResetError

    stage.answer = lambda request: answer(StreamBody(half(), 1_000_000), Content_Type="text/plain")
    await stage.open(serve(stage))
    raw = await stage.raw(
        f"GET /a HTTP/1.1\r\nHost: {DOMAIN}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n".encode()
    )
    assert not raw.endswith(b"0\r\n\r\n")  # the end of a chunked body that is whole
    stage.answer = lambda request: answer(TEXT, Content_Type="text/plain")
    reply = await stage.get("/a", accept_encoding="gzip")
    assert gzip.decompress(reply.body) == TEXT


async def test_a_revalidated_object_stays_compressed(stage: Any, answer: Any) -> None:
    seen: list[str | None] = []

    def origin(request: Any) -> Any:
        seen.append(request.headers.get("if-none-match"))
        if seen[-1] is not None:
            return answer(b"", status=304, Cache_Control="max-age=60")
        return answer(TEXT, Content_Type="text/plain", ETag='"v1"', Cache_Control="max-age=60")

    stage.answer = origin
    await stage.open(serve(stage))
    await stage.get("/a", accept_encoding="gzip")
    stage.clock.now += 61
    reply = await stage.get("/a", accept_encoding="gzip")
    assert (reply.cache, seen) == ("RefreshHit", [None, 'W/"v1"'])
    assert gzip.decompress(reply.body) == TEXT
    assert reply.headers.get_all("content-encoding") == ["gzip"]
    stage.clock.now += 1
    assert (await stage.get("/a", accept_encoding="gzip")).cache == "Hit"
