"""A region's store as replication sees it from some location: its log, its versions, and whether it can be reached.

Every failure is one of two: `UnavailableError`, which passes (nobody is there, 5xx), and `RefusedError`, which does not
pass by itself (no such bucket, not versioned, malformed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from nearpoint.awsproto import xml
from nearpoint.regions.rules import Rule, compile_rules
from nearpoint.regions.store import Store
from nearpoint.regions.version import Stamp
from nearpoint.replication.window import Row
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.message import Body, BodyTooLargeError, Response, read_all

ANSWER_BYTES_MAX = 16 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
WAIT_S = 20.0
_SERVICE = "-"  # the stores' own calls are under /-/


class UnavailableError(Exception):
    """The store cannot be reached or cannot answer now; the same again may succeed."""


@dataclass
class RefusedError(Exception):
    """The store said no. `code` is S3's."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version as a bucket has it: of which key, its id and stamp, and when and where it was last amended.

    `status` is the bucket's own word on whether it has arrived elsewhere, and no part of what it is.
    """

    key: str
    id: str
    stamp: Stamp
    amended: tuple[int, str]
    size: int
    marker: bool
    tags: tuple[tuple[str, str], ...]
    status: str = field(default="", compare=False)


def _version(row: Sequence[Any]) -> Version:
    key, id, time_us, region, etag, amended_us, amended_in, size, marker, tags, status = row
    return Version(
        key=key,
        id=id,
        stamp=Stamp(time_us, region, etag),
        amended=(amended_us, amended_in),
        size=size,
        marker=bool(marker),
        tags=tuple((name, value) for name, value in orjson.loads(tags)) if tags else (),
        status=status,
    )


class Peer:
    """One region's store, reached from one location."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.region = store.region
        self.newest_only = False

    async def log(self, seen: int, wait_s: float = WAIT_S) -> tuple[int, list[tuple[str, str]]]:
        """How long the log is, once that is more than `seen` (or after `wait_s`), and which bucket owes to which."""
        answer = await self._ask("GET", "outbox", {"seen": seen, "wait": wait_s})
        return int(answer["last"]), [(bucket, destination) for bucket, destination in answer["pairs"]]

    async def due(self, bucket: str, destination: str, after: int, limit: int) -> list[Row]:
        """What a bucket owes to another, in order."""
        query = {"bucket": bucket, "destination": destination, "after": after, "limit": limit}
        rows = [Row(*each) for each in await self._ask("GET", "outbox", query)]
        for row in rows:
            row.content = row.operation == "put"
        return rows

    async def settle(self, done: Sequence[int], parked: Sequence[tuple[int, str]]) -> None:
        """Strike rows off the log, or park them with a reason."""
        await self._ask("POST", "outbox", {}, orjson.dumps({"done": done, "parked": parked}))

    async def arrived(self, bucket: str, destination: str, versions: Sequence[Version]) -> None:
        """Strike off what the destination was found to have, as far as it has not been amended since."""
        found = [(each.key, each.id, *each.amended) for each in versions]
        told = {"arrived": {"bucket": bucket, "destination": destination, "versions": found}}
        await self._ask("POST", "outbox", {}, orjson.dumps(told))

    async def compared(self, bucket: str, destination: str) -> None:
        """Both have been compared and mended: what of the log could not be read says nothing any more."""
        told = {"compared": {"bucket": bucket, "destination": destination}}
        await self._ask("POST", "outbox", {}, orjson.dumps(told))

    async def retry(self) -> int:
        """Take up everything that was parked. How much it was."""
        return int((await self._ask("POST", "outbox", {}, orjson.dumps({"retry": True})))["retried"])

    async def owed(self) -> dict[str, Any]:
        """What every bucket owes to every other (`pairs`), and what was given up (`parked`)."""
        found: dict[str, Any] = await self._ask("GET", "owed", {})
        return found

    async def fetch(self, bucket: str, rows: Sequence[Row]) -> Body:
        """The versions that rows are about, to be handed to `deliver`. The caller closes it."""
        wanted = orjson.dumps([(row.key, row.version, row.content) for row in rows])
        response = await self._send("POST", "versions", {"bucket": bucket}, wanted)
        return response.body

    async def deliver(self, bucket: str, versions: Body, staged: str | None = None) -> list[dict[str, Any]]:
        """Have versions taken in; what became of each. `staged`: the content of the one there is has been staged."""
        query = {"bucket": bucket} if staged is None else {"bucket": bucket, "staged": staged}
        found: list[dict[str, Any]] = await self._ask("PUT", "versions", query, versions)
        return found

    async def knows(self, bucket: str, versions: Sequence[tuple[str, str]]) -> list[bool]:
        """Of versions by key and id, whether each has been removed there for good, or is there; they are not taken in.

        What was removed stays remembered for as long as it is asked for.
        """
        found: list[bool] = await self._ask("POST", "known", {"bucket": bucket}, orjson.dumps(versions))
        if len(found) != len(versions):
            raise UnavailableError(f"{self.region} answers for {len(found)} of {len(versions)} versions")
        return found

    async def parts(self, bucket: str, row: Row) -> list[int]:
        """The sizes of a version's parts, or its size alone; empty when it is gone.

        Raises RefusedError (MethodNotAllowed) where content comes whole only.
        """
        found: list[int] = await self._ask("GET", "parts", {"bucket": bucket, "key": row.key, "version": row.version})
        return found

    async def content(self, bucket: str, row: Row, offset: int, length: int) -> Body:
        """A piece of a version's content, for `stage`. The caller closes it."""
        query = {"bucket": bucket, "key": row.key, "version": row.version, "offset": offset, "length": length}
        return (await self._send("GET", "content", query, b"")).body

    async def stage(self, name: str, part: int, size: int, offset: int, content: Body) -> None:
        """Have a piece kept: what belongs at `offset` of a part of `size` bytes, until `deliver` names the staging.

        Raises RefusedError (MethodNotAllowed) where content is taken whole only.
        """
        await self._ask("PUT", "pieces", {"staged": name, "part": part, "size": size, "offset": offset}, content)

    async def history(self, bucket: str, after: str, limit: int) -> tuple[list[Version], bool]:
        """Every version behind a key, in order of the keys and never part of a key's; whether there is more.

        `newest_only` says afterwards whether the store keeps no more than the newest version of a key.
        """
        answer = await self._ask("GET", "history", {"bucket": bucket, "after": after, "limit": limit})
        self.newest_only = bool(answer.get("newest_only"))
        return [_version(row) for row in answer["rows"]], answer["more"]

    async def history_of(self, bucket: str, key: str) -> list[Version]:
        """What a store with `newest_only` has of one key, should its listing have left it out."""
        answer = await self._ask("GET", "history", {"bucket": bucket, "key": key})
        return [_version(row) for row in answer["rows"]]

    async def rules(self) -> dict[str, tuple[Rule, ...]]:
        """The enabled rules of every bucket that has any."""
        found: dict[str, Any] = await self._ask("GET", "rules", {})
        return {bucket: compile_rules(configuration) for bucket, configuration in found.items()}

    async def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket is in this region."""
        try:
            response = await self._store.send("HEAD", bucket)
            await response.body.close()
        except UpstreamError as error:
            raise UnavailableError(f"{self.region}: {error}") from error
        if response.status >= 500:
            raise UnavailableError(f"{self.region} answers {response.status}")
        return response.status == 200

    async def _ask(self, method: str, call: str, query: dict[str, Any], body: Body | bytes = b"") -> Any:
        response = await self._send(method, call, query, body)
        try:
            return orjson.loads(await read_all(response.body, ANSWER_BYTES_MAX))
        except (UpstreamError, ValueError, BodyTooLargeError) as error:
            raise UnavailableError(f"{self.region}: {error}") from error

    async def _send(self, method: str, call: str, query: dict[str, Any], body: Body | bytes) -> Response:
        """The answer, if it is 200. What `body` raises passes through."""
        try:
            response = await self._store.send(
                method, _SERVICE, call, query=urlencode(query), body=body, timeouts=Timeouts(read_s=60)
            )
            if response.status == 200:
                return response
            data = await read_all(response.body, ERROR_BYTES_MAX)
        except (UpstreamError, BodyTooLargeError) as error:
            raise UnavailableError(f"{self.region}: {error}") from error
        try:
            root = xml.parse(data)
        except xml.XmlError:
            raise UnavailableError(f"{self.region} answers {response.status}") from None
        code, text = root.child("Code"), root.child("Message")
        if response.status >= 500 or response.status in (408, 429) or code is None:
            raise UnavailableError(f"{self.region} answers {response.status}")
        # What arrived broken says that the way is bad, not the version.
        if code.text in ("IncompleteBody", "RequestTimeout", "RequestTimeTooSkewed"):
            raise UnavailableError(f"{self.region}: {code.text}")
        raise RefusedError(code.text, text.text if text is not None else "")
