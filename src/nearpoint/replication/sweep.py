"""Compares every pair of buckets that rules connect, one pair after the other, and remembers how far it is.

What is remembered is a small file, replaced as a whole: a sweep that was interrupted, however that came about, is gone
on with behind the last key that was dealt with. A lock on the folder keeps sweeps to one at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from nearpoint.regions.rules import Rule
from nearpoint.replication.peer import Peer, UnavailableError
from nearpoint.replication.reconcile import PAGE_ROWS, Report, Side, reconcile

SAVE_EVERY_S = 2.0
ANSWER_S = 10.0
KEPT_S = 7 * 86_400.0  # an interrupted sweep that is older begins anew: what it has seen is too long ago
LOCK_FILE = "reconcile.lock"
CHECK_LOCK_FILE = "reconcile-check.lock"


class SweepBusyError(Exception):
    """Another sweep is under way."""


class Progress(Struct, kw_only=True):
    """A sweep as it is kept. `reports` are those of pairs that are done and of the one that is under way, by both
    buckets' names; `current` is the one under way; `left_out` are pairs that cannot be compared, and why. Times are
    Unix seconds."""

    repair: bool
    cause: str
    started_at: float
    saved_at: float = 0.0
    reports: list[tuple[str, str, Report]] = []
    current: tuple[str, str] | None = None
    left_out: list[tuple[str, str, str]] = []
    ended_at: float | None = None

    def report_of(self, pair: tuple[str, str]) -> Report | None:
        """The report of a pair, begun or done."""
        return next((report for one, two, report in self.reports if (one, two) == pair), None)


class Memory:
    """The file of a kind of sweep: those that repair, those that only look, and those for the member of a `name`."""

    def __init__(self, folder: Path, *, repair: bool, name: str = "") -> None:
        self._file = folder / f"reconcile{name and '-' + name}{'' if repair else '-check'}.json"

    def load(self) -> Progress | None:
        """What is kept, or None: also when it cannot be read, because a sweep can always begin anew."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError):
            return None

    def unfinished(self, now: float) -> Progress | None:
        """What there is to go on with."""
        found = self.load()
        return found if found is not None and found.ended_at is None and now - found.saved_at < KEPT_S else None

    def save(self, progress: Progress, now: float) -> None:
        """Keep it, whole or not at all. Raises OSError."""
        progress.saved_at = now
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(msgspec.json.encode(progress))
        temporary.replace(self._file)


@contextmanager
def only_one(folder: Path, *, repair: bool = True) -> Iterator[None]:
    """Hold the right to sweep: those that repair exclude each other, and so do those that only look. Raises
    SweepBusyError while another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(
        folder / (LOCK_FILE if repair else CHECK_LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SweepBusyError from None
    try:
        yield
    finally:
        os.close(descriptor)


async def pairs_of(
    peers: Mapping[str, Peer], absent: Sequence[str] = ()
) -> tuple[list[tuple[Side, Side]], list[tuple[str, str, str]]]:
    """Every two buckets that a rule connects, in the order of their names; and those of which one is not there, with
    the reason. `absent` are regions that cannot be asked. Raises UnavailableError, RefusedError."""
    sides: dict[str, Side] = {}
    for peer in peers.values():
        for bucket, rules in (await _rules_of(peer)).items():
            sides[bucket] = Side(peer=peer, bucket=bucket, rules=rules)
    names = sorted({tuple(sorted((name, rule.destination))) for name, side in sides.items() for rule in side.rules})
    gone: set[str] = set()
    for name in {name for pair in names for name in pair} - sides.keys():
        owner = await _whose(peers, name)
        if owner is None:
            gone.add(name)
        else:
            sides[name] = Side(peer=owner, bucket=name, rules=())
    why = f"is in none of the others: {', '.join(absent)} cannot be reached" if absent else "does not exist"
    left_out = [
        (one, two, f"The bucket {one if one in gone else two} {why}.") for one, two in names if gone & {one, two}
    ]
    return [(sides[one], sides[two]) for one, two in names if not gone & {one, two}], left_out


async def _rules_of(peer: Peer) -> dict[str, tuple[Rule, ...]]:
    """The first question to each store, and a small one: whoever is silent now is not waited for."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await peer.rules()
    except TimeoutError:
        raise UnavailableError(f"{peer.region} does not answer") from None


async def _whose(peers: Mapping[str, Peer], bucket: str) -> Peer | None:
    for peer in peers.values():
        if await peer.has_bucket(bucket):
            return peer
    return None


async def sweep(
    peers: Mapping[str, Peer],
    memory: Memory,
    *,
    repair: bool,
    cause: str,
    afresh: bool = False,
    gently: bool = False,
    about: Sequence[str] | None = None,
    absent: Sequence[str] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Compare all pairs (or those with a bucket that it is `about`), and repair; go on with what was interrupted unless
    `afresh`.

    `gently` leaves at least half of the processor's time to others. `absent` are regions that are none of the `peers`
    because they cannot be reached: their buckets are left out. The caller holds `only_one`. Raises
    UnavailableError and RefusedError; what was done until then is kept, and gone on with the next time.
    """
    found = None if afresh else memory.unfinished(time.time())
    progress = found or Progress(repair=repair, cause=cause, started_at=time.time())
    saved_s = turn_s = time.monotonic()
    on_progress(progress)

    async def note(_: Report) -> None:
        nonlocal saved_s, turn_s
        now_s = time.monotonic()
        if now_s - saved_s > SAVE_EVERY_S:
            saved_s = now_s
            memory.save(progress, time.time())
        on_progress(progress)
        await asyncio.sleep(min(1.0, now_s - turn_s) if gently else 0)
        turn_s = time.monotonic()

    try:
        pairs, progress.left_out = await pairs_of(peers, absent)
        for one, two in pairs:
            pair = (one.bucket, two.bucket)
            if about is not None and not set(pair) & set(about):
                continue
            report = progress.report_of(pair)
            if report is not None and pair != progress.current:
                continue  # done before the interruption
            if report is None:
                report = Report()
                progress.reports.append((*pair, report))
            progress.current = pair
            await reconcile(
                one, two, repair=repair, report=report, until_us=int(progress.started_at * 1e6), on_progress=note,
                page_rows=PAGE_ROWS // 8 if gently else PAGE_ROWS,
            )  # fmt: skip
            if repair and not report.refused:
                await _say_compared(one, two)
            progress.current = None
        progress.ended_at = time.time()
    finally:
        memory.save(progress, time.time())
    return progress


async def _say_compared(one: Side, two: Side) -> None:
    for source, target in ((one, two), (two, one)):
        if any(rule.destination == target.bucket for rule in source.rules):
            await source.peer.compared(source.bucket, target.bucket)
