"""Finds out what a store can do, by trying it on scratch objects under `.nearpoint-probe/` that are removed again.

`probe` asks one bucket, within a bounded time. What a store lacks is found out, not guessed from its name: a store that
answers 200 to `If-None-Match: *` and overwrites says so nowhere. What could not be found out is `unknown`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from nearpoint.regions.digests import KINDS, digest
from nearpoint.regions.scratch import Answer, Scratch
from nearpoint.regions.store import Store
from nearpoint.wire.client import UpstreamError

PREFIX = ".nearpoint-probe/"
SKEW_S_MAX = 900.0  # a signature is refused beyond it (S3 API Reference, RequestTimeTooSkewed)

Access = Literal["read-write", "read-only", "none"]
Verdict = Literal["yes", "no", "unknown"]

_BODY = bytes(range(32, 96))
_OTHER = b"another content, longer than the first one was: " * 2
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]{1,2000})</UploadId>")
_STATUS = re.compile(rb"<Status>(Enabled|Suspended)</Status>")
_TAGGING = b"<Tagging><TagSet><Tag><Key>probe</Key><Value>a b</Value></Tag></TagSet></Tagging>"
_NO_TAG = '"00000000000000000000000000000000"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that S3 does, whether this store does it, and what was seen."""

    feature: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one bucket's store can do with the credentials it was asked with.

    `problem` says why there is no access, or what of the probe was left behind; empty otherwise. `clock_skew_s` is the
    store's clock less this machine's, to the second; None when it sends no Date.
    """

    region: str
    bucket: str
    endpoint: str
    access: Access
    problem: str = ""
    clock_skew_s: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def lacks(self) -> tuple[Finding, ...]:
        """What the store was seen not to do."""
        return tuple(one for one in self.findings if one.verdict == "no")


# In the order they are shown. A read-only probe finds out the first of them.
READ_FEATURES = ("clock", "listing", "versioning")
WRITE_FEATURES = (
    "conditional create",
    "conditional replace",
    "conditional read",
    "ranges",
    "metadata",
    "checksums",
    "checksum verification",
    "attributes",
    "copies",
    "tagging",
    "multipart",
)


async def probe(
    store: Store, bucket: str, *, token: str, clock: Callable[[], datetime], timeout_s: float = 10.0
) -> Capabilities:
    """Find out what `store` can do in `bucket`. Takes at most `timeout_s` and some seconds for cleaning up.

    `token` makes the scratch keys unique. Never raises for what the store does or fails to do.
    """
    scratch = Scratch(store, bucket, f"{PREFIX}{token}/", clock=clock, timeout_s=timeout_s)
    return await _Probe(store, scratch, timeout_s).run()


class _Probe:
    def __init__(self, store: Store, scratch: Scratch, timeout_s: float) -> None:
        self._store = store
        self._scratch = scratch
        self._timeout_s = timeout_s
        self._findings: dict[str, Finding] = {}

    async def run(self) -> Capabilities:
        access: Access = "none"
        problem = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                access, problem = await self._find_access()
                if access != "none":
                    await self._find_features(access)
        except TimeoutError:
            problem = problem or (f"no answer within {self._timeout_s:g} s" if access == "none" else "")
        except UpstreamError as error:
            problem = f"cannot be reached: {error}"
        finally:
            left = await self._scratch.clean_up()
        if left:
            problem = f"{problem}; {left}" if problem else left
        features = (
            () if access == "none" else READ_FEATURES if access == "read-only" else READ_FEATURES + WRITE_FEATURES
        )
        late = f"not found out within {self._timeout_s:g} s"
        return Capabilities(
            region=self._store.region,
            bucket=self._scratch.bucket,
            endpoint=self._store.spec.endpoint,
            access=access,
            problem=problem,
            clock_skew_s=self._scratch.clock_skew_s,
            findings=tuple(
                self._findings.get(name) or Finding(feature=name, verdict="unknown", detail=late) for name in features
            ),
        )

    def _found(self, feature: str, yes: bool, detail: str = "") -> None:
        self._findings[feature] = Finding(feature=feature, verdict="yes" if yes else "no", detail=detail)

    async def _put(self, name: str, headers: Sequence[tuple[str, str]] = (), body: bytes = _BODY) -> Answer:
        return await self._scratch.put(name, headers, body)

    async def _find_access(self) -> tuple[Access, str]:
        head = await self._scratch.ask("HEAD")
        if head.status == 404:
            return "none", f"there is no bucket {self._scratch.bucket}"
        if head.status >= 500 or head.status in (301, 307):
            return "none", f"HEAD {self._scratch.bucket} was answered {head}"
        put = await self._put(
            "object", [("Content-Type", "text/x-probe"), ("Cache-Control", "max-age=7"), ("x-amz-meta-probe", "a b")]
        )
        if put.status == 200:
            return "read-write", ""
        if head.status == 200 and put.status in (401, 403, 405):
            return "read-only", ""
        said = await self._scratch.ask("GET", query="list-type=2&max-keys=1")  # HEAD has no words for what is wrong
        if said.status == 200:
            return "read-only", ""
        why = (
            ""
            if self._scratch.clock_skew_s is None or abs(self._scratch.clock_skew_s) < 60
            else f" (clocks differ by {self._scratch.clock_skew_s:+.0f} s)"
        )
        return "none", f"was answered {said if said.code else put}{why}"

    async def _find_features(self, access: Access) -> None:
        steps: dict[str, Callable[[], Awaitable[None]]] = {"listing": self._listing, "versioning": self._versioning}
        if access == "read-write":
            steps |= {
                "conditional create": self._create,
                "conditional replace": self._replace,
                "conditional read": self._conditional_read,
                "ranges": self._ranges,
                "metadata": self._metadata,
                "checksums": self._checksums,
                "checksum verification": self._verification,
                "attributes": self._attributes,
                "copies": self._copies,
                "tagging": self._tagging,
                "multipart": self._multipart,
            }
        skew_s = self._scratch.clock_skew_s
        if skew_s is not None:
            self._found("clock", abs(skew_s) < SKEW_S_MAX, f"{skew_s:+.0f} s" if skew_s else "")
        else:
            self._findings["clock"] = Finding(feature="clock", verdict="unknown", detail="answers carry no Date")
        async with asyncio.TaskGroup() as group:
            for feature, step in steps.items():
                group.create_task(self._guarded(feature, step))

    async def _guarded(self, feature: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except UpstreamError as error:
            self._findings[feature] = Finding(feature=feature, verdict="unknown", detail=str(error))

    async def _listing(self) -> None:
        answer = await self._scratch.ask(
            "GET", query=f"list-type=2&max-keys=2&prefix={self._scratch.prefix.replace('/', '%2F')}"
        )
        counted = b"<KeyCount>" in answer.body
        self._found("listing", answer.status == 200 and counted, "" if counted else f"answers {answer}, no KeyCount")

    async def _versioning(self) -> None:
        answer = await self._scratch.ask("GET", query="versioning")
        if answer.status != 200:
            self._found("versioning", False, f"answers {answer}")
            return
        status = _STATUS.search(answer.body)
        if status is None:
            self._found("versioning", False, "off for this bucket")
        else:
            self._found("versioning", status[1] == b"Enabled", "" if status[1] == b"Enabled" else "suspended")

    async def _create(self) -> None:
        condition = [("If-None-Match", "*")]
        first = await self._put("create", condition)
        second = await self._put("create", condition, _OTHER)
        if first.status != 200:
            self._found("conditional create", False, f"a new key is refused: {first}")
        else:
            self._found("conditional create", second.status == 412, _said(second, 412, "If-None-Match: * is ignored"))

    async def _replace(self) -> None:
        first = await self._put("replace")
        wrong = await self._put("replace", [("If-Match", _NO_TAG)], _OTHER)
        if wrong.status != 412:
            self._found("conditional replace", False, _said(wrong, 412, "If-Match is ignored"))
            return
        right = await self._put("replace", [("If-Match", first.headers.get("etag") or "")], _OTHER)
        self._found("conditional replace", right.status == 200, _said(right, 200, ""))

    async def _conditional_read(self) -> None:
        etag = (await self._scratch.ask("HEAD", "object")).headers.get("etag") or ""
        same = await self._scratch.ask("GET", "object", "", [("If-None-Match", etag)])
        other = await self._scratch.ask("GET", "object", "", [("If-Match", _NO_TAG)])
        wrong = [_said(same, 304, "If-None-Match is ignored"), _said(other, 412, "If-Match is ignored")]
        self._found("conditional read", not any(wrong), "; ".join(filter(None, wrong)))

    async def _ranges(self) -> None:
        await self._put("range", [("x-amz-checksum-crc32", digest("CRC32", _BODY))])
        mode = ("x-amz-checksum-mode", "ENABLED")
        for asked, first, last in (("10-19", 10, 19), ("-4", len(_BODY) - 4, len(_BODY) - 1), ("60-", 60, 63)):
            answer = await self._scratch.ask("GET", "range", "", [("Range", f"bytes={asked}"), mode])
            part = _BODY[first : last + 1]
            described = answer.headers.get("content-range") == f"bytes {first}-{last}/{len(_BODY)}"
            if answer.status != 206 or answer.body != part or not described:
                self._found("ranges", False, f"bytes={asked} is answered {answer} with {len(answer.body)} bytes")
                return
            stated = answer.headers.get("x-amz-checksum-crc32")
            if stated not in (None, digest("CRC32", part)):
                self._found("ranges", False, "a part carries the checksum of the whole, which clients refuse")
                return
        beyond = await self._scratch.ask("GET", "range", "", [("Range", "bytes=1000-")])
        self._found("ranges", beyond.status == 416, _said(beyond, 416, "a range beyond the end is not refused"))

    async def _metadata(self) -> None:
        headers = (await self._scratch.ask("HEAD", "object")).headers
        wanted = {"content-type": "text/x-probe", "x-amz-meta-probe": "a b", "cache-control": "max-age=7"}
        lost = [name for name, value in wanted.items() if headers.get(name) != value]
        # Clients show the names as they arrive; S3 sends them in lower case.
        changed = not lost and not any(name.endswith("-meta-probe") for name, _ in headers)
        detail = f"loses {', '.join(lost)}" if lost else "names come back in other case" if changed else ""
        self._found("metadata", not lost, detail)

    async def _checksums(self) -> None:
        async def keeps(kind: str) -> bool:
            name, value = f"x-amz-checksum-{kind.lower()}", digest(kind, _BODY)
            await self._put(f"checksum-{kind}", [(name, value)])
            head = await self._scratch.ask("HEAD", f"checksum-{kind}", "", [("x-amz-checksum-mode", "ENABLED")])
            return head.headers.get(name) == value

        kept = await asyncio.gather(*(keeps(kind) for kind in KINDS))
        kinds = [kind for kind, is_kept in zip(KINDS, kept, strict=True) if is_kept]
        missing = [kind for kind in KINDS if kind not in kinds]
        self._found("checksums", not missing, f"gives back {', '.join(kinds) or 'none'}" if missing else "")

    async def _verification(self) -> None:
        wrong = await self._put("wrong", [("x-amz-checksum-crc32", digest("CRC32", _OTHER))])
        refused = 400 <= wrong.status < 500
        self._found("checksum verification", refused, "" if refused else "a body that does not fit is kept")

    async def _attributes(self) -> None:
        await self._put("attributes", [("x-amz-checksum-crc32", digest("CRC32", _BODY))])
        asked = [("x-amz-object-attributes", "ETag,ObjectSize,Checksum")]
        answer = await self._scratch.ask("GET", "attributes", "attributes", asked)
        if answer.status != 200 or b"<ObjectSize>64<" not in answer.body:
            self._found("attributes", False, f"answers {answer}")
        else:
            complete = digest("CRC32", _BODY).encode() in answer.body
            self._found("attributes", complete, "" if complete else "without checksums")

    async def _copies(self) -> None:
        source = quote(f"/{self._scratch.bucket}/{self._scratch.prefix}object")
        done = await self._scratch.write("PUT", "copied", "", [("x-amz-copy-source", source)], b"")
        got = await self._scratch.ask("GET", "copied")
        same = done.status == 200 and not done.code and got.body == _BODY
        more = sorted({name.lower() for name, _ in got.headers if "x-amz-meta-" in name.lower()} - {"x-amz-meta-probe"})
        detail = f"adds {', '.join(more)}" if more else ""
        self._found("copies", same, detail if same else f"answers {done}")

    async def _tagging(self) -> None:
        await self._put("tagged")
        put = await self._scratch.ask("PUT", "tagged", "tagging", [("Content-Type", "application/xml")], _TAGGING)
        if put.status not in (200, 204):
            self._found("tagging", False, f"answers {put}")
            return
        got = await self._scratch.ask("GET", "tagged", "tagging")
        content = await self._scratch.ask("GET", "tagged")
        if content.body != _BODY:  # a store that knows no tags may take them for the object's new content
            self._found("tagging", False, "tags overwrite the object")
            return
        kept = b"<Key>probe</Key>" in got.body and b"<Value>a b</Value>" in got.body
        self._found("tagging", kept, "" if kept else "tags are lost")

    async def _multipart(self) -> None:
        made = await self._scratch.ask("POST", "parts", "uploads")
        found = _UPLOAD_ID.search(made.body)
        if made.status != 200 or found is None:
            self._found("multipart", False, f"answers {made}")
            return
        upload_id = found[1].decode("latin-1")
        self._scratch.upload_begins(upload_id, "parts")
        quoted = quote(upload_id, safe="")
        part = await self._scratch.ask("PUT", "parts", f"partNumber=1&uploadId={quoted}", (), _BODY)
        etag = (part.headers.get("etag") or "").replace('"', "&quot;")
        document = (
            f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
            "</CompleteMultipartUpload>"
        )
        done = await self._scratch.write("POST", "parts", f"uploadId={quoted}", (), document.encode("latin-1"))
        whole = done.status == 200 and not done.code and (await self._scratch.ask("GET", "parts")).body == _BODY
        if whole:
            self._scratch.upload_ends(upload_id)
        self._found("multipart", whole, "" if whole else f"completing is answered {done}")


def _said(answer: Answer, wanted: int, ignored: str) -> str:
    """What to say of an answer: nothing when it is the wanted one, `ignored` when it is a success."""
    if answer.status == wanted:
        return ""
    return ignored if answer.status < 300 and ignored else f"answers {answer}"
