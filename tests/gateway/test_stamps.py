"""What a foreign store knows of a key and what becomes of a version that arrives: the decisions, as properties."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.gateway.stamps import (
    Known,
    Layer,
    Mark,
    Note,
    Role,
    bare,
    decide,
    known_of,
    mark_of,
    misplaced,
    version_of,
)
from nearpoint.regions.version import Stamp

NOW = 1_700_000_000_000_000
REGIONS = ("eu-west-1", "us-east-1")
stamps = st.builds(Stamp, st.integers(0, 6), st.sampled_from(REGIONS), st.sampled_from(("", "aa", "bb-2")))
roles = st.sampled_from(("logged", "upload", "quiet", "replica"))
amendments = st.tuples(st.integers(0, 3), st.sampled_from(REGIONS))


def look(
    *, etag: str | None = None, note: Note | None = None, mark: Mark | None = None, modified_us: int = NOW - 5
) -> Known:
    text = None if note is None else note.pack("k")
    return known_of(
        "k", etag=etag, note=text, modified_us=modified_us, mark=mark, region="eu-west-1", now_us=NOW
    )  # fmt: skip


@given(
    roles,
    st.integers(0, 10**17 - 1),
    st.sampled_from(("", "us-east-1", "ap-south-1")),
    st.from_regex("|[0-9a-f]{32}(-[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"|[A-Za-z0-9._]{32}", fullmatch=True),
    st.text(max_size=20),
)
def test_a_note_comes_back_as_it_was(role: Role, time_us: int, region: str, etag: str, version: str, key: str) -> None:
    note = Note(role=role, time_us=time_us, region=region, etag=etag, version=version)
    text = note.pack(key)
    assert text.isascii()
    assert len(text) < 300
    assert Note.read(text, key) == note
    assert Note.read(text, key + "x") is None  # a copy made behind our back


@given(st.text(max_size=80))
def test_what_is_no_note_is_none(text: str) -> None:
    assert Note.read(text, "k") is None
    assert Note.read(None, "k") is None


@pytest.mark.parametrize("text", ["1 L 99999999999999999999 us-east-1 - - 00000000", "2 L 1 a - - 0", "1 X 1 a - - 0"])
def test_hostile_notes(text: str) -> None:
    assert Note.read(text, "k") is None


def test_where_a_stamp_comes_from() -> None:
    ours = Note(role="logged", time_us=5, region="eu-west-1")
    theirs = Note(role="replica", time_us=5, region="us-east-1", etag="aa-2", version="V")
    assert look() == Known()
    assert look(etag="aa", note=ours).stamp == Stamp(5, "eu-west-1", "aa")
    found = look(etag="cc", note=theirs)  # a store with entity tags of its own making
    assert (found.stamp, found.version, found.role) == (Stamp(5, "us-east-1", "aa-2"), "V", "replica")
    deleted = look(mark=Mark(time_us=7, region="us-east-1", deleted=True, version="D"))
    assert (deleted.stamp, deleted.version, deleted.is_deleted) == (Stamp(7, "us-east-1", ""), "D", True)
    # An upload has the time of its completion, what was amended that of the amendment.
    upload = Note(role="upload", time_us=3, region="eu-west-1")
    assert look(etag="aa-2", note=upload, mark=Mark(time_us=9, region="eu-west-1", etag="aa-2")).stamp == Stamp(
        9, "eu-west-1", "aa-2"
    )
    amended = Mark(time_us=5, region="eu-west-1", etag="aa", amended_us=8, amended_in="us-east-1")
    assert look(etag="aa", note=ours, mark=amended).amended == (8, "us-east-1")
    # A mark that is about an earlier object says nothing, though the content be the same.
    assert look(etag="aa", note=ours, mark=Mark(time_us=4, region="us-east-1", etag="aa")).stamp == Stamp(
        5, "eu-west-1", "aa"
    )
    assert look(etag="bb", note=ours, mark=amended).amended == (0, "")


def test_what_was_written_behind_our_back_is_newer_than_what_it_followed() -> None:
    assert look(etag="aa").stamp == Stamp(NOW - 5, "eu-west-1", "aa")
    assert look(etag="aa", modified_us=NOW + 10**12).stamp == Stamp(NOW, "eu-west-1", "aa")
    tombstone = Mark(time_us=NOW - 2, region="us-east-1", deleted=True)
    found = look(etag="aa", mark=tombstone)
    assert found.stamp == Stamp(NOW - 1, "eu-west-1", "aa")
    assert found.adopted
    # Once adopted it stays what it is.
    again = look(etag="aa", mark=mark_of(found))
    assert (again.stamp, again.version, again.adopted) == (found.stamp, found.version, False)


@given(st.integers(0, 2 * NOW), st.integers(0, 2 * NOW), amendments)
def test_a_write_is_later_than_all_it_follows(now_us: int, time_us: int, amended: tuple[int, str]) -> None:
    known = Known(etag="aa", stamp=Stamp(time_us, "us-east-1", "aa"), amended=amended)
    assert known.next_us(now_us) > max(time_us, amended[0])
    assert known.next_us(now_us) >= now_us
    assert Known().next_us(now_us) == now_us


@given(st.lists(st.tuples(stamps, amendments), max_size=6))
def test_whatever_the_order_of_arrival_the_newest_is_what_the_key_is(
    arrivals: list[tuple[Stamp, tuple[int, str]]],
) -> None:
    def after(order: tuple[tuple[Stamp, tuple[int, str]], ...]) -> tuple[Stamp | None, tuple[int, str]]:
        known = Known()
        for stamp, amended in order:
            match decide(known, stamp, amended):
                case "replace":
                    known = Known(etag=stamp.etag or None, stamp=stamp, amended=amended)
                case "amend":
                    known = Known(etag=known.etag, stamp=known.stamp, amended=amended)
        return known.stamp, known.amended if known.etag is not None else (0, "")

    found = {after(order) for order in itertools.islice(itertools.permutations(arrivals), 24)}
    assert len(found) <= 1
    if arrivals:
        [(stamp, amended)] = found
        assert stamp == max(each for each, _ in arrivals)
        if stamp is not None and stamp.etag:
            assert amended == max(each for of, each in arrivals if of == stamp)
    for stamp, amended in arrivals:  # and what comes twice changes nothing
        known = Known(etag=stamp.etag or None, stamp=stamp, amended=amended)
        assert decide(known, stamp, amended) == "had"


layers = st.lists(
    st.builds(Layer, id=st.uuids().map(str), stamp=st.none() | stamps, noted=st.booleans()), max_size=6
)  # fmt: skip


@given(layers)
def test_only_what_nearpoint_put_on_top_of_something_newer_is_taken_away(found: list[Layer]) -> None:
    wrong = misplaced(found)
    if wrong is None:
        return
    assert wrong == found[0].id
    assert found[0].noted
    stamp = found[0].stamp
    assert stamp is not None
    assert any(each.stamp is not None and each.stamp > stamp for each in found[1:])


@given(layers)
def test_putting_right_ends_with_the_newest_on_top(found: list[Layer]) -> None:
    noted = [Layer(id=each.id, stamp=each.stamp, noted=True) for each in found if each.stamp is not None]
    newest = max((each.stamp for each in noted if each.stamp is not None), default=None)
    while (wrong := misplaced(noted)) is not None:
        noted = [each for each in noted if each.id != wrong]
    assert (noted[0].stamp if noted else None) == newest


def test_ids_follow_from_the_write() -> None:
    stamp = Stamp(1, "us-east-1", "aa")
    assert version_of(stamp, "k") == version_of(stamp, "k")
    assert version_of(stamp, "k") != version_of(stamp, "l")
    assert bare('"aa"') == "aa"
    assert bare(None) == ""
