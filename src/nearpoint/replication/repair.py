"""Has buckets compared and repaired without being asked to, one sweep at a time, in the process of the copiers.

It looks at the stores every few seconds: who is away, whether the logs have caught up, and whether an entry of a log
was set aside as damaged (`schedule` decides). A sweep that a restart interrupted is gone on with first.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Struct

from nearpoint.replication import schedule
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.schedule import Absences
from nearpoint.replication.sweep import Memory, Progress, SweepBusyError, only_one, sweep

log = structlog.get_logger("nearpoint.replication")

T = TypeVar("T")
LOOK_S = 5.0
LOOK_TIMEOUT_S = 4.0
DAMAGE_LOOKS = 6
DAMAGED = "this entry of the log is damaged"  # as the store says it (`bucket/mending.py`)


class Settings(Struct, kw_only=True):
    """What is kept of the schedule. `every_s`: None is never."""

    every_s: float | None = schedule.EVERY_S
    next_at: float = 0.0


class Repairer:
    """Runs sweeps by itself. `peers` are the regions' stores, each as reached from its own region."""

    def __init__(
        self, folder: Path, peers: Mapping[str, Peer], *, outage_s: float = schedule.OUTAGE_S, look_s: float = LOOK_S
    ) -> None:
        self._folder = folder
        self._peers = peers
        self._memory = Memory(folder, repair=True)
        self._look_s = look_s
        self._absences = Absences(outage_s=outage_s)
        self._damaged: set[str] = set()
        self._damage_dealt_with: set[str] = set()  # a sweep came after it: another would do no better
        self._next_damage_s = 0.0
        self._not_before_s = 0.0
        self._running: Progress | None = None
        self._obstacle: str | None = None
        self._settings = self._load()

    # --- the schedule

    @property
    def _file(self) -> Path:
        return self._folder / "schedule.json"

    def _load(self) -> Settings:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Settings)
        except (OSError, msgspec.MsgspecError):
            found = Settings()
        if found.next_at == 0.0:
            self._plan(found)
        return found

    def _plan(self, settings: Settings) -> None:
        if settings.every_s is not None:
            settings.next_at = schedule.next_at(time.time(), settings.every_s, random.random())  # noqa: S311
        temporary = self._file.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(settings))
        temporary.replace(self._file)

    def set_every(self, every_s: float | None) -> None:
        """Compare so often from now on; None: never by the clock. Raises ValueError, OSError."""
        if every_s is not None and not schedule.EVERY_MIN_S <= every_s <= schedule.EVERY_MAX_S:
            raise ValueError(f"between {schedule.EVERY_MIN_S:.0f} and {schedule.EVERY_MAX_S:.0f} seconds")
        self._settings.every_s = every_s
        self._plan(self._settings)

    def status(self) -> dict[str, Any]:
        """What is under way, what came of the last sweep, and when the next one is. Times are Unix seconds."""
        last = self._memory.load()
        return {
            "every_s": self._settings.every_s,
            "next_at": None if self._settings.every_s is None else round(self._settings.next_at, 3),
            "running": None if self._running is None else summary(self._running),
            "last": None if last is None or self._running is not None else summary(last),
            "obstacle": self._obstacle,
        }

    # --- running

    async def run(self) -> None:
        """Look and sweep until cancelled."""
        while True:
            try:
                cause = await self._cause()
                if cause is not None and time.monotonic() >= self._not_before_s:
                    await self._sweep(cause)
            except OSError as error:  # a full disk, for one
                self._obstacle = str(error)
                log.warning("not compared", reason=self._obstacle)
            await asyncio.sleep(self._look_s)

    async def _cause(self) -> str | None:
        """Why to sweep now, if there is a reason."""
        caught_up = await self._look()
        unfinished = self._memory.unfinished(time.time())
        if unfinished is not None and not self._absences.away:  # it may have stopped because of whoever is away
            return unfinished.cause
        back = self._absences.due(time.monotonic(), caught_up=caught_up)
        if back:
            return f"back after an outage: {', '.join(back)}"
        if self._damaged - self._damage_dealt_with:
            return "an entry of a log was damaged"
        if self._settings.every_s is not None and time.time() >= self._settings.next_at:
            return "schedule"
        return None

    async def _look(self) -> bool:
        """Ask every store whether it owes anything; whether none does."""
        answers = await asyncio.gather(*(_asked(peer.log(-1, 0)) for peer in self._peers.values()))
        for region, answer in zip(self._peers, answers, strict=True):
            self._absences.seen(region, there=answer is not None, now_s=time.monotonic())
        if time.monotonic() >= self._next_damage_s:
            # What was given up is counted over a whole log: less often.
            self._next_damage_s = time.monotonic() + DAMAGE_LOOKS * self._look_s
            owed = await asyncio.gather(*(_asked(peer.owed()) for peer in self._peers.values()))
            self._damaged = {
                f"{region} {each['bucket']} {each['destination']} {each['key']} {each['version']}"
                for region, one in zip(self._peers, owed, strict=True)
                for each in (one["parked"] if one is not None else ())
                if each["reason"] == DAMAGED
            }
            self._damage_dealt_with &= self._damaged
        return all(answer is not None and not answer[1] for answer in answers)

    async def _sweep(self, cause: str) -> None:
        try:
            with only_one(self._folder):
                log.info("comparing", cause=cause)
                away = self._absences.away
                here = {region: peer for region, peer in self._peers.items() if region not in away}
                done = await sweep(
                    here, self._memory, repair=True, cause=cause, gently=True, absent=away, on_progress=self._note
                )
        except SweepBusyError:
            return  # somebody's command; looked at again soon
        except (UnavailableError, RefusedError) as error:
            self._obstacle = str(error)
            self._not_before_s = time.monotonic() + schedule.RETRY_S
            log.warning("comparing stopped", reason=self._obstacle, again_in_s=schedule.RETRY_S)
            return
        finally:
            self._running = None
        self._obstacle = None
        self._damage_dealt_with |= self._damaged
        self._absences.compared()
        self._plan(self._settings)
        log.info("compared", cause=cause, **{name: n for name, n in summary(done).items() if isinstance(n, int)})

    def _note(self, progress: Progress) -> None:
        self._running = progress


async def _asked(answer: Awaitable[T]) -> T | None:
    """What a store says, or None when it does not."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return await answer
    except (UnavailableError, RefusedError, TimeoutError):
        return None


def summary(progress: Progress) -> dict[str, Any]:
    """A sweep in numbers."""
    counts = ("keys", "versions", "missing", "amended", "repaired", "refused", "restated")
    return {
        "cause": progress.cause,
        "started_at": round(progress.started_at, 3),
        "ended_at": None if progress.ended_at is None else round(progress.ended_at, 3),
        "pair": None if progress.current is None else list(progress.current),
        "last_key": None if progress.current is None else progress.report_of(progress.current).last_key,  # type: ignore[union-attr]
        "left_out": [f"{one} and {two}: {why}" for one, two, why in progress.left_out],
        **{name: sum(getattr(report, name) for _, _, report in progress.reports) for name in counts},
    }
