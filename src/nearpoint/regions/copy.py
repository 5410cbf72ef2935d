"""Copies an object or a part of one from a store of one region to that of another: read there, written here, streaming.

A store copies within itself by its own means; between stores there is only this way (S3 API Reference, CopyObject and
UploadPartCopy). What the source's store does not look after (conditions, ranges, version ids) is checked here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from nearpoint.awsproto import AwsError, xml
from nearpoint.regions.conditions import fails, is_unchanged
from nearpoint.regions.store import Store
from nearpoint.signing import UNSIGNED_PAYLOAD
from nearpoint.wire.message import Body, BodyTooLargeError, Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.ranges import Span, parse_content_range
from nearpoint.wire.upstream_error import UpstreamError

ERROR_BYTES_MAX = 64 * 1024
TAGS_BYTES_MAX = 64 * 1024
SOURCE_BYTES_MAX = 5 * 1024**3  # S3 API Reference, CopyObject: what is larger is copied part by part
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")
# Fields that describe the content and go with it unless the caller replaces them.
_CONTENT = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-amz-website-redirect-location",
    }
)
_CONDITIONS = {
    "x-amz-copy-source-if-match": "If-Match",
    "x-amz-copy-source-if-none-match": "If-None-Match",
    "x-amz-copy-source-if-modified-since": "If-Modified-Since",
    "x-amz-copy-source-if-unmodified-since": "If-Unmodified-Since",
}
_RANGE_FIELD = "x-amz-copy-source-range"
# Of the caller's own fields, what does not describe the new object.
_NOT_OF_THE_OBJECT = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-metadata-directive",
        "x-amz-tagging-directive",
    }
)


async def copy_across(
    request: Request,
    *,
    sources: Sequence[tuple[Store, str]],
    source_key: str,
    source_version: str | None,
    target: Store,
    target_bucket: str,
    target_key: str,
    part: Mapping[str, str] | None,
) -> tuple[dict[str, Any], Response]:
    """Copy; answers `ETag` and source version of the copy, and the target store's response (its body has been read).

    `sources` are stores and their buckets that have the source, asked in this order while they do not answer; `part`
    are `partNumber` and `uploadId` for UploadPartCopy. Raises AwsError as S3 answers, ServiceUnavailable when no source
    answers or the one that did breaks off; wire's UpstreamError when the target fails. The target then has nothing new.
    """
    field = None if part is None else request.headers.get(_RANGE_FIELD)
    extent = None if field is None else parse_copy_range(field)
    source, source_bucket, got = await _open(request, sources, source_key, source_version, extent)
    try:
        _check(request, got, source_version, extent)
        headers = _headers(request, got, is_part=part is not None)
        tags = got.headers.get("x-amz-tagging-count")
        if tags not in {None, "0"} and part is None and request.headers.get("x-amz-tagging-directive") != "REPLACE":
            query = _version_query(source_version)
            try:
                headers.set("x-amz-tagging", await _tags(source, source_bucket, source_key, query))
            except UpstreamError as error:
                raise _unreachable("broke off") from error
        put = await target.send(
            "PUT",
            target_bucket,
            target_key,
            query=urlencode(part or {}),
            headers=headers,
            body=StreamBody(_unblamed(got.body), got.body.length),
            payload_hash=UNSIGNED_PAYLOAD,
        )
    finally:
        await got.body.close()
    if put.status != 200:
        raise await _refused(put, copying=False)
    await read_all(put.body, ERROR_BYTES_MAX)
    return {"ETag": put.headers.get("etag"), "CopySourceVersionId": got.headers.get("x-amz-version-id")}, put


def parse_copy_range(field: str) -> tuple[int, int]:
    """The first and the last byte of an x-amz-copy-source-range, which has to name both. Raises InvalidArgument."""
    match = _RANGE.fullmatch(field)
    if match is None or int(match[1]) > int(match[2]):
        raise AwsError(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            extra={"ArgumentName": _RANGE_FIELD, "ArgumentValue": field},
        )
    return int(match[1]), int(match[2])


def beyond_source(first: int, last: int, size: int | str) -> AwsError:
    """The refusal of a range that ends behind its source, whose size is in bytes."""
    return AwsError(
        "InvalidArgument",
        f"Range specified is not valid for source object of size: {size}",
        extra={"ArgumentName": _RANGE_FIELD, "ArgumentValue": f"bytes={first}-{last}"},
    )


def too_large() -> AwsError:
    """The refusal of a source that is to be copied part by part."""
    return AwsError(
        "InvalidRequest",
        f"The specified copy source is larger than the maximum allowable size for a copy source: {SOURCE_BYTES_MAX}",
    )


async def _open(
    request: Request,
    sources: Sequence[tuple[Store, str]],
    key: str,
    version: str | None,
    extent: tuple[int, int] | None,
) -> tuple[Store, str, Response]:
    """The source that answers, its bucket, and its answer with the content still to come."""
    wanted = Headers((name, value) for field, name in _CONDITIONS.items() if (value := request.headers.get(field)))
    if extent is None:
        wanted.add("x-amz-checksum-mode", "ENABLED")
    else:
        wanted.add("Range", f"bytes={extent[0]}-{extent[1]}")
    for source, bucket in sources:
        try:
            got = await source.send("GET", bucket, key, query=_version_query(version), headers=wanted)
            if got.status in {200, 206}:
                return source, bucket, got
            refusal = await _refused(got, copying=True)
        except UpstreamError:
            continue
        if got.status == 416 and extent is not None:
            stated = parse_content_range(got.headers.get("content-range") or "")
            raise beyond_source(*extent, "unknown" if stated is None or stated.size is None else stated.size)
        if got.status == 405 and version is not None:
            raise AwsError(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            )
        if got.status < 500:
            raise refusal
    raise _unreachable("cannot be reached")


def _check(request: Request, got: Response, version: str | None, extent: tuple[int, int] | None) -> None:
    """Raises AwsError where a store has answered something else than was asked."""
    headers = got.headers
    asked = Headers((name, value) for field, name in _CONDITIONS.items() if (value := request.headers.get(field)))
    if fails(asked, headers) or is_unchanged(asked, headers):
        raise AwsError("PreconditionFailed")
    if version not in (None, "null") and headers.get("x-amz-version-id") != version:
        raise AwsError("NotImplemented", "The store of the copy's source does not answer versions by their ids")
    size = got.body.length
    if extent is not None:
        first, last = extent
        stated = parse_content_range(headers.get("content-range") or "")
        if stated is None or stated.size is None:
            if first != 0 or size != last + 1:
                raise AwsError("NotImplemented", "The store of the copy's source does not answer ranges")
        elif stated.span != Span(first, last):
            raise beyond_source(first, last, stated.size)
        size = last - first + 1
    if size is None:
        raise AwsError("NotImplemented", "The store of the copy's source does not say how large it is")
    if size > SOURCE_BYTES_MAX:
        raise too_large()


async def _unblamed(body: Body) -> AsyncIterator[bytes]:
    """The content, breaking off with an AwsError: the target, which is sent it, is not to be blamed."""
    try:
        async for chunk in body:
            yield chunk
    except UpstreamError as error:
        raise _unreachable("broke off") from error


def _unreachable(what: str) -> AwsError:
    return AwsError("ServiceUnavailable", f"The source of the copy {what}", headers={"Retry-After": "1"})


def _version_query(version: str | None) -> str:
    return "" if version is None else f"versionId={quote(version, safe='')}"


def _headers(request: Request, got: Response, *, is_part: bool) -> Headers:
    own = [
        (name, value)
        for name, value in request.headers
        if name.lower().startswith("x-amz-")
        and name.lower() not in _NOT_OF_THE_OBJECT
        and not name.lower().startswith(("x-amz-copy-source", "x-amz-meta-"))
    ]
    if is_part:
        return Headers(own)
    algorithm = request.headers.get("x-amz-checksum-algorithm")
    if got.headers.get("x-amz-checksum-type") == "FULL_OBJECT":  # checked by the target, when it has all
        own += [
            (name, value)
            for name, value in got.headers
            if name.lower().startswith("x-amz-checksum-")
            and name.lower() != "x-amz-checksum-type"
            and (algorithm is None or name.lower() == f"x-amz-checksum-{algorithm.lower()}")
        ]
    replace = request.headers.get("x-amz-metadata-directive") == "REPLACE"
    described = request.headers if replace else got.headers
    return Headers(
        [
            *own,
            *(
                (name, value)
                for name, value in described
                if (name.lower() in _CONTENT or name.lower().startswith("x-amz-meta-"))
                and not (replace and name.lower() == "x-amz-website-redirect-location")
            ),
        ]
    )


async def _tags(store: Store, bucket: str, key: str, version: str) -> str:
    """The object's tags as the `x-amz-tagging` field has them."""
    answer = await store.send("GET", bucket, key, query=f"tagging&{version}" if version else "tagging")
    if answer.status != 200:
        raise await _refused(answer, copying=False)
    root = xml.parse(await read_all(answer.body, TAGS_BYTES_MAX))
    tags = root.child("TagSet")
    pairs = [(tag.child("Key"), tag.child("Value")) for tag in (tags.children if tags is not None else ())]
    return urlencode([(key.text, value.text) for key, value in pairs if key is not None and value is not None])


async def _refused(answer: Response, *, copying: bool) -> AwsError:
    """A store's refusal as an error of the copy."""
    try:
        data = await read_all(answer.body, ERROR_BYTES_MAX)
        root = xml.parse(data) if data else None
    except (BodyTooLargeError, xml.XmlError):
        root = None
    if copying and answer.status in {304, 412}:
        return AwsError("PreconditionFailed")
    code = root.child("Code") if root is not None else None
    message = root.child("Message") if root is not None else None
    return AwsError(
        code.text if code is not None else "ServiceUnavailable",
        message.text if message is not None else None,
        status=answer.status if code is not None else None,
    )
