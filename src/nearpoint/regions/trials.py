"""What S3 does, feature by feature, each tried on a store by asking it on scratch objects.

A trial says whether the store does it, what was seen, and what has to be done about a store that would do something
else than it is asked: `refuse` requests that need the feature, or `mend` its answers. A store that honestly says no
needs neither. A trial needs the scratch object `object`, which is there before the first one begins.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal
from urllib.parse import quote

from msgspec import Struct

from nearpoint.regions.digests import KINDS, digest
from nearpoint.regions.scratch import Answer, Scratch
from nearpoint.signing import STREAMING_UNSIGNED_TRAILER, ChunkEncoder
from nearpoint.wire.message import StreamBody

Verdict = Literal["yes", "no", "unknown"]
Remedy = Literal["", "refuse", "mend"]

BODY = bytes(range(32, 96))
OBJECT_FIELDS = (("Content-Type", "text/x-probe"), ("Cache-Control", "max-age=7"), ("x-amz-meta-probe", "a b"))
_OTHER = b"another content, longer than the first one was: " * 2
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]{1,2000})</UploadId>")
_STATUS = re.compile(rb"<Status>(Enabled|Suspended)</Status>")
_TAGGING = b"<Tagging><TagSet><Tag><Key>probe</Key><Value>a b</Value></Tag></TagSet></Tagging>"
_NO_HOLD = b'<LegalHold xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>OFF</Status></LegalHold>'
_NO_TAG = '"00000000000000000000000000000000"'
_NO_VERSION = "nearpoint.no.such.version"
_XML = ("Content-Type", "application/xml")
_OVERWRITTEN = "overwrites the object"


class Seen(Struct, frozen=True, kw_only=True):
    """The outcome of a trial. `remedy` is what has to be done about a store that does not say no."""

    verdict: Verdict
    detail: str = ""
    remedy: Remedy = ""


YES = Seen(verdict="yes")
Trial = Callable[[Scratch], Awaitable[Seen]]


def _is(yes: bool, detail: str = "", *, remedy: Remedy = "") -> Seen:
    return Seen(verdict="yes" if yes else "no", detail=detail, remedy="" if yes else remedy)


class UnsettledError(Exception):
    """The store failed when it was asked, which says nothing of what it does otherwise."""


def _honest(answer: Answer) -> bool:
    """Whether the store says itself that it will not. Raises UnsettledError."""
    if answer.status >= 500 and answer.status != 501:
        raise UnsettledError(f"answers {answer}")
    return answer.status >= 400


def _said(answer: Answer, wanted: int, ignored: str) -> str:
    """What to say of an answer: nothing when it is the wanted one, `ignored` when it is a success."""
    if answer.status == wanted:
        return ""
    return ignored if answer.status < 300 and ignored else f"answers {answer}"


def _conditional(answer: Answer, ignored: str) -> Seen:
    """A write whose condition does not hold has to be a 412; one that is done all the same must not be asked for."""
    return _is(answer.status == 412, _said(answer, 412, ignored), remedy="" if _honest(answer) else "refuse")


async def listing(scratch: Scratch) -> Seen:
    query = f"list-type=2&max-keys=2&prefix={scratch.prefix.replace('/', '%2F')}"
    answer = await scratch.ask("GET", query=query)
    counted = b"<KeyCount>" in answer.body
    return _is(answer.status == 200 and counted, "" if counted else f"answers {answer}, no KeyCount")


async def versioning(scratch: Scratch) -> Seen:
    answer = await scratch.ask("GET", query="versioning")
    if answer.status != 200:
        return _is(False, f"answers {answer}")
    status = _STATUS.search(answer.body)
    if status is None:
        return _is(False, "off for this bucket")
    return _is(status[1] == b"Enabled", "" if status[1] == b"Enabled" else "suspended")


async def version_ids(scratch: Scratch) -> Seen:
    """A version that there is not must not be taken for the object: least of all when it is to be deleted."""
    answer = await scratch.ask("GET", "object", f"versionId={_NO_VERSION}")
    if not _honest(answer):
        return _is(False, "versionId is ignored", remedy="refuse")
    await scratch.put("bulk", (), BODY)
    document = (
        f"<Delete><Object><Key>{scratch.prefix}bulk</Key><VersionId>{_NO_VERSION}</VersionId></Object></Delete>"
    ).encode()
    md5 = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
    await scratch.ask("POST", None, "delete", [_XML, ("Content-MD5", md5)], document)
    kept = await scratch.ask("HEAD", "bulk")
    return _is(kept.status == 200, "" if kept.status == 200 else "DeleteObjects ignores VersionId", remedy="refuse")


async def conditional_create(scratch: Scratch) -> Seen:
    condition = [("If-None-Match", "*")]
    first = await scratch.put("create", condition, BODY)
    if first.status != 200:
        return _is(False, f"a new key is refused: {first}")
    return _conditional(await scratch.put("create", condition, _OTHER), "If-None-Match: * is ignored")


async def conditional_replace(scratch: Scratch) -> Seen:
    first = await scratch.put("replace", (), BODY)
    wrong = await scratch.put("replace", [("If-Match", _NO_TAG)], _OTHER)
    if wrong.status != 412:
        return _conditional(wrong, "If-Match is ignored")
    right = await scratch.put("replace", [("If-Match", first.headers.get("etag") or "")], _OTHER)
    return _is(right.status == 200, _said(right, 200, ""))


async def conditional_delete(scratch: Scratch) -> Seen:
    await scratch.put("kept", (), BODY)
    return _conditional(await scratch.ask("DELETE", "kept", "", [("If-Match", _NO_TAG)]), "If-Match is ignored")


async def conditional_read(scratch: Scratch) -> Seen:
    etag = (await scratch.ask("HEAD", "object")).headers.get("etag") or ""
    same = await scratch.ask("GET", "object", "", [("If-None-Match", etag)])
    other = await scratch.ask("GET", "object", "", [("If-Match", _NO_TAG)])
    wrong = [_said(same, 304, "If-None-Match is ignored"), _said(other, 412, "If-Match is ignored")]
    return _is(not any(wrong), "; ".join(filter(None, wrong)), remedy="mend")


async def conditional_copy(scratch: Scratch) -> Seen:
    fields = [("x-amz-copy-source", _source(scratch)), ("x-amz-copy-source-if-match", _NO_TAG)]
    answer = await scratch.write("PUT", "copied-if", "", fields, b"")
    if answer.status == 200 and answer.code:  # an error behind a 200: S3 API Reference, CopyObject
        return _is(answer.code == "PreconditionFailed", f"answers {answer}")
    return _conditional(answer, "x-amz-copy-source-if-match is ignored")


async def ranges(scratch: Scratch) -> Seen:
    await scratch.put("range", [("x-amz-checksum-crc32", digest("CRC32", BODY))], BODY)
    mode = ("x-amz-checksum-mode", "ENABLED")
    mislabelled = ""
    for asked, first, last in (("10-19", 10, 19), ("-4", len(BODY) - 4, len(BODY) - 1), ("60-", 60, 63)):
        answer = await scratch.ask("GET", "range", "", [("Range", f"bytes={asked}"), mode])
        part = BODY[first : last + 1]
        described = answer.headers.get("content-range") == f"bytes {first}-{last}/{len(BODY)}"
        if answer.status not in (200, 206) or answer.body != part or not described:
            return _is(False, f"bytes={asked} is answered {answer} with {len(answer.body)} bytes")
        if answer.status == 200:
            mislabelled = mislabelled or "parts are answered with 200 instead of 206"
        elif answer.headers.get("x-amz-checksum-crc32") not in (None, digest("CRC32", part)):
            mislabelled = mislabelled or "a part carries the checksum of the whole, which clients refuse"
    if mislabelled:
        return _is(False, mislabelled, remedy="mend")
    beyond = await scratch.ask("GET", "range", "", [("Range", "bytes=1000-")])
    return _is(beyond.status == 416, _said(beyond, 416, "a range beyond the end is not refused"))


async def metadata(scratch: Scratch) -> Seen:
    headers = (await scratch.ask("HEAD", "object")).headers
    lost = [name for name, value in OBJECT_FIELDS if headers.get(name) != value]
    if lost:
        return _is(False, f"loses {', '.join(name.lower() for name in lost)}")
    # Clients show the names as they arrive; S3 sends them in lower case.
    changed = not any(name.endswith("-meta-probe") for name, _ in headers)
    return _is(not changed, "names come back in other case" if changed else "", remedy="mend")


async def checksums(scratch: Scratch) -> Seen:
    async def keeps(kind: str) -> bool:
        name, value = f"x-amz-checksum-{kind.lower()}", digest(kind, BODY)
        await scratch.put(f"checksum-{kind}", [(name, value)], BODY)
        head = await scratch.ask("HEAD", f"checksum-{kind}", "", [("x-amz-checksum-mode", "ENABLED")])
        return head.headers.get(name) == value

    kept = await asyncio.gather(*(keeps(kind) for kind in KINDS))
    kinds = [kind for kind, is_kept in zip(KINDS, kept, strict=True) if is_kept]
    missing = len(kinds) < len(KINDS)
    return _is(not missing, f"gives back {', '.join(kinds) or 'none'}" if missing else "")


async def checksum_verification(scratch: Scratch) -> Seen:
    wrong = await scratch.put("wrong", [("x-amz-checksum-crc32", digest("CRC32", _OTHER))], BODY)
    md5 = base64.b64encode(hashlib.md5(_OTHER, usedforsecurity=False).digest()).decode()
    other = await scratch.put("wrong-md5", [("Content-MD5", md5)], BODY)
    kept = [name for name, answer in (("CRC32", wrong), ("Content-MD5", other)) if answer.status < 400]
    return _is(not kept, f"a body that does not fit its {' or '.join(kept)} is kept" if kept else "", remedy="mend")


async def trailing_checksums(scratch: Scratch) -> Seen:
    """A body whose checksum comes behind it, and whose framed length is not known before: as AWS's clients send it."""

    async def put(name: str, checked: bytes) -> Answer:
        encoder = ChunkEncoder()
        trailer = {"x-amz-checksum-crc32": digest("CRC32", checked)}

        async def pieces() -> AsyncIterator[bytes]:
            yield encoder.feed(BODY)
            yield encoder.finish(trailer)

        fields = [
            ("Content-Encoding", "aws-chunked"),
            ("X-Amz-Trailer", "x-amz-checksum-crc32"),
            ("X-Amz-Decoded-Content-Length", str(len(BODY))),
        ]
        return await scratch.write("PUT", name, "", fields, StreamBody(pieces(), None), STREAMING_UNSIGNED_TRAILER)

    right = await put("trailer", BODY)
    if right.status != 200:
        return _is(False, f"answers {right}", remedy="mend")
    if (await scratch.ask("GET", "trailer")).body != BODY:
        return _is(False, "the framing is kept", remedy="mend")
    kept = (await put("wrong-trailer", _OTHER)).status < 400
    return _is(not kept, "a body that does not fit is kept" if kept else "", remedy="mend")


