"""What a server refuses by itself, before or beside S3's calls, in S3's words: code, status and XML (pure)."""

from __future__ import annotations

from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.service import load_service
from nearpoint.wire.exchange import RequestBodyError
from nearpoint.wire.message import BodyTooLargeError, Response

# The statuses that S3 has a code for, which takes a status of its own. The rest is a BadRequest.
_CODES = {
    408: "RequestTimeout",
    413: "EntityTooLarge",
    431: "RequestHeaderSectionTooLarge",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
}


def refusal(status: int, reason: str) -> AwsError:
    """The error that S3 would give, for what HTTP calls `status`."""
    code = _CODES.get(status)
    return AwsError("BadRequest", reason, status=status) if code is None else AwsError(code, reason)


def refusal_of_body(error: RequestBodyError | BodyTooLargeError) -> AwsError:
    """The error for a body that broke off, stood still, or is too long."""
    if isinstance(error, BodyTooLargeError):
        return refusal(413, "Your proposed upload exceeds the maximum allowed size.")
    return refusal(error.status, error.reason)


def error_page(status: int, reason: str, request_id: str) -> Response:
    """The answer for the server to give (`wire.server.Server`, `error`)."""
    return load_service("s3").error(refusal(status, reason), request_id)
