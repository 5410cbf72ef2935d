"""Copies between stores: what is asked of the source, and what is made of a source that does not do it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from nearpoint.awsproto import AwsError
from nearpoint.regions.copy import SOURCE_BYTES_MAX, copy_across
from nearpoint.regions.store import Store
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.upstream_error import UpstreamError

TEN = b"0123456789"
ETAG = f'"{hashlib.md5(TEN).hexdigest()}"'


class Source:
    """Answers every GET with `response`, or fails as it is told."""

    def __init__(self, response: Response | UpstreamError) -> None:
        self.response = response
        self.asked: list[Headers] = []

    async def send(self, method: str, bucket: str, key: str, **given: Any) -> Response:
        self.asked.append(given["headers"])
        if isinstance(self.response, UpstreamError):
            raise self.response
        return self.response


class Target:
    """Takes every PUT."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers = Headers()

    async def send(self, method: str, bucket: str, key: str, **given: Any) -> Response:
        self.headers = given["headers"]
        self.bodies.append(await read_all(given["body"], 1 << 20))
        return Response(200, Headers([("ETag", '"new"')]))


async def _stream(data: bytes, broken: bool) -> AsyncIterator[bytes]:
    yield data
    if broken:
        raise UpstreamError("lost", "gone")


def answer(
    data: bytes = TEN, status: int = 200, *, length: int | None = None, broken: bool = False, **fields: str
) -> Response:
    headers = Headers([("ETag", ETAG), *((name.replace("_", "-"), value) for name, value in fields.items())])
    return Response(status, headers, StreamBody(_stream(data, broken), len(data) if length is None else length))


async def copied(*sources: Source, version: str | None = None, part: bool = False, **fields: str) -> Target:
    target = Target()
    headers = Headers((f"x-amz-{name.replace('_', '-')}", value) for name, value in fields.items())
    await copy_across(
        Request("PUT", "/k", headers),
        sources=[(cast(Store, source), "b") for source in sources],
        source_key="k",
        source_version=version,
        target=cast(Store, target),
        target_bucket="t",
        target_key="k",
        part={"partNumber": "1", "uploadId": "u"} if part else None,
    )
    return target


async def refused(*sources: Source, **given: Any) -> tuple[int, str]:
    with pytest.raises(AwsError) as caught:
        await copied(*sources, **given)
    return caught.value.status, caught.value.code


async def test_a_source_that_does_not_answer_is_passed_over() -> None:
    lost, ill = Source(UpstreamError("connect", "down")), Source(Response(503, body=b""))
    assert (await copied(lost, ill, Source(answer()))).bodies == [TEN]
    assert await refused(lost, ill) == (503, "ServiceUnavailable")


async def test_a_source_that_breaks_off_is_not_the_targets_fault() -> None:
    assert await refused(Source(answer(length=20, broken=True))) == (503, "ServiceUnavailable")


async def test_no_more_than_five_gibibytes_are_copied_at_once() -> None:
    assert await refused(Source(answer(length=SOURCE_BYTES_MAX + 1))) == (400, "InvalidRequest")
    whole: dict[str, Any] = {"part": True, "copy_source_range": f"bytes=0-{SOURCE_BYTES_MAX}"}
    large = answer(length=SOURCE_BYTES_MAX + 1, status=206, content_range=f"bytes 0-{SOURCE_BYTES_MAX}/{1 << 40}")
    assert await refused(Source(large), **whole) == (400, "InvalidRequest")


async def test_a_range_is_a_parts_alone() -> None:
    source = Source(answer(b"234", 206, content_range="bytes 2-4/10"))
    assert (await copied(source, part=True, copy_source_range="bytes=2-4")).bodies == [b"234"]
    assert source.asked[0].get("range") == "bytes=2-4"
    source = Source(answer())
    assert (await copied(source, copy_source_range="bytes=2-4")).bodies == [TEN]  # as S3, which ignores it
    assert "range" not in source.asked[0]


@pytest.mark.parametrize("asked", ["2-4", "bytes=2-", "bytes=-4", "bytes=4-2", "bytes=0-1,3-4", "bytes=a-b"])
async def test_a_range_names_both_ends(asked: str) -> None:
    source = Source(answer())
    assert await refused(source, part=True, copy_source_range=asked) == (400, "InvalidArgument")
    assert not source.asked


async def test_a_range_lies_within_its_source() -> None:
    short = Source(answer(b"89", 206, content_range="bytes 8-9/10"))
    assert await refused(short, part=True, copy_source_range="bytes=8-20") == (400, "InvalidArgument")
    beyond = Source(answer(b"", 416, content_range="bytes */10"))
    assert await refused(beyond, part=True, copy_source_range="bytes=10-20") == (400, "InvalidArgument")


async def test_a_store_without_ranges_is_asked_for_the_whole_alone() -> None:
    assert await refused(Source(answer()), part=True, copy_source_range="bytes=2-4") == (501, "NotImplemented")
    assert (await copied(Source(answer()), part=True, copy_source_range="bytes=0-9")).bodies == [TEN]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("copy_source_if_match", '"other"'),
        ("copy_source_if_none_match", ETAG),
        ("copy_source_if_unmodified_since", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("copy_source_if_modified_since", "Wed, 01 Jan 2025 00:00:00 GMT"),
    ],
)
async def test_conditions_hold_though_the_store_ignores_them(field: str, value: str) -> None:
    source = Source(answer(last_modified="Sat, 01 Jun 2024 00:00:00 GMT"))
    assert await refused(source, **{field: value}) == (412, "PreconditionFailed")


async def test_a_version_is_that_version() -> None:
    assert (await copied(Source(answer(x_amz_version_id="v1")), version="v1")).bodies == [TEN]
    assert await refused(Source(answer()), version="v1") == (501, "NotImplemented")
    marker = Source(Response(405, body=b"<Error><Code>MethodNotAllowed</Code></Error>"))
    assert await refused(marker, version="v1") == (400, "InvalidRequest")


async def test_a_checksum_of_the_whole_goes_with_it() -> None:
    fields: dict[str, Any] = {"x_amz_checksum_crc32": "AAAAAA==", "x_amz_checksum_type": "FULL_OBJECT"}
    target = await copied(Source(answer(**fields)))
    assert target.headers.get("x-amz-checksum-crc32") == "AAAAAA=="
    assert "x-amz-checksum-type" not in target.headers
    target = await copied(Source(answer(**fields)), checksum_algorithm="SHA256")
    assert "x-amz-checksum-crc32" not in target.headers
    target = await copied(Source(answer(**(fields | {"x_amz_checksum_type": "COMPOSITE"}))))
    assert "x-amz-checksum-crc32" not in target.headers
