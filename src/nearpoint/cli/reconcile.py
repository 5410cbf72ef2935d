"""`nearpoint reconcile`: compares the buckets that rules lead to and from, and repairs what differs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nearpoint.cli.console import CommandError, Exit, notes, print_json, results, table
from nearpoint.cli.world_client import WorldClient
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.reconcile import Report, Side, reconcile
from nearpoint.wire.client import Client
from nearpoint.world.layout import World
from nearpoint.world.processes import embedded_regions, store_endpoint

PROGRESS_KEYS = 20_000


def command(*, data: Path, check: bool, as_json: bool) -> int:
    """Compare, and repair unless `check`. 0: equal, or made so; 1: what differs was left or could not be repaired."""
    world = WorldClient(data).world
    try:
        found = asyncio.run(_all(world, repair=not check))
    except UnavailableError as error:
        raise CommandError(f"A region cannot be reached: {error}", Exit.UNREACHABLE) from error
    except RefusedError as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    if as_json:
        print_json([{"buckets": list(buckets)} | asdict(report) for buckets, report in found])
    else:
        _show(found, check=check)
    left = any(not report.equal if check else report.refused for _, report in found)
    return int(Exit.FAILED if left else Exit.DONE)


async def _all(world: World, *, repair: bool) -> list[tuple[tuple[str, str], Report]]:
    client = Client()
    try:
        peers = {region: _peer(world, region, client) for region in embedded_regions(world)}
        sides: dict[str, Side] = {}
        for peer in peers.values():
            for bucket, rules in (await peer.rules()).items():
                sides[bucket] = Side(peer=peer, bucket=bucket, rules=rules)
        pairs = sorted({tuple(sorted((name, rule.destination))) for name in sides for rule in sides[name].rules})
        found = []
        for one, two in pairs:
            both = [sides.get(name) or await _without_rules(peers, name) for name in (one, two)]
            notes.print(f"{one} and {two} …")
            report = await reconcile(both[0], both[1], repair=repair, on_progress=_progress)
            found.append(((one, two), report))
        return found
    finally:
        await client.close()


def _peer(world: World, region: str, client: Client) -> Peer:
    access = world.stores[region]
    spec = StoreSpec(
        region=region,
        endpoint=store_endpoint(world, world.ports, region),
        access_key_id=access.access_key_id,
        secret_key=access.secret_key,
        signing_region=region,
        kind="embedded",
    )
    return Peer(Store(spec, client, clock=lambda: datetime.now(UTC)))


async def _without_rules(peers: dict[str, Peer], bucket: str) -> Side:
    for peer in peers.values():
        if await peer.has_bucket(bucket):
            return Side(peer=peer, bucket=bucket, rules=())
    raise RefusedError("NoSuchBucket", f"The destination bucket {bucket} does not exist.")


def _progress(report: Report) -> None:
    if report.keys % PROGRESS_KEYS == 0 and report.keys:
        notes.print(f"  {report.keys} keys, {report.missing + report.amended} differences, at {report.last_key}")


def _show(found: list[tuple[tuple[str, str], Report]], *, check: bool) -> None:
    if not found:
        notes.print("No bucket has replication rules: there is nothing to compare.")
        return
    rows = table("buckets", ">keys", ">versions", ">missing", ">amended", ">repaired", ">refused")
    shown: list[Any] = []
    for buckets, report in found:
        counts = (report.keys, report.versions, report.missing, report.amended, report.repaired, report.refused)
        rows.add_row(" and ".join(buckets), *map(str, counts))
        shown += report.shown
    results.print(rows)
    if shown:
        differing = table("has it", "lacks it", "key", "version", "what", "" if check else "repair")
        for each in shown:
            differing.add_row(each.bucket, each.destination, each.key, each.version, each.what, each.outcome)
        results.print(differing)
