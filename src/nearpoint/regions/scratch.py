"""Scratch objects in a bucket of a store: made, asked about, and removed again, whatever happened in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.dates import parse_http_date
from nearpoint.wire.message import Body, BodyTooLargeError, Headers, read_all

CLEAN_UP_S = 10.0
ANSWER_BYTES_MAX = 1_048_576

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its body, as far as ANSWER_BYTES_MAX goes; text shows status and error code."""

    status: int
    headers: Headers
    body: bytes

    @property
    def code(self) -> str:
        found = _CODE.search(self.body)
        return found[1].decode() if found else ""

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()


class Scratch:
    """The keys below `prefix` of a bucket. `clock` gives the time in UTC.

    Every request may raise wire's UpstreamError. `clock_skew_s` is the store's clock less ours, by its last Date; None
    without one.
    """

    def __init__(
        self, store: Store, bucket: str, prefix: str, *, clock: Callable[[], datetime], timeout_s: float
    ) -> None:
        self.prefix = prefix
        self.bucket = bucket
        self.clock_skew_s: float | None = None
        self._store = store
        self._clock = clock
        self._timeouts = Timeouts(connect_s=min(3.0, timeout_s), read_s=timeout_s)
        self._written: set[tuple[str, str]] = set()  # names and version ids of what was or may have been written
        self._uploads: dict[str, str] = {}  # keys of uploads under way, by id

    async def ask(
        self,
        method: str,
        name: str | None = None,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: Body | bytes = b"",
        payload_hash: str | None = None,
    ) -> Answer:
        """One request about the bucket, or about the scratch object `name`. `payload_hash` is `Store.send`'s."""
        key = None if name is None else self.prefix + name
        fields = Headers(headers)
        sent_at = self._clock()
        response = await self._store.send(
            method,
            self.bucket,
            key,
            query=query,
            headers=fields,
            body=body,
            payload_hash=payload_hash,
            timeouts=self._timeouts,
        )
        try:
            data = await read_all(response.body, ANSWER_BYTES_MAX)
        except BodyTooLargeError:
            data = b""
        finally:
            await response.body.close()
        self._take_time(response.headers, sent_at)
        return Answer(response.status, response.headers, data)

    async def put(self, name: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """An ordinary PUT of a scratch object."""
        return await self.write("PUT", name, "", headers, body)

    async def write(
        self,
        method: str,
        name: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        body: Body | bytes,
        payload_hash: str | None = None,
    ) -> Answer:
        """A request that makes an object, or may have made it."""
        try:
            answer = await self.ask(method, name, query, headers, body, payload_hash)
        except BaseException:
            self._written.add((name, ""))
            raise
        if answer.status < 300 or (answer.status >= 500 and answer.status != 501):
            version = answer.headers.get("x-amz-version-id") or ""
            self._written.add((name, "" if version == "null" else version))
        return answer

    def upload_begins(self, upload_id: str, name: str) -> None:
        """Remember an upload, which has to be ended."""
        self._uploads[upload_id] = name

    def upload_ends(self, upload_id: str) -> None:
        """It was completed."""
        self._uploads.pop(upload_id, None)

    def _take_time(self, headers: Headers, sent_at: datetime) -> None:
        date = parse_http_date(headers.get("date") or "")
        if date is None:
            return
        # A Date has whole seconds, cut off, and may be made once a second.
        earliest, latest = sent_at - timedelta(seconds=2), self._clock() + timedelta(seconds=1)
        if earliest <= date <= latest:
            self.clock_skew_s = 0.0
        else:
            self.clock_skew_s = float(round((date - sent_at).total_seconds()))

    async def clean_up(self) -> str:
        """Remove what was written; a sentence when something stays."""

        async def remove(method: str, name: str, query: str) -> bool:
            try:
                answer = await self.ask(method, name, query)
                marker = answer.headers.get("x-amz-version-id")
                if not query and marker and answer.headers.get("x-amz-delete-marker") == "true":
                    answer = await self.ask(method, name, f"versionId={quote(marker, safe='')}")
            except UpstreamError:
                return False
            return answer.status in (200, 204, 404)

        written = [(name, f"versionId={quote(id, safe='')}" if id else "") for name, id in self._written]
        written += [(name, f"uploadId={quote(id, safe='')}") for id, name in self._uploads.items()]
        if not written:
            return ""
        gone = True
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                for name, query in written:  # one by one: `rclone serve s3` loses count of what goes at the same time
                    gone = await remove("DELETE", name, query) and gone
        except TimeoutError:
            gone = False
        return "" if gone else f"scratch objects may have stayed below {self.prefix}"
