"""What the log of a foreign store holds, as values, and what it is asked for (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from msgspec import Struct

from nearpoint.gateway.sequences import Sequences

Operation = Literal["put", "marker", "amend"]
Pair = tuple[str, str]
Standing = Literal["", "PENDING", "FAILED"]
DAMAGED = "this entry of the log is damaged"  # as the embedded store says it (`bucket/mending.py`)


class UnloggedError(Exception):
    """The log does not take anything now: there must be no write."""


class Intent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A write that is about to be made. `destinations` are the buckets that it may concern, `completes` says that it
    ends a multipart upload (whose stamp has a mark), `tags` are those that an amendment gives the object. Times in
    microseconds, `size` in bytes."""

    bucket: str
    key: str
    operation: Operation
    time_us: int
    written_us: int
    destinations: tuple[str, ...]
    size: int = 0
    completes: bool = False
    tags: tuple[tuple[str, str], ...] = ()


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket owes to another: a key, whose newest version the destination has to see. `reason`: why it was
    given up."""

    bucket: str
    destination: str
    key: str
    operation: Operation
    written_us: int
    size: int = 0
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """What a bucket owes to another, and what was given up of it. `size` in bytes, of what is owed."""

    due: Sequences = field(default_factory=Sequences)
    parked: Sequences = field(default_factory=Sequences)
    size: int = 0

    @property
    def pending(self) -> int:
        """How many entries wait."""
        return len(self.due)

    @property
    def failed(self) -> int:
        """How many were given up."""
        return len(self.parked)


class Log(Protocol):
    """The log. Everything it does is on disk when it returns; every method may raise UnloggedError."""

    async def begin(self, intent: Intent) -> int:
        """Take down an intent, before the write; the number it is ended by."""
        ...

    async def end(self, number: int, entries: list[Entry]) -> None:
        """The intent is over, and this is owed because of it: nothing, when the write was refused."""
        ...

    async def open(self) -> list[tuple[int, Intent]]:
        """The intents that have not been ended, in order."""
        ...

    async def standing(self, bucket: str, destinations: list[str], key: str) -> Standing:
        """How a key stands: FAILED when something of it was given up, PENDING when something is owed."""
        ...
