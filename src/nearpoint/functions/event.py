"""Builds the event that a function is called with (CloudFront Developer Guide, "Lambda@Edge event structure")."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from nearpoint.functions.headers import EventType, to_map
from nearpoint.functions.origin import CustomOrigin, Origin, S3Origin
from nearpoint.wire.message import Request, Response

# "Quotas on Lambda@Edge": what is handed over of a request body and the most a generated response may have.
VIEWER_BYTES_MAX = 40 * 1024
ORIGIN_BYTES_MAX = 1024 * 1024


def bytes_max(event_type: EventType) -> int:
    """The bytes of a body handed over, put in its place, or of a generated response, headers included."""
    return VIEWER_BYTES_MAX if event_type.startswith("viewer") else ORIGIN_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class EventConfig:
    """What an event says about the distribution. `request_id` becomes the origin request's `X-Amz-Cf-Id`."""

    distribution_domain: str
    distribution_id: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPart:
    """The start of a request body, as far as it is handed over; `truncated` when there is more."""

    data: bytes
    truncated: bool = False


def request_event(
    event_type: EventType,
    config: EventConfig,
    request: Request,
    *,
    origin: Origin | None = None,
    body: BodyPart | None = None,
) -> dict[str, Any]:
    """The event of a request trigger. `origin` only for origin-request, `body` only with IncludeBody."""
    return _event(event_type, config, request=_request(request, origin, body))


def response_event(
    event_type: EventType,
    config: EventConfig,
    request: Request,
    response: Response,
    *,
    origin: Origin | None = None,
    status_description: str = "",
) -> dict[str, Any]:
    """The event of a response trigger. `origin` only for origin-response. A response's body is never shown."""
    return _event(
        event_type,
        config,
        request=_request(request, origin, None),
        response={
            "status": str(response.status),
            "statusDescription": status_description,
            "headers": to_map(response.headers),
        },
    )


def _event(event_type: EventType, config: EventConfig, **parts: Any) -> dict[str, Any]:
    described = {
        "distributionDomainName": config.distribution_domain,
        "distributionId": config.distribution_id,
        "eventType": event_type,
        "requestId": config.request_id,
    }
    return {"Records": [{"cf": {"config": described, **parts}}]}


def _request(request: Request, origin: Origin | None, body: BodyPart | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "clientIp": request.client_ip,
        "headers": to_map(request.headers),
        "method": request.method,
        "querystring": shown_text(request.query),
        "uri": shown_text(request.path),
    }
    if origin is not None:
        described["origin"] = describe_origin(origin)
    if body is not None:
        described["body"] = {
            "inputTruncated": body.truncated,
            "action": "read-only",
            "encoding": "base64",
            "data": base64.b64encode(body.data).decode(),
        }
    return described


def shown_text(wire: str) -> str:
    """A path or query as a function sees it: UTF-8 where the wire has bytes beyond ASCII and they are that."""
    if wire.isascii():
        return wire
    try:
        return wire.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return wire


def describe_origin(origin: Origin) -> dict[str, Any]:
    """The `origin` object of an event."""
    custom_headers: dict[str, list[dict[str, str]]] = {}
    for name, value in origin.custom_headers:
        custom_headers.setdefault(name.lower(), []).append({"key": name, "value": value})
    match origin:
        case CustomOrigin():
            return {
                "custom": {
                    "customHeaders": custom_headers,
                    "domainName": origin.domain_name,
                    "keepaliveTimeout": origin.keepalive_timeout_s,
                    "path": origin.path,
                    "port": origin.port,
                    "protocol": origin.protocol,
                    "readTimeout": origin.read_timeout_s,
                    "sslProtocols": list(origin.ssl_protocols),
                }
            }
        case S3Origin():
            return {
                "s3": {
                    "authMethod": origin.auth_method,
                    "customHeaders": custom_headers,
                    "domainName": origin.domain_name,
                    "path": origin.path,
                    "region": origin.region,
                }
            }
