"""From a stored or arriving answer to what this viewer asked for: conditions, ranges, HEAD, and the edge's fields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from nearpoint.edge.conditional import Condition, check_conditions, choose_part
from nearpoint.edge.entry import Entry, Parts, decode_fields
from nearpoint.edge.fill import Fill
from nearpoint.edge.visit import Answer
from nearpoint.wire.message import Body, Headers, Request, Response, StreamBody
from nearpoint.wire.ranges import Span, content_range, unsatisfied_range

CACHE_NAME = "nearpoint"
Fields = list[tuple[str, str]]
# Reads a body that is kept in parts: from this byte on, so many bytes.
PartsOf = Callable[[int, int], Body]
_NOT_IN_304 = frozenset({"content-type", "content-encoding", "content-language", "content-disposition"})
# Without any of these fields a request gets all there is.
_SHAPING = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range"})


def fields_304(fields: Fields) -> Fields:
    """The fields that go with a 304 (RFC 9110 §15.4.5): none that describe a body that isn't sent."""
    return [(name, value) for name, value in fields if name.lower() not in _NOT_IN_304]


def from_entry(
    request: Request,
    entry: Entry,
    *,
    now: float,
    result: str,
    note: str,
    parts: PartsOf | None = None,
    fields: Fields | None = None,
) -> Answer:
    """The answer from a stored entry. `parts` reads a body that is kept in parts; `fields` are the entry's, if they
    are at hand."""
    read = entry.part if parts is None or not isinstance(entry.body, Parts) else parts
    if fields is None:
        fields = decode_fields(entry.fields)
    answer = shaped(request, entry.status, fields, len(entry.body))
    if isinstance(answer, Span):
        part = answer
        answer = Answer(status=206, fields=[*fields, ("Content-Range", content_range(part, len(entry.body)))])
        _give(answer, request, read, part.first, part.length)
    elif answer is None:
        answer = Answer(status=entry.status, fields=fields)
        _give(answer, request, read, 0, len(entry.body))
    answer.result, answer.status_note, answer.age_s = result, note, entry.age_s(now)
    return answer


def from_fill(request: Request, status: int, fields: Fields, fill: Fill, *, result: str, note: str) -> Answer:
    """The answer from a body that is still arriving. Only while the fill is whole."""
    answer = shaped(request, status, fields, fill.length)
    if isinstance(answer, Span):
        part = answer
        answer = Answer(status=206, fields=[*fields, ("Content-Range", content_range(part, fill.length))])
        _give(answer, request, fill.reader, part.first, part.length)
    elif answer is None:
        answer = Answer(status=status, fields=fields)
        _give(answer, request, fill.reader, 0, fill.length)
    answer.result, answer.status_note = result, note
    return answer


def shaped(request: Request, status: int, fields: Fields, size: int | None) -> Answer | Span | None:
    """What the request's conditions and range make of a whole answer.

    An Answer (304, 412, 416) without a body, the span to send, or None: all of it.
    """
    if status != 200 or request.method not in ("GET", "HEAD") or _SHAPING.isdisjoint(request.headers.by_name()):
        return None
    headers = Headers(fields)
    condition = check_conditions(request.headers, headers)
    if condition is Condition.NOT_MODIFIED:
        return Answer(status=304, fields=fields_304(fields))
    if condition is Condition.FAILED:
        return Answer(status=412, fields=[])
    if size is None or request.method != "GET":
        return None
    part = choose_part(request.headers, headers, size)
    if part == "unsatisfiable":
        return Answer(status=416, fields=[("Content-Range", unsatisfied_range(size))])
    return part


def _give(answer: Answer, request: Request, read: Callable[[int, Any], Body], first: int, length: int | None) -> None:
    if request.method == "HEAD":
        answer.content_length = length
    else:
        answer.body = read(first, length)


def part_of(body: Body, span: Span) -> Body:
    """The bytes of a span of a body that is read only once; what lies before it is dropped."""

    async def chunks() -> AsyncIterator[bytes]:
        skip, left = span.first, span.length
        async for chunk in body:
            piece = chunk[skip : skip + left]
            skip = max(0, skip - len(chunk))
            if piece:
                left -= len(piece)
                yield piece
            if not left:
                return

    return StreamBody(chunks(), span.length, body.close)


def head_bytes(answer: Answer) -> int:
    """About how many bytes an answer's head takes on the wire."""
    size = 300
    for name, value in answer.fields:
        size += len(name) + len(value) + 4
    return size


def viewer_response(answer: Answer, *, request_id: str, pop: str) -> Response:
    """The response as the viewer sees it: the answer with the edge's own fields, in CloudFront's words."""
    fields = [
        *answer.fields,
        ("X-Cache", f"{answer.result} from cloudfront"),
        ("X-Amz-Cf-Pop", pop),
        ("X-Amz-Cf-Id", request_id),
    ]
    if answer.status_note:
        fields.append(("Cache-Status", f"{CACHE_NAME}; {answer.status_note}"))
    headers = Headers(fields)
    if answer.content_length is not None:
        headers.set("Content-Length", str(answer.content_length))
    if answer.age_s is not None:
        headers.set("Age", str(answer.age_s))
    return Response(answer.status, headers, answer.body)
