"""What the copiers of all regions answer: how replication stands, as JSON and for Prometheus, and to retry.

GET /status   every pair of buckets that a rule connects or that owes something: pending, lag, failures (`pairs`), what
              was given up (`parked`), who cannot be asked, what stores lack (`lacks`), and the comparison by itself
              (`reconcile`)
POST /retry   take up what was given up
POST /schedule  {"every_s": S or null}: compare the buckets so often by itself, or never
GET /metrics  Prometheus text

By bearer token, as the world's other private endpoints.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from nearpoint.regions.version import AHEAD_ALARM_US
from nearpoint.replication.copier import Copier, Lane
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.repair import Repairer
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

BODY_BYTES_MAX = 4096
ANSWER_S = 5.0
ALARM_S = AHEAD_ALARM_US / 1e6

_METRICS = (
    ("pending", "nearpoint_replication_operations_pending", "gauge", "Writes that a destination does not have yet."),
    ("pending_bytes", "nearpoint_replication_bytes_pending", "gauge", "Their size."),
    (
        "failed",
        "nearpoint_replication_operations_failed",
        "gauge",
        "Writes that were given up, until they are retried.",
    ),
    ("copied", "nearpoint_replication_operations_total", "counter", "Writes that arrived since the copier started."),
    (
        "clock_ahead_s",
        "nearpoint_replication_clock_ahead_seconds",
        "gauge",
        "How far the source's clock is ahead, where that is more than it may be.",
    ),
    ("oldest_s", "nearpoint_replication_oldest_pending_seconds", "gauge", "Age of the oldest pending write."),
)
_NOTHING = {"pending": 0, "pending_bytes": 0, "failed": 0}
# Of the last comparison that repairs.
_SWEEP_METRICS = (
    ("ended_at", "When the last comparison of all buckets ended, in Unix seconds."),
    ("keys", "Keys that it compared."),
    ("missing", "Versions that it found missing somewhere."),
    ("amended", "Versions that it found changed in one place and not in the other."),
    ("repaired", "Of these, those that it brought over."),
    ("refused", "Of these, those that were refused."),
)


class Service:
    """The Exchange. `peers` are the regions' stores, each as reached from its own region."""

    def __init__(
        self, copiers: Mapping[str, Copier], peers: Mapping[str, Peer], token: str, repairer: Repairer
    ) -> None:
        self._copiers = copiers
        self._peers = peers
        self._repairer = repairer
        self._places: dict[str, str] = {}
        self._last: dict[str, Iterable[tuple[str, str]]] = {}  # each region's pairs, as it last said
        self._authorization = f"Bearer {token}".encode()

    async def handle(self, request: Request) -> Response:
        """The Exchange."""
        given = (request.headers.get("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            return _json(401, {"error": "The token of this world's data folder is needed."})
        match request.method, request.path:
            case "GET", "/status":
                return _json(200, await self.status())
            case "POST", "/retry":
                return _json(200, await self.retry())
            case "POST", "/schedule":
                return await self._set_schedule(request)
            case "GET", "/metrics":
                text = metrics(await self.status())
                return Response(200, Headers([("Content-Type", "text/plain; version=0.0.4")]), text.encode())
        return _json(404, {"error": f"{request.method} {request.path} is not known here."})

    async def status(self) -> dict[str, Any]:
        """How replication stands, as one value: what `nearpoint replication status --json` prints."""
        regions = list(self._copiers)
        answers = dict(zip(regions, await asyncio.gather(*(self._known(region) for region in regions)), strict=True))
        unreachable = {region: answer for region, answer in answers.items() if isinstance(answer, str)}
        known = {region: answer for region, answer in answers.items() if not isinstance(answer, str)}
        rows: dict[tuple[str, str, str], dict[str, Any] | None] = {
            (region, *pair): None
            for region in unreachable
            for pair in self._last.get(region, self._copiers[region].lanes)
        }
        for region, each in known.items():
            self._last[region] = list(each.pairs)
            rows |= {(region, *pair): owed for pair, owed in each.pairs.items()}
        where = await self._where({destination for _, _, destination in rows})
        now_us = time.time_ns() // 1000
        pairs: list[dict[str, Any]] = []
        for (region, bucket, destination), owed in rows.items():
            lane = self._copiers[region].lanes.get((bucket, destination))
            row = _pair(region, bucket, destination, lane, owed, now_us)
            if destination in where:
                row["to"] = where[destination]
                if row["to"] is None:
                    row["obstacle"] = f"The destination bucket {destination} does not exist."
            pairs.append(row)
        pairs.sort(key=lambda pair: (pair["bucket"], pair["destination"]))
        return {
            "pairs": pairs,
            "parked": [{"region": region} | row for region, each in known.items() for row in each.parked],
            "unreachable": unreachable,
            "lacks": [{"region": region} | row for region, each in known.items() for row in each.lacks],
            "reconcile": self._repairer.status(),
        }

    async def _set_schedule(self, request: Request) -> Response:
        try:
            every_s = orjson.loads(await read_all(request.body, BODY_BYTES_MAX))["every_s"]
            self._repairer.set_every(None if every_s is None else float(every_s))
        except (BodyTooLargeError, ValueError, KeyError, TypeError) as error:
            return _json(400, {"error": f'The body is {{"every_s": seconds or null}}: {error}.'})
        return _json(200, self._repairer.status())

    async def retry(self) -> dict[str, Any]:
        """Take up in every region what was given up."""
        found: dict[str, Any] = {"retried": 0, "unreachable": {}}
        for region, peer in self._peers.items():
            try:
                found["retried"] += await peer.retry()
            except (UnavailableError, RefusedError) as error:
                found["unreachable"][region] = str(error)
        return found

    async def _known(self, region: str) -> _Known | str:
        """What a region's store says, or why it does not."""
        peer = self._peers[region]
        try:
            async with asyncio.timeout(ANSWER_S):
                owed, rules = await asyncio.gather(peer.owed(), peer.rules())
        except (UnavailableError, RefusedError) as error:
            return str(error)
        except TimeoutError:
            return f"{region} does not answer"
        led = {(bucket, rule.destination) for bucket, each in rules.items() for rule in each}
        pairs = dict.fromkeys(led, _NOTHING)
        for each in owed["pairs"]:
            pair = each["bucket"], each["destination"]
            if pair in led or each["pending"] or each["failed"]:
                pairs[pair] = each
        lacks = [
            {"bucket": bucket, "lacks": what, "so": so}
            for bucket, missing in owed.get("lacks", {}).items()
            for what, so in missing.items()
        ]
        return _Known(pairs=pairs, parked=owed["parked"], lacks=lacks)

    async def _where(self, buckets: Iterable[str]) -> dict[str, str | None]:
        """The region that each bucket is in, None where all say that they have it not; those left out are not known."""

        async def find(bucket: str) -> tuple[str, str | None] | None:
            first = self._places.get(bucket)
            sure = True
            for region in sorted(self._peers, key=lambda region: region != first):
                try:
                    if await self._peers[region].has_bucket(bucket):
                        self._places[bucket] = region
                        return bucket, region
                except UnavailableError:
                    sure = False
            self._places.pop(bucket, None)
            return (bucket, None) if sure else None

        async def in_time(bucket: str) -> tuple[str, str | None] | None:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await find(bucket)
            except TimeoutError:
                return None

        found = await asyncio.gather(*(in_time(bucket) for bucket in buckets))
        return dict(each for each in found if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a store knows of its replication: what is owed by pair of buckets, what was given up, what it cannot do."""

    pairs: dict[tuple[str, str], dict[str, Any]]
    parked: list[dict[str, Any]]
    lacks: list[dict[str, str]]


def _pair(
    region: str, bucket: str, destination: str, lane: Lane | None, owed: dict[str, Any] | None, now_us: int
) -> dict[str, Any]:
    """A row of the status. What only the store knows is None while it cannot be asked."""
    oldest = owed.get("oldest") if owed else None
    return {
        "from": region,
        "to": lane.to_region if lane else None,
        "bucket": bucket,
        "destination": destination,
        "pending": owed["pending"] if owed else None,
        "pending_bytes": owed["pending_bytes"] if owed else None,
        "oldest_s": round(max(0, now_us - oldest) / 1e6, 3) if oldest else None,
        "failed": owed["failed"] if owed else None,
        "copied": lane.copied if lane else 0,
        "lag_ms_p50": _rounded(lane, 50),
        "lag_ms_p99": _rounded(lane, 99),
        "obstacle": lane.obstacle if lane else None,
        "clock_ahead_s": round(lane.ahead_s, 1) if lane and lane.ahead_s > ALARM_S else None,
    }


def _rounded(lane: Lane | None, percent: float) -> float | None:
    found = lane.lags.percentile_ms(percent) if lane else None
    return None if found is None else round(found, 1)


def metrics(status: dict[str, Any]) -> str:
    """The status as Prometheus reads it. Labels are regions and buckets, of which there are few; never keys."""
    lines: list[str] = []
    for member, name, kind, help in _METRICS:
        lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{{{_labels(pair)}}} {pair[member]}" for pair in status["pairs"] if pair[member] is not None]
    name = "nearpoint_replication_lag_seconds"
    lines += [f"# HELP {name} From the acknowledged write to its arrival.", f"# TYPE {name} summary"]
    for pair in status["pairs"]:
        for member, quantile in (("lag_ms_p50", "0.5"), ("lag_ms_p99", "0.99")):
            if pair[member] is not None:
                lines.append(f'{name}{{{_labels(pair)},quantile="{quantile}"}} {pair[member] / 1000}')
    last = status["reconcile"]["last"] or {}
    for member, help in _SWEEP_METRICS:
        if last.get(member) is not None:
            name = f"nearpoint_replication_reconcile_{member}"
            lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge", f"{name} {last[member]}"]
    return "\n".join(lines) + "\n"


def _labels(pair: dict[str, Any]) -> str:
    return (
        f'from="{pair["from"]}",to="{pair["to"] or ""}",bucket="{pair["bucket"]}",destination="{pair["destination"]}"'
    )


def _json(status: int, value: Any) -> Response:
    return Response(status, Headers([("Content-Type", "application/json")]), orjson.dumps(value))
