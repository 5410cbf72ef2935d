"""Copies an object or a part of one from a store of one region to that of another: read there, written here, streaming.

A store copies within itself by its own means; between stores there is only this way (S3 API Reference, CopyObject and
UploadPartCopy).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from nearpoint.awsproto import AwsError, xml
from nearpoint.regions.store import Store
from nearpoint.signing import UNSIGNED_PAYLOAD
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

ERROR_BYTES_MAX = 64 * 1024
TAGS_BYTES_MAX = 64 * 1024
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
    "x-amz-copy-source-range": "Range",
}
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
    source: Store,
    source_bucket: str,
    source_key: str,
    source_version: str | None,
    target: Store,
    target_bucket: str,
    target_key: str,
    part: Mapping[str, str] | None,
) -> tuple[dict[str, Any], Response]:
    """Copy; answers `ETag` and source version of the copy, and the target store's response (its body has been read).

    `part` are `partNumber` and `uploadId` for UploadPartCopy. Raises AwsError as S3 answers, wire's UpstreamError when
    a store fails; the target then has nothing new.
    """
    wanted = Headers((name, value) for field, name in _CONDITIONS.items() if (value := request.headers.get(field)))
    version = "" if source_version is None else f"versionId={quote(source_version, safe='')}"
    got = await source.send("GET", source_bucket, source_key, query=version, headers=wanted)
    if got.status not in {200, 206}:
        raise await _refused(got, copying=True)
    try:
        headers = _headers(request, got, is_part=part is not None)
        tags = got.headers.get("x-amz-tagging-count")
        if tags not in {None, "0"} and part is None and request.headers.get("x-amz-tagging-directive") != "REPLACE":
            headers.set("x-amz-tagging", await _tags(source, source_bucket, source_key, version))
        put = await target.send(
            "PUT",
            target_bucket,
            target_key,
            query=urlencode(part or {}),
            headers=headers,
            body=got.body,
            payload_hash=UNSIGNED_PAYLOAD,
        )
    finally:
        await got.body.close()
    if put.status != 200:
        raise await _refused(put, copying=False)
    await read_all(put.body, ERROR_BYTES_MAX)
    return {"ETag": put.headers.get("etag"), "CopySourceVersionId": got.headers.get("x-amz-version-id")}, put


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
