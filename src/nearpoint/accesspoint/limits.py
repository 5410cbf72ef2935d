"""What a request needs of a store, held against what the store would do wrong (pure).

A store that ignores a condition, takes a request for tags for the object's new content, or answers a version that
there is not, must not be asked such things: the request is refused with S3's NotImplemented and a sentence that says
why. The features and how they are found out are in `regions.trials`.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from nearpoint.accesspoint.authorize import Limits
from nearpoint.accesspoint.bulk_delete import BulkDelete
from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.routes import Route
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.conditions import fails, is_unchanged
from nearpoint.regions.integrity import Integrity
from nearpoint.regions.payload import Payload
from nearpoint.state.resources import StoreLimits
from nearpoint.wire.message import Headers, Request, Response

_NULL_VERSION = "null"  # what a bucket without versions calls its objects (S3 User Guide, "Versioning")
_SUBRESOURCES = {
    "acl": "ACLs",
    "attributes": "attributes",
    "legal-hold": "object lock",
    "retention": "object lock",
    "tagging": "tagging",
}
_OF_ANY = {"x-amz-tagging": "tagging"}
_PREFIX = "x-amz-"
_PREFIXES = (
    ("x-amz-copy-source-if-", "conditional copy"),
    ("x-amz-object-lock-", "object lock"),
    ("x-amz-server-side-encryption-customer-", "customer keys"),
)
_OF_EVERY_REQUEST = frozenset({"x-amz-content-sha256", "x-amz-date", "x-amz-region-set", "x-amz-security-token"})
_OF_WRITES = {"if-match": "conditional replace", "if-none-match": "conditional create"}
_OF_NOT_MODIFIED = ("cache-control", "etag", "expires", "last-modified")  # RFC 9110 §15.4.5
_OF_DELETES = {"if-match": "conditional delete"}


def needs(call: Call, request: Request) -> tuple[str, ...]:
    """The features that a store has to have for a call to be what it says, each once."""
    found: dict[str, None] = {}
    fields = list(request.headers.by_name())
    for part in request.query.split("&") if request.query else ():
        name, _, value = part.partition("=")
        name = unquote(name, encoding="latin-1")
        if name in _SUBRESOURCES:
            found[_SUBRESOURCES[name]] = None
        elif name == "versionId" and value != _NULL_VERSION:
            found["version ids"] = None
        elif name == "partNumber" and call.is_read:
            found["part reads"] = None
        else:
            fields.append(name.lower())  # what is a header field may stand in a presigned URL
    conditions = {} if call.is_read else _OF_DELETES if request.method == "DELETE" else _OF_WRITES
    for name in fields:
        if name in conditions:
            found[conditions[name]] = None
        elif name[:6] == _PREFIX and name not in _OF_EVERY_REQUEST:
            feature = _OF_ANY.get(name) or next((each for prefix, each in _PREFIXES if name.startswith(prefix)), None)
            if feature is not None:
                found[feature] = None
    if call.copy_source is not None and call.copy_source.version_query not in ("", f"?versionId={_NULL_VERSION}"):
        found["version ids"] = None
    return tuple(found)


def needs_of_bulk_delete(wanted: BulkDelete) -> tuple[str, ...]:
    """What the objects of a DeleteObjects need: a version's id is one thing, an `ETag` to match another."""
    found: dict[str, None] = {}
    for one in wanted.allowed:
        if one.version_id not in (None, _NULL_VERSION):
            found["version ids"] = None
        if any(name in ("ETag", "LastModifiedTime", "Size") for name, _ in one.fields):
            found["conditional delete"] = None
    return tuple(found)


def able(routes: tuple[Route, ...], wanted: Sequence[str], limits: Limits) -> tuple[Route, ...]:
    """The routes whose stores do all that is wanted. Raises NotImplemented when the first one does not, and
    ServiceUnavailable while that is not known."""
    if not wanted:
        return routes
    first = limits.get(routes[0].region)
    if first is not None:
        unknown = [feature for feature in wanted if not first.is_known or feature in first.unknown]
        if unknown:
            raise AwsError(
                "ServiceUnavailable",
                f"What the store of {first.region} does with this request ({', '.join(unknown)}) is being found out",
                headers={"Retry-After": "1"},
            )
        for feature in wanted:
            if feature in first.refused:
                raise AwsError(
                    "NotImplemented",
                    f"The store of {first.region} does not implement what this request needs ({feature}: "
                    f"{first.refused[feature]}), so it has not been asked",
                )
    return (routes[0], *(route for route in routes[1:] if _does(limits.get(route.region), wanted)))


def _does(limits: StoreLimits | None, wanted: Sequence[str]) -> bool:
    if limits is None:
        return True
    return limits.is_known and not any(feature in limits.refused or feature in limits.unknown for feature in wanted)


def mend(request: Request, response: Response, limits: StoreLimits) -> None:
    """Put right what a store says wrongly of an object: whether a condition holds, the status of a part, and the names
    of metadata. Raises AwsError (PreconditionFailed, NotModified)."""
    if "conditional read" in limits.mended and response.status in (200, 206):
        if fails(request.headers, response.headers):
            raise AwsError("PreconditionFailed")
        if is_unchanged(request.headers, response.headers):
            kept = {name: value for name, value in response.headers if name.lower() in _OF_NOT_MODIFIED}
            raise AwsError("NotModified", headers=kept)
    headers = response.headers
    is_part = response.status in (200, 206) and headers.get("content-range") is not None
    if "ranges" in limits.mended and (is_part or response.status == 304):
        response.status = 206 if is_part else 304
        # The checksum is the whole object's, and clients would hold it against what they get.
        headers = Headers(item for item in headers if not item[0].lower().startswith("x-amz-checksum-"))
    if "metadata" in limits.mended:
        headers = Headers(
            (name.lower(), value) if name.lower().startswith("x-amz-meta-") else (name, value)
            for name, value in headers
        )
    response.headers = headers


def protect(call: Call, request: Request, payload: Payload, routes: Sequence[Route], limits: Limits) -> None:
    """Check the checksums of a body here where one of the stores would (or may) not, and leave out what it can't read.

    Raises AwsError for a body in memory that does not fit.
    """
    if call.copy_source is not None or request.method not in ("PUT", "POST") or call.is_completion:
        return
    asked = [limits[route.region] for route in routes if route.region in limits]
    trailing = any("trailing checksums" in one.mended or not one.is_known for one in asked)
    if not trailing and not any("checksum verification" in one.mended for one in asked):
        return
    trailers = [name.strip().lower() for name in (request.headers.get("x-amz-trailer") or "").split(",")]
    integrity = Integrity(request.headers, trailers)
    if integrity.matters:
        payload.hold_to(integrity)
    if trailing:
        payload.unframe()
