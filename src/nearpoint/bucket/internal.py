"""What a store answers to who replicates: its log and its versions. Only the store's own access key gets here.

GET  /-/outbox?seen=N&wait=S           until the log is longer than N: which bucket owes to which, and how long it is
GET  /-/outbox?bucket=B&destination=D&after=N&limit=M     what B owes to D, in order
GET  /-/pending                        what is pending, and from then on what is added and what has arrived (`feed`)
GET  /-/newest?bucket=B&key=K          the stamp of the key's newest version, null where there is none
POST /-/outbox                         {"done": [N …], "parked": [[N, reason] …]} or {"retry": true}; or what a
                                       comparison found: {"arrived": …} or {"compared": …} (`mending`)
GET  /-/owed                           how much every bucket owes to every other, and what was given up
POST /-/versions?bucket=B              [[key, version, with content] …]: those versions (`document`)
PUT  /-/versions?bucket=B[&staged=S]   versions of another region (`document`): what became of each
GET  /-/parts?bucket=B&key=K&version=V                            the sizes of its parts
GET  /-/content?bucket=B&key=K&version=V&offset=O&length=L        a piece of its content
PUT  /-/pieces?staged=S&part=P&size=N&offset=O                    the same, for a version to come (`staging`)
GET  /-/history?bucket=B&after=KEY     every version there is, by key
GET  /-/rules                          the replication configurations, by bucket
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import orjson
import structlog

from nearpoint.awsproto import AwsError
from nearpoint.bucket import mending, outbox, rows, schema
from nearpoint.bucket.calls import legal_key
from nearpoint.bucket.document import Inlet
from nearpoint.bucket.replicas import Replicas, Wanted, history
from nearpoint.bucket.settings import replication_rules
from nearpoint.bucket.store import Store
from nearpoint.signing import Verified
from nearpoint.wire.message import Headers, Request, Response, StreamBody

log = structlog.get_logger("nearpoint.bucket")

PATH = "/-/"  # no bucket can be named `-`
WAIT_MAX_S = 25.0  # below the 30 s that clients wait for a first byte
ROWS_MAX = 1000
BATCH_MAX = 1000
PARKED_SHOWN_MAX = 100
HISTORY_MAX = 5000


class Internal:
    """The operations under `/-/`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._replicas = Replicas(store)

    async def answer(self, request: Request, verified: Verified) -> Response:
        """The answer to an authenticated request. Raises AwsError."""
        fields = parse_qs(request.query, keep_blank_values=True, errors="strict")
        query = {name: values[0] for name, values in fields.items()}
        try:
            match request.method, request.path.removeprefix(PATH):
                case "GET", "outbox":
                    return _json(await self._outbox(query))
                case "GET", "pending":
                    body = StreamBody(self._store.feed.follow())
                    return Response(200, Headers([("Content-Type", "application/x-ndjson")]), body)
                case "GET", "newest":
                    return _json(self._newest(query["bucket"], legal_key(query["key"])))
                case "POST", "outbox":
                    return _json(await self._settle(await self._document(request, verified)))
                case "GET", "owed":
                    return _json(await asyncio.get_running_loop().run_in_executor(self._store.pool, self._owed))
                case "POST", "versions":
                    wanted = [
                        Wanted(key=legal_key(key), version=version, content=bool(content))
                        for key, version, content in (await self._document(request, verified))[:BATCH_MAX]
                    ]
                    body = self._replicas.give(query["bucket"], wanted)
                    return Response(200, Headers([("Content-Type", "application/octet-stream")]), body)
                case "PUT", "versions":
                    return _json(await self._replicas.take(query["bucket"], Inlet(request.body), query.get("staged")))
                case "POST", "known":
                    asked = [(legal_key(key), str(id)) for key, id in await self._document(request, verified)]
                    return _json(await self._replicas.knows(query["bucket"], asked[:BATCH_MAX]))
                case "GET", "parts":
                    return _json(self._replicas.parts(query["bucket"], legal_key(query["key"]), query["version"]))
                case "GET", "content":
                    span = int(query["offset"]), int(query["length"])
                    body = self._replicas.content(query["bucket"], legal_key(query["key"]), query["version"], *span)
                    return Response(200, Headers([("Content-Type", "application/octet-stream")]), body)
                case "PUT", "pieces":
                    where = int(query["part"]), int(query["size"]), int(query["offset"])
                    await self._replicas.stagings.take(query["staged"], *where, request.body)
                    return _json({})
                case "GET", "history":
                    after = legal_key(query.get("after", ""))
                    limit = min(int(query.get("limit", HISTORY_MAX)), HISTORY_MAX)
                    return _json(None, history(self._store, query["bucket"], after, limit))
                case "GET", "rules":
                    return _json(replication_rules(self._store.db))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise AwsError("InvalidArgument", f"This request cannot be understood: {error!r}") from None
        raise AwsError("MethodNotAllowed")

    async def _document(self, request: Request, verified: Verified) -> Any:
        return orjson.loads(await self._store.intake.read_document(request.body, request.headers, verified))

    async def _outbox(self, query: dict[str, str]) -> Any:
        store = self._store
        if "bucket" in query:
            limit = min(int(query.get("limit", ROWS_MAX)), ROWS_MAX)
            due = outbox.due(store.db, query["bucket"], query["destination"], int(query.get("after", 0)), limit)
            damaged = [row.sequence for row in due if not mending.is_readable(row)]
            if damaged:
                log.error("entries of the log are damaged", bucket=query["bucket"], sequences=damaged[:10])
                await store.writer.submit(lambda tx: mending.set_aside(tx, damaged))
            return [(row.sequence, row.key.decode(), *row[2:]) for row in due if mending.is_readable(row)]
        seen, wait_s = int(query.get("seen", -1)), min(float(query.get("wait", 0)), WAIT_MAX_S)
        if wait_s > 0 and outbox.last(store.db) <= seen:
            await store.log_grows(wait_s)
        last = outbox.last(store.db)
        return {"last": last, "pairs": outbox.pairs(store.db)}

    async def _settle(self, told: dict[str, Any]) -> Any:
        if told.get("retry"):
            return {"retried": await self._store.writer.submit(outbox.retry)}
        if "arrived" in told:
            of, to = told["arrived"]["bucket"], told["arrived"]["destination"]
            seen = [(legal_key(key), version, at, where) for key, version, at, where in told["arrived"]["versions"]]
            await self._store.writer.submit(lambda tx: mending.arrived(tx, of, to, seen))
            return {}
        if "compared" in told:
            of, to = told["compared"]["bucket"], told["compared"]["destination"]
            return {"struck": await self._store.writer.submit(lambda tx: mending.compared(tx, of, to))}
        done = [int(each) for each in told.get("done", [])]
        given_up = [(int(sequence), str(reason)) for sequence, reason in told.get("parked", [])]
        await self._store.writer.submit(lambda tx: outbox.settle(tx, done, given_up))
        return {}

    def _newest(self, bucket_name: str, key: bytes) -> Any:
        bucket = rows.find_bucket(self._store.db, bucket_name)
        stored = rows.find_current(self._store.db, bucket.id, key)
        return None if stored is None else [*stored.rank, stored.amended, stored.amended_in]

    def _owed(self) -> Any:
        db = schema.open_reader(self._store.metadata_path)
        try:
            pairs = [pair._asdict() for pair in outbox.count(db)]
            return {"pairs": pairs, "parked": outbox.parked(db, PARKED_SHOWN_MAX)}
        finally:
            db.close()


def _json(value: Any, text: bytes | None = None) -> Response:
    data = orjson.dumps(value) if text is None else text
    return Response(200, Headers([("Content-Type", "application/json")]), data)
