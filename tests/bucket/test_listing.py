"""Pages of a listing against a naive model that holds everything in memory."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.bucket.listing import Page, Position, Row, after_marker, read_page, rolled_up

KEYS = st.lists(
    st.text(alphabet="ab/-\u00e9\U0001f642", max_size=5).map(str.encode).filter(bool), unique=True, max_size=60
).map(sorted)
TEXTS = st.text(alphabet="ab/-\u00e9", max_size=2).map(str.encode)


def _seek_in(rows: list[Row]):  # type: ignore[no-untyped-def]
    def seek(position: Position, end: bytes | None) -> Iterator[Row]:
        for row in rows:
            if end is not None and row[0] >= end:
                return
            if row[0] > position.key or (
                row[0] == position.key and (position.below is None or row[1] < position.below)
            ):
                yield row

    return seek


def _naive(rows: list[Row], prefix: bytes, delimiter: bytes) -> list[Row | bytes]:
    entries: list[Row | bytes] = []
    for row in rows:
        if row[0].startswith(prefix):
            rolled = rolled_up(row[0], prefix, delimiter)
            if rolled is None:
                entries.append(row)
            elif not entries or entries[-1] != rolled:
                entries.append(rolled)
    return entries


def _entries(page: Page) -> list[Row | bytes]:
    return sorted(
        [*page.rows, *page.prefixes],
        key=lambda entry: (entry, 0) if isinstance(entry, bytes) else (entry[0], -entry[1]),
    )


@settings(max_examples=300)
@given(
    keys=KEYS,
    prefix=TEXTS,
    delimiter=st.sampled_from([b"", b"/", b"-", b"ab", "é".encode()]),
    limit=st.integers(1, 7),
    versions=st.integers(1, 3),
)
def test_pages_add_up_to_the_whole(
    keys: list[bytes], prefix: bytes, delimiter: bytes, limit: int, versions: int
) -> None:
    rows: list[Row] = [(key, ordinal) for key in keys for ordinal in range(versions, 0, -1)]
    expected = _naive(rows, prefix, delimiter)
    found: list[Row | bytes] = []
    position: Position | None = Position(prefix)
    while position is not None:
        page = read_page(_seek_in(rows), prefix=prefix, delimiter=delimiter, start=position, limit=limit)
        entries = _entries(page)
        assert len(entries) <= limit
        assert page.next is None or len(entries) == limit
        found += entries
        position = page.next
    assert found == expected


@given(keys=KEYS, prefix=TEXTS, marker=TEXTS)
def test_a_marker_is_exclusive_and_a_prefix_is_left_whole(keys: list[bytes], prefix: bytes, marker: bytes) -> None:
    rows: list[Row] = [(key, 1) for key in keys]
    start = after_marker(marker, prefix, b"/")
    page = read_page(_seek_in(rows), prefix=prefix, delimiter=b"/", start=start, limit=1000)
    left = rolled_up(marker, prefix, b"/") == marker and marker.startswith(prefix)
    kept = [row for row in rows if row[0] > marker and not (left and row[0].startswith(marker))]
    assert _entries(page) == _naive(kept, prefix, b"/")
    assert page.next is None


def test_a_common_prefix_costs_a_seek_not_a_walk() -> None:
    rows: list[Row] = [(b"dir%d/%06d" % (directory, at), 1) for directory in range(3) for at in range(5000)]
    walked = 0

    def seek(position: Position, end: bytes | None) -> Iterator[Row]:
        nonlocal walked
        for row in _seek_in(rows)(position, end):
            walked += 1
            yield row

    page = read_page(seek, prefix=b"", delimiter=b"/", start=Position(b""), limit=1000)
    assert page.prefixes == [b"dir0/", b"dir1/", b"dir2/"]
    assert walked < 50