async def attributes(scratch: Scratch) -> Seen:
    await scratch.put("attributes", [("x-amz-checksum-crc32", digest("CRC32", BODY))], BODY)
    asked = [("x-amz-object-attributes", "ETag,ObjectSize,Checksum")]
    answer = await scratch.ask("GET", "attributes", "attributes", asked)
    if answer.status == 200 and answer.body == BODY:
        return _is(False, "the object itself is answered", remedy="refuse")
    if answer.status != 200 or b"<ObjectSize>64<" not in answer.body:
        return _is(False, f"answers {answer}")
    complete = digest("CRC32", BODY).encode() in answer.body
    return _is(complete, "" if complete else "without checksums")


async def copies(scratch: Scratch) -> Seen:
    done = await scratch.write("PUT", "copied", "", [("x-amz-copy-source", _source(scratch))], b"")
    got = await scratch.ask("GET", "copied")
    same = done.status == 200 and not done.code and got.body == BODY
    more = sorted({name.lower() for name, _ in got.headers if "x-amz-meta-" in name.lower()} - {"x-amz-meta-probe"})
    detail = f"adds {', '.join(more)}" if more else ""
    return _is(same, detail if same else f"answers {done}")


async def tagging(scratch: Scratch) -> Seen:
    await scratch.put("tagged", (), BODY)
    put = await scratch.ask("PUT", "tagged", "tagging", [_XML], _TAGGING)
    if _honest(put):
        return _is(False, f"answers {put}")
    got = await scratch.ask("GET", "tagged", "tagging")
    content = await scratch.ask("GET", "tagged")
    if content.body != BODY:  # a store that knows no tags may take them for the object's new content
        return _is(False, f"a request for its tags {_OVERWRITTEN}", remedy="refuse")
    kept = b"<Key>probe</Key>" in got.body and b"<Value>a b</Value>" in got.body
    return _is(kept, "" if kept else "tags are lost", remedy="refuse")


