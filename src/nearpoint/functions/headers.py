"""Which headers a function may touch, and how a header map becomes fields and back.

CloudFront Developer Guide, "Restrictions on all edge functions": some fields are never shown to a function and it may
not add them; others it may read and must give back as they were.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from nearpoint.functions.outcome import RejectedError
from nearpoint.wire.message import Headers

EventType = Literal["viewer-request", "origin-request", "origin-response", "viewer-response"]

FORBIDDEN = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "trailer",
        "upgrade",
        "x-cache",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
FORBIDDEN_PREFIXES = ("x-accel-", "x-amz-cf-", "x-amzn-", "x-edge-")
READ_ONLY: dict[EventType, frozenset[str]] = {
    "viewer-request": frozenset({"content-length", "host", "transfer-encoding", "via"}),
    "origin-request": frozenset(
        {
            "accept-encoding",
            "content-length",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "transfer-encoding",
            "via",
        }
    ),
    "origin-response": frozenset({"transfer-encoding", "via"}),
    "viewer-response": frozenset({"via", "warning"}),
}

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 §5.5; every other control character could split the message or be cut by a peer.
_VALUE_BAD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_forbidden(lowered_name: str) -> bool:
    """Whether a function is neither shown this field nor may add it."""
    return lowered_name in FORBIDDEN or lowered_name.startswith(FORBIDDEN_PREFIXES)


def to_map(headers: Headers) -> dict[str, list[dict[str, str]]]:
    """The `headers` object of an event: lower-case name to the fields of that name, forbidden ones left out."""
    out: dict[str, list[dict[str, str]]] = {}
    for name, value in headers:
        lowered = name.lower()
        field = {"key": name, "value": value}
        have = out.get(lowered)
        if have is not None:
            have.append(field)
        elif not is_forbidden(lowered):
            out[lowered] = [field]
    return out


def title_case(lowered_name: str) -> str:
    """`content-type` → `Content-Type`: the spelling of a header whose `key` was left out."""
    return "-".join(part[:1].upper() + part[1:] for part in lowered_name.split("-"))


def from_map(raw: Any) -> dict[str, list[tuple[str, str]]]:
    """Reads a `headers` object that a function gave back: lower-case name to (name, value) pairs.

    A field is an object with `value` and perhaps `key`; a bare string, or a list of strings, is taken as well.
    Raises RejectedError for what is no header.
    """
    if not isinstance(raw, dict):
        raise RejectedError("malformed", "headers is not an object")
    out: dict[str, list[tuple[str, str]]] = {}
    for name, entries in raw.items():
        lowered = name.lower()
        fields = entries if isinstance(entries, list) else [entries]
        pairs = [_field(lowered, field) for field in fields]
        if pairs:
            out.setdefault(lowered, []).extend(pairs)
    return out


def _field(lowered: str, field: Any) -> tuple[str, str]:
    if isinstance(field, str):
        field = {"value": field}
    if not isinstance(field, dict):
        raise RejectedError("malformed", f"header {lowered} has an entry that is not an object")
    key, value = field.get("key"), field.get("value")
    if not isinstance(value, str):
        raise RejectedError("malformed", f"header {lowered} has an entry without a value string")
    if key is None:
        key = title_case(lowered)
    if not isinstance(key, str) or key.lower() != lowered:
        raise RejectedError("malformed", f"header {lowered} has an entry whose key is not that name")
    if _NAME.fullmatch(key) is None:
        raise RejectedError("malformed", f"{key!r} is no header name")
    # The wire trims values; what it would trim is not part of one.
    value = value.strip(" \t")
    if _VALUE_BAD.search(value) or not _is_latin1(value):
        raise RejectedError("malformed", f"header {lowered} has a value with an invalid character")
    return key, value


def _is_latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def apply_map(before: Headers, raw: Any, event_type: EventType) -> tuple[Headers, list[str]]:
    """The headers after a function gave back `raw` for `before`, and the names of those that it altered.

    Fields it was not shown stay as they are; an untouched field keeps its place. Raises RejectedError for a forbidden
    or read-only field that differs.
    """
    if not isinstance(raw, dict):
        raise RejectedError("malformed", "headers is not an object")
    shown = to_map(before)
    kept = {name for name, entries in raw.items() if entries == shown.get(name)}
    new = from_map({name: entries for name, entries in raw.items() if name not in kept})
    if not kept.isdisjoint(new):  # the same name in two spellings
        kept, new = set(), from_map(raw)
    removed = shown.keys() - kept - new.keys()
    altered = []
    for name in (*new, *removed):
        values = [value for _, value in new.get(name, ())]
        if values == before.get_all(name):
            continue
        altered.append(name)
        if is_forbidden(name):
            raise RejectedError("header-forbidden", f"the function added or changed {name}, which no function may")
        if name in READ_ONLY[event_type]:
            what = "added" if name not in shown else "removed" if name in removed else "changed"
            raise RejectedError("header-read-only", f"the function {what} {name}, which is read-only in {event_type}")
    items: list[tuple[str, str]] = []
    for name, value in before:
        lowered = name.lower()
        if lowered in new:
            items.extend(new.pop(lowered))
            removed.add(lowered)
        elif lowered not in removed:
            items.append((name, value))
    for fields in new.values():
        items.extend(fields)
    return Headers(items), altered


def checked_response_map(raw: Any) -> Headers:
    """The headers of a response that a function made itself. Raises RejectedError for a forbidden one.

    `Content-Length` and `Transfer-Encoding` are left out: the server frames the body.
    """
    items: list[tuple[str, str]] = []
    for name, fields in from_map({} if raw is None else raw).items():
        if is_forbidden(name):
            raise RejectedError("header-forbidden", f"the function added {name}, which no function may")
        if name not in ("content-length", "transfer-encoding"):
            items.extend(fields)
    return Headers(items)
