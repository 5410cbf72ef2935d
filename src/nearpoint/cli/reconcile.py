"""`nearpoint reconcile`: compares the buckets that rules lead to and from, and repairs what differs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.text import Text

from nearpoint.cli.console import CommandError, Exit, complain, counted, notes, print_json, results
from nearpoint.cli.world_client import WorldClient
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.reconcile import Difference, Report
from nearpoint.replication.sweep import Memory, Progress, SweepBusyError, only_one, sweep
from nearpoint.wire.client import Client, Origin
from nearpoint.world.layout import World
from nearpoint.world.processes import signing_region, store_endpoint

LINE_EVERY_S = 5.0
BUSY_LOOK_S = 0.5
KEYS_MAX = 10  # shown of those that differ in the same way


def command(*, data: Path, check: bool, afresh: bool, as_json: bool) -> int:
    """Compare, and repair unless `check`. 0: equal, or made so; 1: what differs was left or could not be repaired."""
    client = WorldClient(data)
    folder = client.layout.replication
    memory = Memory(folder, repair=not check)
    try:
        with regions_answer(), _alone(folder, repair=not check):
            found = memory.unfinished(time.time())
            if found is not None and not afresh:
                begun = datetime.fromtimestamp(found.started_at).strftime("%Y-%m-%d %H:%M")
                notes.print(f"Going on with what was begun at {begun}. (--afresh begins anew.)")
            with Watched() as shown:
                done = asyncio.run(_sweep(client.world, memory, check=check, afresh=afresh, shown=shown))
    except KeyboardInterrupt:
        notes.print("Stopped. The same command goes on from here.")
        raise
    if as_json:
        print_json([{"buckets": [one, two]} | asdict(report) for one, two, report in done.reports])
    else:
        _show(done, check=check)
    for one, two, why in done.left_out:
        complain(f"{one} and {two} were not compared: {why}")
    left = done.left_out or any(not report.equal if check else report.refused for _, _, report in done.reports)
    return int(Exit.FAILED if left else Exit.DONE)


@contextmanager
def regions_answer() -> Iterator[None]:
    """Turns a region that does not answer, or says no, into a line for the user and its exit code."""
    try:
        yield
    except UnavailableError as error:
        raise CommandError(
            f"A region cannot be reached: {error}. The same command goes on from here.", Exit.UNREACHABLE
        ) from error
    except RefusedError as error:
        raise CommandError(str(error), Exit.REFUSED) from error


@contextmanager
def _alone(folder: Path, *, repair: bool) -> Iterator[None]:
    """The right to compare, as soon as nobody else has it."""
    said = False
    while True:
        try:
            with only_one(folder, repair=repair):
                yield
                return
        except SweepBusyError:
            if not said:
                notes.print("Waiting for a comparison that is under way: `nearpoint replication status` shows how far.")
            said = True
            time.sleep(BUSY_LOOK_S)


async def _sweep(world: World, memory: Memory, *, check: bool, afresh: bool, shown: Watched) -> Progress:
    client = Client()
    try:
        return await sweep(
            peers_of(world, client), memory, repair=not check, cause="command", afresh=afresh, on_progress=shown.note
        )
    finally:
        await client.close()


def peers_of(world: World, client: Client) -> dict[str, Peer]:
    """The regions' stores, each by the link of its own region: one that `nearpoint fail` broke is not reached."""
    return {region: _peer(world, region, client) for region in world.regions}


def _peer(world: World, region: str, client: Client) -> Peer:
    access = world.stores[region]
    spec = StoreSpec(
        region=region,
        endpoint=store_endpoint(world, world.ports, region),
        access_key_id=access.access_key_id,
        secret_key=access.secret_key,
        signing_region=signing_region(world, region),
    )
    link = Origin(host="127.0.0.1", port=world.ports[f"relay.{region}.{region}"])
    return Peer(Store(spec, client, clock=lambda: datetime.now(UTC), connect_to=link))


class Watched:
    """Shows how far a sweep is: on a terminal in place, otherwise a line now and then."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._started_s = self._said_s = time.monotonic()
        self._keys_before: int | None = None

    def __enter__(self) -> Watched:
        if notes.is_terminal:
            self._live = Live(Text("Comparing …"), console=notes, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, progress: Progress) -> None:
        """Take in how far it is."""
        if self._keys_before is None:
            self._keys_before = sum(each.keys for _, _, each in progress.reports)
        if progress.current is None:
            return
        report = progress.report_of(progress.current)
        assert report is not None
        if self._live is None and time.monotonic() - self._said_s < LINE_EVERY_S:
            return
        self._said_s = time.monotonic()
        line = Text(self._line(progress.current, report, sum(each.keys for _, _, each in progress.reports)))
        if self._live is not None:
            self._live.update(line)
        else:
            notes.print(line, soft_wrap=True)

    def _line(self, pair: tuple[str, str], report: Report, keys: int) -> str:
        took_s = max(0.001, time.monotonic() - self._started_s)
        rate = (keys - (self._keys_before or 0)) / took_s
        differ = report.missing + report.amended
        return (
            f"{pair[0]} and {pair[1]}: {report.keys:,} keys, {differ:,} differences, {report.repaired:,} repaired, "
            f"{rate:,.0f} keys/s, at {report.last_key[:60]}"
        )


def _show_differences(shown: Sequence[Difference]) -> None:
    """Keys and versions under what they have in common; of many, the first ones (`--json` has all that were noted)."""
    alike: dict[tuple[str, ...], list[Difference]] = {}
    for each in shown:
        alike.setdefault((each.destination, each.bucket, each.what, each.why, each.outcome), []).append(each)
    for (lacking, having, *said), differences in alike.items():
        results.print(f"{lacking} lacks of {having} ({', '.join(filter(None, said))})", soft_wrap=True, markup=False)
        for each in differences[:KEYS_MAX]:
            key = each.key if each.key.isprintable() else repr(each.key)  # a key may hold what a terminal obeys
            results.print(f"  {key}  {each.version}", soft_wrap=True, markup=False)
        if len(differences) > KEYS_MAX:
            results.print(f"  … and {len(differences) - KEYS_MAX:,} more", soft_wrap=True)


def _show(done: Progress, *, check: bool) -> None:
    if not done.reports:
        notes.print("No bucket has replication rules: there is nothing to compare.")
        return
    shown: list[Any] = []
    for one, two, report in done.reports:
        found = {name: getattr(report, name) for name in ("missing", "amended", "repaired", "refused", "recent")}
        counts = [f"{number:,} {name}" for name, number in found.items() if number] or ["the same"]
        sizes = f"{counted(report.keys, 'key')}, {counted(report.versions, 'version')}"
        results.print(f"[bold]{one} and {two}[/]\n  {sizes}: {', '.join(counts)}", soft_wrap=True)
        shown += report.shown
    _show_differences(shown)
    if any(report.recent for _, _, report in done.reports):
        notes.print("Recent ones were written just now: the log brings them.")
    if check and shown:
        notes.print("`nearpoint reconcile` brings each bucket what it lacks.")
