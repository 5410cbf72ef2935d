"""What the copiers of all regions answer: how replication stands, as JSON and for Prometheus, and to retry.

GET /status   every pair of buckets: pending, lag, failures (`pairs`), what was given up (`parked`), who cannot be
              asked, what stores lack (`lacks`), and the comparison by itself (`reconcile`)
POST /retry   take up what was given up
POST /schedule  {"every_s": S or null}: compare the buckets so often by itself, or never
GET /metrics  Prometheus text

By bearer token, as the world's other private endpoints.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from typing import Any

import orjson

from nearpoint.regions.version import AHEAD_ALARM_US
from nearpoint.replication.copier import Copier, Lane
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.repair import Repairer
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

BODY_BYTES_MAX = 4096
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
        answers = await asyncio.gather(*(self._owed(region) for region in regions))
        now_us = time.time_ns() // 1000
        pairs: list[dict[str, Any]] = []
        parked: list[dict[str, Any]] = []
        unreachable: dict[str, str] = {}
        lacks: list[dict[str, str]] = []
        for region, answer in zip(regions, answers, strict=True):
            lanes = dict(self._copiers[region].lanes)
            known: dict[str, Any] = {"pairs": [], "parked": []}
            if isinstance(answer, str):
                unreachable[region] = answer
            else:
                known = answer
            for owed in known["pairs"]:
                lane = lanes.pop((owed["bucket"], owed["destination"]), None)
                pairs.append(_pair(region, owed["bucket"], owed["destination"], lane, owed, now_us))
            for (bucket, destination), lane in lanes.items():
                owed = None if region in unreachable else {"pending": 0, "pending_bytes": 0, "failed": 0}
                pairs.append(_pair(region, bucket, destination, lane, owed, now_us))
            parked += [{"region": region} | each for each in known["parked"]]
            for bucket, missing in known.get("lacks", {}).items():
                lacks += [{"region": region, "bucket": bucket, "lacks": what, "so": so} for what, so in missing.items()]
        pairs.sort(key=lambda pair: (pair["bucket"], pair["destination"]))
        found = {"pairs": pairs, "parked": parked, "unreachable": unreachable, "lacks": lacks}
        return found | {"reconcile": self._repairer.status()}

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

    async def _owed(self, region: str) -> dict[str, Any] | str:
        try:
            async with asyncio.timeout(5):
                return await self._peers[region].owed()
        except (UnavailableError, RefusedError) as error:
            return str(error)
        except TimeoutError:
            return f"{region} does not answer"


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
