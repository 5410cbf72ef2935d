"""What a gateway answers to who replicates: the same calls as the embedded store (`bucket.internal`), over its log."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import orjson

from nearpoint.awsproto import AwsError
from nearpoint.bucket.document import Inlet
from nearpoint.bucket.internal import BATCH_MAX, PARKED_SHOWN_MAX, PATH, ROWS_MAX, WAIT_MAX_S
from nearpoint.gateway.abilities import Abilities
from nearpoint.gateway.calls import document
from nearpoint.gateway.entries import DAMAGED, Intent, Pair, Tally
from nearpoint.gateway.feed import Feed
from nearpoint.gateway.giving import Giving
from nearpoint.gateway.kept import Kept
from nearpoint.gateway.log import JetStreamLog
from nearpoint.gateway.origin import Origin
from nearpoint.gateway.taking import Taking
from nearpoint.regions.payload import Payload
from nearpoint.wire.message import Headers, Request, Response, StreamBody

COUNTING_S = 3.0


class Internal:
    """The operations under `/-/`."""

    def __init__(
        self,
        log: JetStreamLog,
        kept: Kept,
        origin: Origin,
        giving: Giving,
        taking: Taking,
        abilities: Abilities,
    ) -> None:
        self._log = log
        self._feed = Feed(log)
        self._kept = kept
        self._origin = origin
        self._giving = giving
        self._taking = taking
        self._abilities = abilities

    async def answer(self, request: Request, payload: Payload) -> Response:
        """The answer to an authenticated request. Raises AwsError, UnloggedError, UpstreamError."""
        fields = parse_qs(request.query, keep_blank_values=True, errors="strict")
        query = {name: values[0] for name, values in fields.items()}
        try:
            match request.method, request.path.removeprefix(PATH):
                case "GET", "outbox":
                    return _json(await self._outbox(query))
                case "POST", "outbox":
                    return _json(await self._settle(orjson.loads(await document(payload))))
                case "GET", "owed":
                    return _json(await self._owed())
                case "GET", "pending":
                    body = StreamBody(self._feed.follow())
                    return Response(200, Headers([("Content-Type", "application/x-ndjson")]), body)
                case "GET", "newest":
                    return _json(await self._newest(query["bucket"], query["key"]))
                case "POST", "versions":
                    asked = orjson.loads(await document(payload))[:BATCH_MAX]
                    wanted = [(str(key), bool(content)) for key, _, content in asked]
                    body = self._giving.give(query["bucket"], wanted)
                    return Response(200, Headers([("Content-Type", "application/octet-stream")]), body)
                case "PUT", "versions":
                    bucket = query["bucket"]
                    if not self._kept.takes_part(bucket):
                        await self._kept.configure(bucket, None)
                    return _json(await self._taking.take(bucket, Inlet(payload.open())))
                case "POST", "known":
                    named = [(str(key), str(id)) for key, id in orjson.loads(await document(payload))[:BATCH_MAX]]
                    return _json(await self._giving.knows(query["bucket"], named))
                case "GET", "history" if "key" in query:
                    return _json(await self._giving.history_of(query["bucket"], query["key"]))
                case "GET", "history":
                    limit = int(query.get("limit", ROWS_MAX))
                    return _json(await self._giving.history(query["bucket"], query.get("after", ""), limit))
                case "GET", "rules":
                    return _json(self._kept.configurations())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise AwsError("InvalidArgument", f"This request cannot be understood: {error!r}") from None
        raise AwsError("MethodNotAllowed")

    def _pairs(self) -> list[Pair]:
        """Which bucket owes to which; until everything has been counted, which may."""
        found = {pair for pair, tally in self._log.tallies.items() if tally.pending > 0}
        if not self._log.counted.is_set():
            found |= self.leads()
        return sorted(found)

    def leads(self) -> set[Pair]:
        """Where rules lead."""
        return {
            (bucket, rule.destination) for bucket in self._kept.configurations() for rule in self._kept.rules(bucket)
        }

    async def _outbox(self, query: dict[str, str]) -> Any:
        if "bucket" in query:
            limit = min(int(query.get("limit", ROWS_MAX)), ROWS_MAX)
            pair = (query["bucket"], query["destination"])
            rows = await self._log.due(pair, int(query.get("after", 0)), limit)
            return [
                (row.sequence, row.entry.key, "", row.entry.operation, row.entry.size, row.entry.written_us)
                for row in rows
            ]
        seen, wait_s = int(query.get("seen", -1)), min(float(query.get("wait", 0)), WAIT_MAX_S)
        if wait_s > 0 and self._log.last <= seen:
            await self._log.grows(seen, wait_s)
        return {"last": self._log.last, "pairs": self._pairs()}

    async def _settle(self, told: dict[str, Any]) -> Any:
        if told.get("retry"):
            return {"retried": await self._log.retry(self.leads())}
        if "arrived" in told:  # what is owed is copied once more, and changes nothing
            return {}
        if "compared" in told:
            pair = str(told["compared"]["bucket"]), str(told["compared"]["destination"])
            return {"struck": await self._log.compared(pair, self.leads())}
        done = [int(each) for each in told.get("done", [])]
        given_up = [(int(sequence), str(reason)[:500]) for sequence, reason in told.get("parked", [])]
        await self._log.settle(done, given_up)
        return {}

    async def _owed(self) -> Any:
        try:
            async with asyncio.timeout(COUNTING_S):
                await self._log.counted.wait()
        except TimeoutError:  # rather no figure than a wrong one
            raise AwsError("ServiceUnavailable", "What is pending is still being counted.") from None
        begun: dict[Pair, list[Intent]] = {}
        for intent in self._log.intents.values():
            for destination in intent.destinations:
                begun.setdefault((intent.bucket, destination), []).append(intent)
        unread = await self._log.damaged(self.leads())
        pairs = []
        for pair in sorted({*self._log.tallies, *begun, *(each for each in unread if each is not None)}):
            tally, intents = self._log.tallies.get(pair, Tally()), begun.get(pair, ())
            times = [intent.written_us for intent in intents]
            first = await self._log.oldest_us(pair) if tally.pending else None
            oldest = min([*times, *([] if first is None else [first])], default=None)
            pairs.append(
                {
                    "bucket": pair[0],
                    "destination": pair[1],
                    "pending": tally.pending + len(intents),
                    "pending_bytes": tally.size + sum(intent.size for intent in intents),
                    "oldest": oldest,
                    "failed": tally.failed + unread.count(pair),
                }
            )
        given_up = await self._log.parked(PARKED_SHOWN_MAX) if any(pair["failed"] for pair in pairs) else []
        damaged = [
            dict(zip(("bucket", "destination"), each or ("?", "?"), strict=True))
            | {"key": "?", "version": "", "operation": "", "reason": DAMAGED}
            for each in unread[:PARKED_SHOWN_MAX]
        ]
        parked = [
            {
                "bucket": each.bucket, "destination": each.destination, "key": each.key, "version": "",
                "operation": each.operation, "reason": each.reason,
            }
            for each in given_up
        ]  # fmt: skip
        return {"pairs": pairs, "parked": damaged + parked, "lacks": self._abilities.report()}

    async def _newest(self, bucket: str, key: str) -> Any:
        known = (await self._origin.look(bucket, key)).known
        if known.stamp is None:
            return None
        return [*known.stamp, known.version, *known.amended]


def _json(value: Any) -> Response:
    return Response(200, Headers([("Content-Type", "application/json")]), orjson.dumps(value))
