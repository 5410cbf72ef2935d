"""What a presigned URL says in its query that is a header field otherwise.

Whoever makes a presigned URL may move the `x-amz-` fields of the request into its query, and S3 takes them from there
(S3 API Reference, "Authenticating requests: using query parameters"). They are moved back, so that policies, limits and
stores all look in one place.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.forward import SIGNATURE_PARAMETERS
from nearpoint.wire.message import Headers, Request

_PREFIX = "x-amz-"


def unhoisted(request: Request) -> Request:
    """The request, its `x-amz-` parameters as header fields but for those of the signature; the same one without any.

    Raises InvalidArgument where a field is there both ways, or its value is none that a field can have.
    """
    path, _, query = request.target.partition("?")
    moved: list[tuple[str, str]] = []
    kept: list[str] = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        field = unquote_to_bytes(name).decode("latin-1").lower()
        if field.startswith(_PREFIX) and field not in SIGNATURE_PARAMETERS:
            moved.append((field, _field_value(field, value)))
        else:
            kept.append(part)
    if not moved:
        return request
    fields = set(request.headers.by_name())
    for field, _ in moved:
        if field in fields:
            raise _refused(field, f"{field} may be given only once, as a header or as a parameter.")
        fields.add(field)
    rest = "&".join(kept)
    return Request(
        request.method,
        f"{path}?{rest}" if rest else path,
        Headers([*request.headers, *moved]),
        request.body,
        scheme=request.scheme,
        client_ip=request.client_ip,
        peer=request.peer,
    )


def _field_value(field: str, value: str) -> str:
    text = unquote_to_bytes(value).decode("latin-1").strip(" \t")
    if any((ord(character) < 0x20 and character != "\t") or ord(character) == 0x7F for character in text):
        raise _refused(field, f"The value of {field} is none that a header can have.")
    return text


def _refused(field: str, why: str) -> AwsError:
    return AwsError("InvalidArgument", why, extra={"ArgumentName": field[:100]})
