"""The laws of the merge, for any knowledge of a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.regions.version import (
    AHEAD_ALARM_US,
    AHEAD_MAX_US,
    Ahead,
    Stamp,
    clamped_us,
    how_far_ahead,
    next_time_us,
)
from nearpoint.replication.merge import NEVER, Knowledge, Version, current, merge, value

# A version's id, stamp and kind belong together wherever it is known; few values, so that ties and meetings are common.
STAMPS = st.builds(Stamp, st.integers(1, 3), st.sampled_from(["eu", "us"]), st.sampled_from(["", "a", "b"]))
BORN = st.dictionaries(st.sampled_from("uvwxyz"), st.tuples(STAMPS, st.booleans()), min_size=6, max_size=6)
AMENDED = st.one_of(st.just((NEVER, "")), st.tuples(STAMPS, st.sampled_from(["", "t=1", "t=2"])))


@st.composite
def knowledges(draw: st.DrawFn, count: int) -> list[Knowledge]:
    born = draw(BORN)
    found = []
    for _ in range(count):
        removed = draw(st.frozensets(st.sampled_from("uvwxyz"), max_size=2))
        ids = draw(st.sets(st.sampled_from("uvwxyz"))) - removed
        versions = {}
        for id in sorted(ids):
            stamp, marker = born[id]
            amended, attributes = draw(AMENDED)
            versions[id] = Version(id=id, stamp=stamp, marker=marker, amended=amended, attributes=attributes)
        found.append(Knowledge(versions=versions, removed=removed))
    return found


@given(knowledges(2))
def test_commutative(known: list[Knowledge]) -> None:
    a, b = known
    assert merge(a, b) == merge(b, a)


@given(knowledges(3))
def test_associative(known: list[Knowledge]) -> None:
    a, b, c = known
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)


@given(knowledges(1))
def test_idempotent(known: list[Knowledge]) -> None:
    assert merge(known[0], known[0]) == known[0]


@given(knowledges(2))
def test_older_never_overwrites_newer_and_removed_stays_removed(known: list[Knowledge]) -> None:
    a, b = known
    both = merge(a, b)
    newest = current(a)
    if newest is not None and newest.id not in both.removed:
        found = current(both)
        assert found is not None
        assert found.rank >= newest.rank
    assert not (a.removed & both.versions.keys())


@given(knowledges(1))
def test_a_key_is_its_newest_version_or_nothing(known: list[Knowledge]) -> None:
    newest, seen = current(known[0]), value(known[0])
    assert seen is None if newest is None or newest.marker else seen == newest


def test_ties_are_broken_by_region_then_entity_tag() -> None:
    writes = [Stamp(5, "us", "a"), Stamp(5, "eu", "z"), Stamp(5, "us", ""), Stamp(4, "zz", "z")]
    assert sorted(writes) == [Stamp(4, "zz", "z"), Stamp(5, "eu", "z"), Stamp(5, "us", ""), Stamp(5, "us", "a")]


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_write_that_followed_another_is_newer_whatever_the_clock_says(now_us: int, seen_us: int) -> None:
    assert next_time_us(now_us, seen_us) > seen_us
    assert next_time_us(now_us, seen_us) >= now_us
    assert next_time_us(now_us, None) == now_us


def test_stamps_from_the_future_are_bounded() -> None:
    now = 1_700_000_000_000_000
    assert how_far_ahead(now - 1, now) is how_far_ahead(now + AHEAD_ALARM_US, now) is Ahead.FINE
    assert how_far_ahead(now + AHEAD_ALARM_US + 1, now) is how_far_ahead(now + AHEAD_MAX_US, now) is Ahead.ALARM
    assert how_far_ahead(now + AHEAD_MAX_US + 1, now) is Ahead.REFUSED
    assert (clamped_us(now + 5, now), clamped_us(now - 5, now), clamped_us(-5, now)) == (now, now - 5, 0)
