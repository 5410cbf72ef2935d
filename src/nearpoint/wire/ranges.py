"""Byte ranges: which bytes are asked for, which of them exist, how the answer names them (RFC 9110 §14)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# More ranges than this are an attack (RFC 9110 §17.15); the field is then ignored.
RANGES_MAX = 100

_SPEC = re.compile(r"(\d{0,19})-(\d{0,19})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """One range as asked for: `first` to `last` inclusive, to the end where `last` is None; the final `last` bytes
    where `first` is None."""

    first: int | None
    last: int | None

    def __str__(self) -> str:
        return f"{'' if self.first is None else self.first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that exist, `first` to `last`, both inclusive."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a Content-Range says: the span (None in a 416) and the complete size (None where it says `*`)."""

    span: Span | None
    size: int | None


def parse_specs(value: str) -> tuple[RangeSpec, ...] | None:
    """The ranges of a Range field in order, or None for one that has to be ignored: another unit, or malformed."""
    unit, mark, rest = value.partition("=")
    if not mark or unit.strip(" \t").lower() != "bytes" or rest.count(",") > 2 * RANGES_MAX:
        return None
    specs: list[RangeSpec] = []
    for piece in rest.split(","):
        text = piece.strip(" \t")
        if not text:
            continue
        match = _SPEC.fullmatch(text)
        if match is None or text == "-":
            return None
        first = int(match[1]) if match[1] else None
        last = int(match[2]) if match[2] else None
        if first is not None and last is not None and first > last:
            return None
        specs.append(RangeSpec(first, last))
    return tuple(specs) if specs and len(specs) <= RANGES_MAX else None


def satisfiable(specs: Sequence[RangeSpec], size: int) -> list[Span]:
    """The spans of `size` bytes that the ranges name, in their order; those outside are left out."""
    spans: list[Span] = []
    for spec in specs:
        if spec.first is None:
            wanted = min(spec.last or 0, size)
            if wanted:
                spans.append(Span(size - wanted, size - 1))
        elif spec.first < size:
            spans.append(Span(spec.first, size - 1 if spec.last is None else min(spec.last, size - 1)))
    return spans


def parse_range(value: str | None, size: int) -> list[Span] | None:
    """What a Range field asks of a representation of `size` bytes.

    None: no range, or one to ignore (answer 200 with the whole); an empty list: none can be satisfied (416); one span
    or more: 206. S3 answers only single ranges: see `len(parse_specs(value))`.
    """
    specs = parse_specs(value) if value is not None else None
    return None if specs is None else satisfiable(specs, size)


def content_range(span: Span, size: int | None) -> str:
    """The Content-Range of a 206; `size` None where the complete size is not known."""
    return f"bytes {span.first}-{span.last}/{'*' if size is None else size}"


def unsatisfied_range(size: int) -> str:
    """The Content-Range of a 416."""
    return f"bytes */{size}"


def parse_content_range(value: str) -> ContentRange | None:
    """What a Content-Range says, or None for one that is malformed or contradicts itself."""
    match = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    size = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return None if size is None else ContentRange(None, size)
    span = Span(int(match[1]), int(match[2]))
    if span.first > span.last or (size is not None and span.last >= size):
        return None
    return ContentRange(span, size)
