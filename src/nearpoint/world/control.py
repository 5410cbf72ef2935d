"""The control plane's process: the AWS front, the stack engine, and the planner that tells the nodes."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from nearpoint.awsapi.call import Context
from nearpoint.awsapi.front import Front
from nearpoint.awsapi.members import Members
from nearpoint.awsapi.point_settings import PointSettings
from nearpoint.awsapi.private import PREFIX, PrivateApi
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.stack.engine import Engine
from nearpoint.stack.services.buckets import Buckets
from nearpoint.stack.services.context import Context as Domain
from nearpoint.state import nats
from nearpoint.state.planner import NodeStatus, Planner
from nearpoint.state.resources import AccessKey, Snapshot
from nearpoint.state.store import State
from nearpoint.telemetry.child import Child, run_child
from nearpoint.wire.client import Client
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Server
from nearpoint.wire.tls import Authority
from nearpoint.world.store_trials import StoreTrials

log = structlog.get_logger("nearpoint.control")

NATS_WAIT_S = 30.0
DRAIN_S = 5.0


def _now() -> datetime:
    return datetime.now(UTC)


def _stores(config: dict[str, Any], client: Client) -> dict[str, Store]:
    return {
        region: Store(
            StoreSpec.of_config(region, given),
            client,
            clock=_now,
        )
        for region, given in config["stores"].items()
    }


def edge_names(snapshot: Snapshot) -> list[str]:
    """The names besides `*.cloudfront.net` that lead to the edge: every distribution's aliases, in lower case."""
    found: set[str] = set()
    for distribution in snapshot.distributions.values():
        for key in ("Aliases", "CNAMEs"):
            found.update(str(alias).lower() for alias in distribution.config.get(key) or ())
    return sorted(found)


async def _ensure_root_key(state: State, config: dict[str, Any]) -> None:
    key = AccessKey(
        access_key_id=config["access_key_id"],
        secret_key=config["secret_key"],
        principal_arn=f"arn:aws:iam::{config['account_id']}:root",
    )
    if state.get(AccessKey, key.id) != key:
        await state.put(key)


def _services(
    config: dict[str, Any], state: State, planner: Planner, stores: dict[str, Store]
) -> tuple[Context, Engine]:
    """What the AWS services stand on, and the stack engine among it."""
    domain = Domain(
        state=state,
        account_id=config["account_id"],
        now=time.time,
        random_bytes=os.urandom,
        packages_dir=Path(config["packages_dir"]),
    )
    buckets = Buckets(domain, stores)
    engine = Engine(domain, reader=buckets, buckets=buckets, published=planner.published)
    context = Context(
        domain=domain,
        snapshot=lambda: planner.current,
        stores=stores,
        published=planner.published,
        parts={Engine: engine},
    )
    return context, engine


async def main(child: Child) -> None:
    """Serve the AWS front and plan snapshots until the supervisor says stop."""
    config = child.config
    nats_client = await nats.connect(config["nats_url"], name="control", wait_s=NATS_WAIT_S)
    silent = partial(child.send, {"state_store_silent": True})
    state = await nats.NatsState.open(nats_client, on_silent=silent)
    await _ensure_root_key(state, config)
    client = Client()
    stores = _stores(config, client)
    own = {region: store for region, store in stores.items() if store.spec.kind != "embedded"}
    planner = Planner(
        state,
        await nats.SnapshotChannel.open(nats_client, on_silent=silent),
        account_id=config["account_id"],
        session_secret=config["session_secret"],
        own_stores=frozenset(own),
    )
    loop = asyncio.get_running_loop()

    async def heard(message: Any) -> None:
        try:
            status = msgspec.json.decode(message.data, type=NodeStatus)
        except msgspec.MsgspecError:
            return
        await planner.node_reported(status, loop.time())

    await nats_client.subscribe(nats.STATUS_SUBJECT, cb=heard)
    planner.on_publish(lambda snapshot: child.send({"edge_names": edge_names(snapshot)}))
    await planner.start()
    planning = asyncio.create_task(planner.run())
    context, engine = _services(config, state, planner, stores)
    front = Front(context)
    await front.start()
    await engine.resume()
    tls = Authority.load_or_create(Path(config["ca_dir"])).server_context()
    private = PrivateApi(config["token"], {"members": Members(context), "settings": PointSettings(context)})

    async def answer(request: Request) -> Response:
        # Over loopback alone: over TLS clients find AWS and nothing else.
        return await (private.handle(request) if request.path.startswith(PREFIX) else front.handle(request))

    servers = [Server(front.handle, tls=tls), Server(answer)]
    await servers[0].start(child.listener("https"))
    await servers[1].start(child.listener("http"))
    trials = StoreTrials(state, own, lambda known: child.send({"store_limits": msgspec.to_builtins(known)}))
    if own:
        await trials.first()
    trying = asyncio.create_task(trials.run() if own else asyncio.Event().wait())
    child.ready()
    stopping = asyncio.create_task(child.stopping.wait())
    await asyncio.wait({stopping, planning, trying}, return_when=asyncio.FIRST_COMPLETED)
    trying.cancel()
    await asyncio.gather(*(server.drain(DRAIN_S) for server in servers))
    await engine.close()
    await front.close()
    await client.close()
    planning.cancel()
    await nats_client.close()


if __name__ == "__main__":
    run_child("control", main)
