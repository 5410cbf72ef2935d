"""What the commands ask a running world: status, routes, faults. JSON over loopback HTTP, by bearer token."""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from functools import partial
from typing import Any

import orjson

from nearpoint.edge.metrics import FAMILIES
from nearpoint.telemetry.admin import METRICS_TYPE
from nearpoint.telemetry.metrics import read, render
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all
from nearpoint.world.layout import WorldError
from nearpoint.world.links import FAULTS
from nearpoint.world.memory import resident_bytes
from nearpoint.world.revival import Revival
from nearpoint.world.supervisor import Supervisor

BODY_BYTES_MAX = 64 * 1024


def _json(status: int, value: Any) -> Response:
    return Response(status, Headers([("Content-Type", "application/json")]), orjson.dumps(value))


async def _how(request: Request) -> str | None:
    """What `{"how": …}` says, or None."""
    try:
        how = orjson.loads(await read_all(request.body, BODY_BYTES_MAX))["how"]
    except (BodyTooLargeError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return how if isinstance(how, str) else None


class Admin:
    """The supervisor's own HTTP handler. `ready` is set by who starts the world."""

    def __init__(self, supervisor: Supervisor, token: str) -> None:
        self._supervisor = supervisor
        self._authorization = f"Bearer {token}".encode()
        self._started_at = time.time()
        self._routes: dict[str, Any] = {}
        self._store_limits: list[dict[str, Any]] = []
        self.faults: dict[str, str] = {}
        self.ready = False
        self._turning = asyncio.Lock()  # one fault after the other: starting a store takes a while
        self._revival = Revival(supervisor.layout.state, partial(supervisor.restart, "nats"))
        supervisor.on_message(self._heard)

    def _heard(self, name: str, message: dict[str, Any]) -> None:
        # Nodes report what they measure for each of their locations, the control plane which names lead to the edge.
        self._routes |= message.get("routes", {})
        self._store_limits = message.get("store_limits", self._store_limits)
        if "edge_names" in message:
            self._supervisor.broadcast({"edge_names": message["edge_names"]})
        if "state_store_silent" in message:
            self._revival.needed()

    def close(self) -> None:
        """Start nothing any more."""
        self._revival.close()

    async def handle(self, request: Request) -> Response:
        given = (request.headers.get("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            return _json(401, {"error": "The token of this world's data folder is needed."})
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["status"]:
                return _json(200, self.status())
            case "GET", ["metrics"]:
                return Response(200, Headers([("Content-Type", METRICS_TYPE)]), await asyncio.to_thread(self._metrics))
            case "GET", ["routes"]:
                return _json(200, self._routes)
            case "PUT", ["faults", region]:
                how = await _how(request)
                async with self._turning:
                    return await self._fail(region, how)
            case "DELETE", ["faults", region]:
                async with self._turning:
                    return await self._heal(region)
        return _json(404, {"error": f"{request.method} {request.path} is not known here."})

    def _metrics(self) -> bytes:
        """What the edges of all nodes have counted, added up."""
        return render(read(self._supervisor.layout.metrics), FAMILIES)

    def _no_region(self, region: str) -> str:
        return f"No region {region} here: {', '.join(self._supervisor.world.regions)}."

    def status(self) -> dict[str, Any]:
        """The world as one value: what `nearpoint status --json` prints."""
        world = self._supervisor.world
        processes = self._supervisor.describe()
        own = {
            "name": "supervisor",
            "state": "running",
            "pid": os.getpid(),
            "restarts": 0,
            "uptime_s": round(time.time() - self._started_at, 1),
            "rss_mb": round(resident_bytes(os.getpid(), descendants=False) / 1e6, 1),
        }
        return {
            "ready": self.ready and all(row["state"] in ("running", "stopped") for row in processes),
            "data": str(self._supervisor.layout.data),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "account_id": world.account_id,
            "regions": list(world.regions),
            "edges": list(world.edges),
            "ports": {
                name: self._supervisor.ports[name] for name in ("proxy", "admin", "control.https", "control.http")
            },
            "stores": {region: f"http://127.0.0.1:{port}" for region, port in self._store_ports().items()},
            "store_limits": self._store_limits,
            "faults": self.faults,
            "processes": [own, *processes],
        }

    def _store_ports(self) -> dict[str, int]:
        ports = self._supervisor.ports
        return {name.removeprefix("store."): port for name, port in ports.items() if name.startswith("store.")}

    async def _fail(self, region: str, how: str | None) -> Response:
        if how is None:
            return _json(400, {"error": 'The body is {"how": …}.'})
        if region not in self._supervisor.world.regions:
            return _json(404, {"error": self._no_region(region)})
        if how not in FAULTS:
            return _json(400, {"error": f"A region can fail by one of: {', '.join(FAULTS)}."})
        if how == "stop" and not self._supervisor.has_store(region):
            return _json(400, {"error": f"The store of {region} is not a process of this world: use refuse."})
        before = self.faults.get(region)
        if before == how:
            return _json(200, {"region": region, "how": how})
        if before == "stop":
            await self._supervisor.start_store(region)
        self.faults[region] = how
        self._supervisor.broadcast({"faults": self.faults})
        if how == "stop":
            await self._supervisor.stop_store(region)
        return _json(200, {"region": region, "how": how})

    async def _heal(self, region: str) -> Response:
        if region not in self._supervisor.world.regions:
            return _json(404, {"error": self._no_region(region)})
        how = self.faults.pop(region, None)
        if how is None:
            return _json(404, {"error": f"{region} is not failing."})
        if how == "stop":
            try:
                await self._supervisor.start_store(region)
            except (WorldError, TimeoutError) as error:
                self.faults[region] = how
                return _json(500, {"error": str(error) or "The store does not become ready."})
        self._supervisor.broadcast({"faults": self.faults})
        return _json(200, {"region": region})