async def acls(scratch: Scratch) -> Seen:
    await scratch.put("acl", (), BODY)
    got = await scratch.ask("GET", "acl", "acl")
    put = await scratch.ask("PUT", "acl", "acl", [("x-amz-acl", "private")])
    if not _honest(put) and (await scratch.ask("GET", "acl")).body != BODY:
        return _is(False, f"a request for its ACL {_OVERWRITTEN}", remedy="refuse")
    if got.status == 200 and b"AccessControlPolicy" not in got.body:
        return _is(False, "the object itself is answered", remedy="refuse")
    if put.code == "AccessControlListNotSupported":
        return _is(False, "off for this bucket")  # as for every new one (S3 User Guide, "Object Ownership")
    refused = next((answer for answer in (got, put) if _honest(answer)), None)
    return _is(refused is None, "" if refused is None else f"answers {refused}")


async def object_lock(scratch: Scratch) -> Seen:
    """Without a hold that lasts: the scratch object has to go again."""
    await scratch.put("locked", (), BODY)
    put = await scratch.ask("PUT", "locked", "legal-hold", [_XML], _NO_HOLD)
    if not _honest(put) and (await scratch.ask("GET", "locked")).body != BODY:
        return _is(False, f"a request for its legal hold {_OVERWRITTEN}", remedy="refuse")
    if put.code in ("InvalidRequest", "ObjectLockConfigurationNotFoundError"):
        return _is(False, "off for this bucket")
    return _is(not _honest(put), f"answers {put}" if _honest(put) else "")


