"""What orders the writes of a key across regions: a hybrid logical clock kept per key, the region, the entity tag.

A write's time is the wall clock's, or one microsecond after the newest version its region knows of the key, whichever
is later (Kulkarni et al., "Logical Physical Clocks", 2014, with the microsecond as the counter). So a write that
followed another is newer, however wrong the clocks are; only writes that knew nothing of each other are ordered by wall
clock, and a clock that runs ahead wins those, by as much as it is ahead.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

# In a store's answer to a write: what the write has added to the log, as the last sequence and the destinations
# (`17;bucket-b,bucket-c`). For the node that passed the write on; it goes no further.
LOGGED_HEADER = "x-nearpoint-logged"
AHEAD_ALARM_US = 10_000_000  # NTP keeps clocks within tens of milliseconds; 10 s is somebody's mistake
AHEAD_MAX_US = 86_400_000_000  # a clock off by a time zone still replicates, one that is off by years does not


class Stamp(NamedTuple):
    """The version of a write. Tuples of it compare as writes do: time (µs since 1970), then region, then entity tag.

    `region` is where the write was made, empty for what was there before regions were written down; `etag` is bare,
    and empty for a delete marker.
    """

    time_us: int
    region: str
    etag: str


class Ahead(Enum):
    """How a stamp's time stands to the wall clock of who receives it."""

    FINE = "fine"
    ALARM = "alarm"  # taken, and said aloud
    REFUSED = "refused"  # held back: it would win over everything for more than a day


def next_time_us(now_us: int, newest_us: int | None) -> int:
    """The time of a new write, where the region's newest version of the key (a delete marker, too) has `newest_us`."""
    return now_us if newest_us is None else max(now_us, newest_us + 1)


def how_far_ahead(time_us: int, now_us: int) -> Ahead:
    """Whether a stamp from elsewhere may be taken. It is never changed: every region has to order by the same one."""
    ahead_us = time_us - now_us
    if ahead_us > AHEAD_MAX_US:
        return Ahead.REFUSED
    return Ahead.ALARM if ahead_us > AHEAD_ALARM_US else Ahead.FINE


def clamped_us(time_us: int, now_us: int) -> int:
    """The time given to an object that was written behind Nearpoint's back, by its Last-Modified: never in the future,
    so that a foreign clock gains nothing."""
    return max(0, min(time_us, now_us))
