"""Applies what a function gave back: a changed request, a generated response, or a changed response.

Pure: the value comes in as decoded JSON. Whatever CloudFront's validation refuses raises RejectedError with the reason.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Literal

from nearpoint.functions.event import bytes_max, describe_origin, shown_text
from nearpoint.functions.headers import EventType, apply_map, checked_response_map, from_map, is_forbidden
from nearpoint.functions.origin import CustomOrigin, Origin, S3Origin
from nearpoint.functions.outcome import Continue, RejectedError, Respond
from nearpoint.wire.message import Body, BytesBody, Headers, Request, Response

# What may stand in a request target: anything else would end it, or split the message (RFC 9112 §3).
_TARGET = re.compile(r"[\x21\x24-\x7e\x22\x80-\xff]*")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SSL_PROTOCOLS = frozenset({"TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1", "SSLv3"})
_ORIGIN_PATH_CHARS_MAX = 255
_ORIGIN_TIMEOUT_S_MAX = 180


def apply_request_result(
    event_type: EventType,
    request: Request,
    value: Any,
    *,
    origin: Origin | None = None,
    body_included: bool = False,
) -> Continue | Respond:
    """The outcome of a request trigger whose function gave back `value`.

    Raises RejectedError for a value that is neither a request nor a response, or that breaks a rule.
    """
    if not isinstance(value, dict):
        raise RejectedError("malformed", f"the function returned {_kind(value)}, not a request or a response")
    if "status" in value:
        return Respond(response=_generated(event_type, value))
    if "uri" not in value:
        raise RejectedError("malformed", "the result has neither status nor uri: neither a response nor a request")
    return _changed_request(event_type, request, value, origin, body_included)


def apply_response_result(
    event_type: EventType, request: Request, response: Response, value: Any, *, origin: Origin | None = None
) -> Continue:
    """The outcome of a response trigger whose function gave back `value`.

    An origin-response may change status, headers and body; a viewer-response headers alone. Raises RejectedError.
    """
    if not isinstance(value, dict) or "status" not in value:
        raise RejectedError("malformed", f"the function returned {_kind(value)}, not a response")
    status = _status(value["status"])
    if status != response.status and event_type == "viewer-response":
        raise RejectedError("field-read-only", "a viewer-response function may not change the status")
    headers, altered = apply_map(response.headers, value.get("headers", {}), event_type)
    changed = [f"header:{name}" for name in altered]
    body: Body = response.body
    # The body that stays is framed as it came, whatever the function made of its length.
    _restore(headers, response.headers, "content-length")
    if value.get("body") is not None:
        if event_type == "viewer-response":
            raise RejectedError("field-read-only", "a viewer-response function may not change the body")
        data = _generated_body(event_type, value, headers)
        body = BytesBody(data)
        headers.set("Content-Length", str(len(data)))
        changed.append("body")
    if status != response.status:
        changed.append("status")
    return Continue(request=request, origin=origin, response=Response(status, headers, body), changed=tuple(changed))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _restore(headers: Headers, before: Headers, name: str) -> None:
    value = before.get(name)
    if value is None:
        headers.remove(name)
    elif headers.get(name) != value:
        headers.set(name, value)


# ── a generated response ─────────────────────────────────────────────────────────────────────────────────────────────


def _status(value: Any) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or re.fullmatch(r"[2-5][0-9]{2}", text) is None:
        raise RejectedError("malformed", f"status {value!r:.40} is not within 200 and 599")
    return int(text)


def _generated(event_type: EventType, value: dict[str, Any]) -> Response:
    status = _status(value["status"])
    if not isinstance(value.get("statusDescription", ""), str | None):
        raise RejectedError("malformed", "statusDescription is not a string")
    headers = checked_response_map(value.get("headers"))
    body = _generated_body(event_type, value, headers)
    return Response(status, headers, body)


def _generated_body(event_type: EventType, value: dict[str, Any], headers: Headers) -> bytes:
    encoding = value.get("bodyEncoding", "text")
    data = b"" if value.get("body") is None else _decoded(value["body"], encoding, "bodyEncoding")
    size = len(data) + sum(len(name) + len(text) + 4 for name, text in headers)
    if size > bytes_max(event_type):
        raise RejectedError(
            "too-large", f"the response has {size} bytes, {bytes_max(event_type)} allowed in {event_type}"
        )
    return data


def _decoded(data: Any, encoding: Any, field: str) -> bytes:
    if not isinstance(data, str):
        raise RejectedError("malformed", "body is not a string")
    if encoding == "text":
        # JSON can carry half of a surrogate pair, which is no text.
        return data.encode("utf-8", "replace")
    if encoding == "base64":
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise RejectedError("malformed", "body is not valid base64") from None
    raise RejectedError("malformed", f"{field} is neither text nor base64")


# ── a changed request ────────────────────────────────────────────────────────────────────────────────────────────────


def _changed_request(
    event_type: EventType, request: Request, value: dict[str, Any], origin: Origin | None, body_included: bool
) -> Continue:
    if value.get("method", request.method) != request.method:
        raise RejectedError("method-changed", "the function changed the method, which is read-only")
    if value.get("clientIp", request.client_ip) != request.client_ip:
        raise RejectedError("field-read-only", "the function changed clientIp, which is read-only")
    # What came over the wire is passed on as it came, whatever it holds; what the function wrote has to be valid.
    path, query = request.path, request.query
    if value["uri"] != shown_text(path):
        path = _path(value["uri"])
    if value.get("querystring", shown_text(query)) != shown_text(query):
        query = _target_text(value["querystring"], "querystring")
    headers, altered = apply_map(request.headers, value.get("headers", {}), event_type)
    changed = [f"header:{name}" for name in altered]
    if path != request.path:
        changed.append("uri")
    if query != request.query:
        changed.append("querystring")
    body: Body = request.body
    replacement = _replacement(event_type, value.get("body"), body_included)
    if replacement is not None:
        changed.append("body")
        body = BytesBody(replacement)
        headers.set("Content-Length", str(len(replacement)))
        headers.remove("transfer-encoding")
    new_origin = origin
    if origin is not None and value.get("origin") is not None and value["origin"] != describe_origin(origin):
        new_origin = read_origin(value["origin"])
        changed.append("origin")
    target = request.target
    if (path, query) != (request.path, request.query):
        target = f"{path}?{query}" if query else path
    made = Request(request.method, target, headers, body, scheme=request.scheme, client_ip=request.client_ip)
    return Continue(request=made, origin=new_origin, changed=tuple(changed))


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "?" in value:
        raise RejectedError("malformed", "uri does not begin with a slash, or has a question mark")
    return _target_text(value, "uri")


def _target_text(value: Any, field: str) -> str:
    """What a function wrote, as on the wire: it writes UTF-8 ("Restrictions on all edge functions", encoding)."""
    if isinstance(value, str):
        wire = value.encode("utf-8", "replace").decode("latin-1")
        if _TARGET.fullmatch(wire) is not None:
            return wire
    raise RejectedError("malformed", f"{field} has a character that has to be percent-encoded")


def _replacement(event_type: EventType, body: Any, body_included: bool) -> bytes | None:
    if body is None:
        return None
    if not isinstance(body, dict) or body.get("action", "read-only") not in ("read-only", "replace"):
        raise RejectedError("malformed", "body.action is neither read-only nor replace")
    if body.get("action", "read-only") == "read-only":
        return None
    if not body_included:
        raise RejectedError("body-not-included", "the function replaced the body, but IncludeBody is off")
    data = _decoded(body.get("data", ""), body.get("encoding", "base64"), "body.encoding")
    if len(data) > bytes_max(event_type):
        raise RejectedError("too-large", f"the body has {len(data)} bytes, {bytes_max(event_type)} allowed")
    return data


# ── a changed origin ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_origin(raw: Any) -> Origin:
    """Reads an `origin` object that a function gave back: exactly one of `custom` and `s3`. Raises RejectedError."""
    kinds = [kind for kind in ("custom", "s3") if isinstance(raw, dict) and raw.get(kind) is not None]
    if len(kinds) != 1 or not isinstance(raw[kinds[0]], dict):
        raise RejectedError("malformed", "origin has to be exactly one object, custom or s3")
    fields = raw[kinds[0]]
    domain_name = _text(fields, "domainName", lambda text: _DOMAIN.fullmatch(text) is not None)
    path = _text(fields, "path", _is_origin_path, default="")
    custom_headers = tuple(pair for pairs in from_map(fields.get("customHeaders") or {}).values() for pair in pairs)
    for name, _ in custom_headers:
        if is_forbidden(name.lower()):
            raise RejectedError("header-forbidden", f"the function added {name} as a custom header of the origin")
    if kinds[0] == "s3":
        auth_method: Literal["origin-access-identity", "none"] = "none"
        if (
            _text(fields, "authMethod", lambda text: text in ("origin-access-identity", "none"), default="none")
            != "none"
        ):
            auth_method = "origin-access-identity"
        return S3Origin(
            domain_name=domain_name,
            region=_text(fields, "region", lambda text: re.fullmatch(r"[a-z0-9-]{0,40}", text) is not None, default=""),
            path=path,
            auth_method=auth_method,
            custom_headers=custom_headers,
        )
    protocol = _text(fields, "protocol", lambda text: text in ("http", "https"))
    ssl_protocols = fields.get("sslProtocols", ["TLSv1.2"])
    if not isinstance(ssl_protocols, list) or not all(
        isinstance(name, str) and name in _SSL_PROTOCOLS for name in ssl_protocols
    ):
        raise RejectedError("malformed", "origin.sslProtocols has something else than names of TLS versions")
    return CustomOrigin(
        domain_name=domain_name,
        path=path,
        port=_number(fields, "port", lambda port: port in (80, 443) or 1024 <= port <= 65535),
        protocol="https" if protocol == "https" else "http",
        read_timeout_s=_number(fields, "readTimeout", _is_timeout, default=30),
        keepalive_timeout_s=_number(fields, "keepaliveTimeout", _is_timeout, default=5),
        ssl_protocols=tuple(ssl_protocols),
        custom_headers=custom_headers,
    )


def _is_origin_path(text: str) -> bool:
    if text == "":
        return True
    return (
        text.startswith("/")
        and not text.endswith("/")
        and len(text) <= _ORIGIN_PATH_CHARS_MAX
        and "?" not in text
        and _TARGET.fullmatch(text) is not None
    )


def _is_timeout(seconds: int) -> bool:
    return 1 <= seconds <= _ORIGIN_TIMEOUT_S_MAX


def _text(fields: dict[str, Any], name: str, valid: Callable[[str], bool], default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str) or not valid(value):
        raise RejectedError("malformed", f"origin.{name} is not valid")
    return value


def _number(fields: dict[str, Any], name: str, valid: Callable[[int], bool], default: int | None = None) -> int:
    value = fields.get(name, default)
    # JavaScript has one kind of number, and functions are ported from it.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not valid(value):
        raise RejectedError("malformed", f"origin.{name} is not valid")
    return value