async def customer_keys(scratch: Scratch) -> Seen:
    """An object that is to be encrypted with the client's key must not lie there in the clear."""
    key = hashlib.sha256(b"probe").digest()
    fields = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", base64.b64encode(key).decode()),
        (
            "x-amz-server-side-encryption-customer-key-MD5",
            base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
        ),
    ]
    put = await scratch.put("encrypted", fields, BODY)
    if _honest(put):
        return _is(False, f"answers {put}")
    bare = await scratch.ask("GET", "encrypted")
    return _is(_honest(bare), "" if _honest(bare) else "the client's key is ignored", remedy="refuse")


async def multipart(scratch: Scratch) -> Seen:
    done, upload_id = await _upload(scratch, "parts")
    if not upload_id:
        return _is(False, f"answers {done}")
    whole = done.status == 200 and not done.code and (await scratch.ask("GET", "parts")).body == BODY
    if whole:
        scratch.upload_ends(upload_id)
    return _is(whole, "" if whole else f"completing is answered {done}")


async def part_reads(scratch: Scratch) -> Seen:
    """A part that there is not must not be answered with the whole object."""
    beyond = await scratch.ask("GET", "object", "partNumber=2")
    return _is(_honest(beyond), "" if _honest(beyond) else "partNumber is ignored", remedy="refuse")


async def _upload(scratch: Scratch, name: str) -> tuple[Answer, str]:
    """An upload in one part, its last answer and its id; empty where it did not begin."""
    made = await scratch.ask("POST", name, "uploads")
    found = _UPLOAD_ID.search(made.body)
    if made.status != 200 or found is None:
        return made, ""
    upload_id = found[1].decode("latin-1")
    scratch.upload_begins(upload_id, name)
    quoted = quote(upload_id, safe="")
    part = await scratch.ask("PUT", name, f"partNumber=1&uploadId={quoted}", (), BODY)
    etag = (part.headers.get("etag") or "").replace('"', "&quot;")
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    done = await scratch.write("POST", name, f"uploadId={quoted}", (), document.encode("latin-1"))
    return done, upload_id


def _source(scratch: Scratch) -> str:
    return quote(f"/{scratch.bucket}/{scratch.prefix}object")


# By the names they are shown under, in this order.
READING: dict[str, Trial] = {"listing": listing, "versioning": versioning}
WRITING: dict[str, Trial] = {
    "version ids": version_ids,
    "conditional create": conditional_create,
    "conditional replace": conditional_replace,
    "conditional delete": conditional_delete,
    "conditional read": conditional_read,
    "conditional copy": conditional_copy,
    "ranges": ranges,
    "part reads": part_reads,
    "metadata": metadata,
    "checksums": checksums,
    "checksum verification": checksum_verification,
    "trailing checksums": trailing_checksums,
    "attributes": attributes,
    "copies": copies,
    "tagging": tagging,
    "ACLs": acls,
    "object lock": object_lock,
    "customer keys": customer_keys,
    "multipart": multipart,
}
