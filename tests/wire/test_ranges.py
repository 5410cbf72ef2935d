"""Ranges: tables from RFC 9110 §14, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire.ranges import (
    RANGES_MAX,
    ContentRange,
    RangeSpec,
    Span,
    content_range,
    parse_content_range,
    parse_range,
    parse_specs,
    unsatisfied_range,
)


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-4", [(0, 4)]),
        ("bytes=0-0", [(0, 0)]),
        ("bytes=9-", [(9, 9)]),
        ("bytes=5-100", [(5, 9)]),
        ("bytes=-3", [(7, 9)]),
        ("bytes=-100", [(0, 9)]),
        ("Bytes=0-1", [(0, 1)]),
        ("bytes= 0-1 , 3-4,", [(0, 1), (3, 4)]),
        ("bytes=7-8,0-1,0-1", [(7, 8), (0, 1), (0, 1)]),
        ("bytes=0-1,20-30", [(0, 1)]),
        ("bytes=10-", []),
        ("bytes=10-12", []),
        ("bytes=-0", []),
        ("bytes=9999999999999999999-", []),
    ],
)
def test_of_ten_bytes(value: str, spans: list[tuple[int, int]]) -> None:
    assert parse_range(value, 10) == [Span(first, last) for first, last in spans]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=4-2",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1 - 2",
        "bytes=\u0661-2",
        "bytes=0-1;2-3",
        "bytes=0-1,x",
        "bytes 0-1",
        "items=0-1",
        "bytes=" + "1" * 30 + "-",
        "bytes=" + ",".join(["0-0"] * (RANGES_MAX + 1)),
        "bytes=" + "," * 100_000,
    ],
)
def test_ignored(value: str | None) -> None:
    assert parse_range(value, 10) is None


def test_nothing_of_nothing() -> None:
    assert parse_range("bytes=0-", 0) == []
    assert parse_range("bytes=-1", 0) == []


def test_specs_write_themselves() -> None:
    specs = parse_specs("bytes=0-1,5-,-7")
    assert specs == (RangeSpec(0, 1), RangeSpec(5, None), RangeSpec(None, 7))
    assert "bytes=" + ",".join(map(str, specs)) == "bytes=0-1,5-,-7"


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_span_lies_within_what_exists_and_what_was_asked(first: int, last: int | None, size: int) -> None:
    spans = parse_range(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert spans is None
        return
    assert spans is not None
    data = range(size)
    wanted = data[first : None if last is None else last + 1]
    assert [position for span in spans for position in (span.first, span.last)] == (
        [wanted[0], wanted[-1]] if wanted else []
    )
    assert sum(span.length for span in spans) == len(wanted)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_suffix_is_the_end(length: int, size: int) -> None:
    spans = parse_range(f"bytes=-{length}", size)
    wanted = range(size)[max(0, size - length) :]
    assert spans == ([Span(wanted[0], wanted[-1])] if wanted else [])


@given(st.text(max_size=30))
def test_any_text_is_survived(text: str) -> None:
    for value in (text, "bytes=" + text):
        for span in parse_range(value, 100) or []:
            assert 0 <= span.first <= span.last < 100


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-4/10", ContentRange(Span(0, 4), 10)),
        ("bytes 0-4/*", ContentRange(Span(0, 4), None)),
        ("bytes */10", ContentRange(None, 10)),
        ("bytes */*", None),
        ("bytes 4-0/10", None),
        ("bytes 0-10/10", None),
        ("bytes=0-4/10", None),
        ("bytes 0-4", None),
        ("items 0-4/10", None),
        ("", None),
    ],
)
def test_content_range(value: str, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.none() | st.integers(1, 2**60))
def test_content_range_both_ways(first: int, more: int, beyond: int | None) -> None:
    span = Span(first, first + more)
    size = None if beyond is None else span.last + beyond
    assert parse_content_range(content_range(span, size)) == ContentRange(span, size)
    assert parse_content_range(unsatisfied_range(more)) == ContentRange(None, more)
