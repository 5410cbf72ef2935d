"""Reads who a request says it is from. Nothing is proved here: `verify` does that, with the secret the caller looks up.

S3 API Reference, "Authenticating requests" (header and query); codes and messages as S3 answers them.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain

from nearpoint.signing import canonical
from nearpoint.signing.regionset import is_region_set
from nearpoint.signing.sign import EXPIRES_S_MAX
from nearpoint.signing.values import (
    ECDSA_ALGORITHM,
    EMPTY_SHA256,
    HMAC_ALGORITHM,
    PAYLOAD_WORDS,
    S3_SERVICES,
    UNSIGNED_PAYLOAD,
    Claim,
    SignatureError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearpoint.signing.values import Message

# A request that needs more than this is not one; the wire has its own, tighter limits.
HEADER_COUNT_MAX = 256
HEADER_BYTES_MAX = 64 * 1024
QUERY_BYTES_MAX = 32 * 1024
SIGNED_HEADERS_MAX = 128

# Requests of the same minutes and callers repeat these parts; longer texts are parsed every time.
_REMEMBERED = 512
_REMEMBERED_CHARACTERS = 256

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REQUIRED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders")
_AMZ = "x-amz-"
# Fields of Amazon's that are lists, or whatever users make of them. All others have one value.
_MAY_REPEAT = ("x-amz-meta-", "x-amz-object-attributes", "x-amz-optional-object-attributes")
_OF_QUERY_FORM = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})
_HEX = frozenset("0123456789abcdef")
# What x-amz-content-sha256 says where it is not the digest of a body.
_USUAL_HASHES = PAYLOAD_WORDS | {EMPTY_SHA256}


def _header_malformed(why: str) -> SignatureError:
    return SignatureError("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}")


def _query_malformed(text: str) -> SignatureError:
    return SignatureError("AuthorizationQueryParametersError", text)


def _invalid_argument(text: str, name: str) -> SignatureError:
    return SignatureError("InvalidArgument", text, {"ArgumentName": name})


def _no_sigv2() -> SignatureError:
    return SignatureError(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )


def _check_size(message: Message) -> None:
    if len(message.headers) > HEADER_COUNT_MAX or (
        sum(map(len, chain.from_iterable(message.headers))) > HEADER_BYTES_MAX
    ):
        raise SignatureError(
            "RequestHeaderSectionTooLarge",
            "Your request header section exceeds the maximum allowed request header section size.",
        )
    if len(message.query) > QUERY_BYTES_MAX:
        raise SignatureError("InvalidURI", "Couldn't parse the specified URI.")


def _by_name(message: Message) -> Mapping[str, Sequence[str]]:
    """The header fields by name in lower case. Raises SignatureError when one that decides stands there twice."""
    headers = message.by_name
    if len(headers) != len(message.headers):
        for name, values in headers.items():
            if len(values) > 1 and (
                name == "authorization" or (name.startswith(_AMZ) and not name.startswith(_MAY_REPEAT))
            ):
                raise _invalid_argument(f"The {name} header may be given only once.", name)
    return headers


def _first(headers: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = headers.get(name)
    return values[0].strip(" \t") if values else None


def parse_timestamp(text: str) -> datetime | None:
    """`yyyymmddThhmmssZ` as a time, or None."""
    return _parse_timestamp(text) if len(text) == 16 else None


@lru_cache(maxsize=_REMEMBERED)
def _parse_timestamp(text: str) -> datetime | None:
    if text[8] != "T" or text[15] != "Z" or not (text[:8] + text[9:15]).isdecimal() or not text.isascii():
        return None
    try:
        return datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[9:11]), int(text[11:13]), int(text[13:15]),
            tzinfo=timezone.utc,
        )  # fmt: skip
    except ValueError:
        return None


def _parse_http_date(text: str) -> datetime | None:
    """IMF-fixdate (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`."""
    parts = text.split(" ")
    if len(text) != 29 or len(parts) != 6 or parts[2] not in _MONTHS or parts[5] != "GMT":
        return None
    month = _MONTHS.index(parts[2]) + 1
    return parse_timestamp(f"{parts[3]}{month:02d}{parts[1]}T{parts[4].replace(':', '')}Z")


def _signed_at(headers: Mapping[str, Sequence[str]]) -> datetime:
    date = _first(headers, "x-amz-date")
    signed_at = None
    if date is not None:
        signed_at = parse_timestamp(date)
    elif (date := _first(headers, "date")) is not None:
        signed_at = _parse_http_date(date) or parse_timestamp(date)
    if signed_at is None:
        raise SignatureError("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return signed_at


class _Scope:
    """The credential taken apart: `AKID/yyyymmdd/region/service/aws4_request`, without the region for SigV4A."""

    __slots__ = ("access_key_id", "problem", "region", "service")

    def __init__(self, credential: str, *, v4a: bool, signed_at: datetime) -> None:
        shape = "YYYYMMDD/SERVICE/aws4_request" if v4a else "YYYYMMDD/REGION/SERVICE/aws4_request"
        parts = credential.rsplit("/", 3 if v4a else 4)
        self.problem: str | None = None
        self.access_key_id = self.service = ""
        self.region: str | None = None
        if len(parts) != (4 if v4a else 5) or not all(parts):
            self.problem = f'the Credential is mal-formed; expecting "<YOUR-AKID>/{shape}".'
            return
        self.access_key_id, day, self.service, end = parts[0], parts[1], parts[-2], parts[-1]
        if not v4a:
            self.region = parts[2]
        if end != "aws4_request":
            self.problem = f'incorrect terminal "{end}". This endpoint uses "aws4_request".'
        elif len(day) != 8 or parse_timestamp(f"{day}T000000Z") is None:
            self.problem = (
                f'incorrect date format "{day}". This date in the credential must be in the format "yyyyMMdd".'
            )
        elif day != canonical.timestamp(signed_at)[:8]:
            self.problem = (
                f'Invalid credential date "{day}". This date is not the same as X-Amz-Date: '
                f'"{canonical.timestamp(signed_at)[:8]}".'
            )


def _scope(credential: str, *, v4a: bool, signed_at: datetime) -> _Scope:
    if len(credential) > _REMEMBERED_CHARACTERS:
        return _Scope(credential, v4a=v4a, signed_at=signed_at)
    return _remembered_scope(credential, v4a, signed_at)


@lru_cache(maxsize=_REMEMBERED)
def _remembered_scope(credential: str, v4a: bool, signed_at: datetime) -> _Scope:
    return _Scope(credential, v4a=v4a, signed_at=signed_at)


def _names(text: str) -> tuple[str, ...] | None:
    return _remembered_names(text) if len(text) <= _REMEMBERED_CHARACTERS else _split_names(text)


@lru_cache(maxsize=_REMEMBERED)
def _remembered_names(text: str) -> tuple[str, ...] | None:
    return _split_names(text)


def _split_names(text: str) -> tuple[str, ...] | None:
    names = tuple(text.lower().split(";"))
    if len(names) > SIGNED_HEADERS_MAX or not all(names) or len(set(names)) != len(names):
        return None
    return names


def _payload_hash(stated: str | None, service: str, *, in_query: bool) -> str:
    if stated is None:
        if service not in S3_SERVICES:
            return ""
        if in_query:
            return UNSIGNED_PAYLOAD
        raise SignatureError(
            "InvalidRequest",
            "Missing required header for this request: x-amz-content-sha256",
        )
    if stated in _USUAL_HASHES or (len(stated) == 64 and _HEX.issuperset(stated)):
        return stated
    raise _invalid_argument(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER "
        "or a valid sha256 value.",
        "x-amz-content-sha256",
    )


class _Authorization:
    """What an Authorization field says."""

    __slots__ = ("credential", "names", "signature", "v4a")

    def __init__(self, *, v4a: bool, credential: str, names: tuple[str, ...] | None, signature: str) -> None:
        self.v4a = v4a
        self.credential = credential
        self.names = names
        self.signature = signature


def _authorization(text: str) -> tuple[_Authorization, str]:
    """The field taken apart, and the signature, which is the only part that a client never says twice."""
    before, _, signature = text.partition("Signature=")
    if len(before) > 2 * _REMEMBERED_CHARACTERS or not signature.strip(" ") or "," in signature:
        found = _read_authorization(text)
        return found, found.signature
    return _remembered_authorization(before), signature.strip(" ")


@lru_cache(maxsize=_REMEMBERED)
def _remembered_authorization(before: str) -> _Authorization:
    return _read_authorization(f"{before}Signature=any")


def _read_authorization(text: str) -> _Authorization:
    algorithm, _, rest = text.strip(" ").partition(" ")
    if algorithm == "AWS":
        raise _no_sigv2()
    if algorithm not in {HMAC_ALGORITHM, ECDSA_ALGORITHM}:
        raise _invalid_argument("Unsupported Authorization Type", "Authorization")
    v4a = algorithm == ECDSA_ALGORITHM
    parts: dict[str, str] = {}
    for item in rest.split(","):
        name, equals, value = item.strip(" ").partition("=")
        if not equals or name in parts:
            raise _header_malformed(
                "the authorization header requires three components: Credential, SignedHeaders, and Signature."
            )
        parts[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise _header_malformed(f"missing {name}.")
    return _Authorization(
        v4a=v4a,
        credential=parts["Credential"],
        names=_names(parts["SignedHeaders"]),
        signature=parts["Signature"],
    )


def _from_header(authorization: str, headers: Mapping[str, Sequence[str]]) -> Claim:
    stated, signature = _authorization(authorization)
    v4a = stated.v4a
    signed_at = _signed_at(headers)
    scope = _scope(stated.credential, v4a=v4a, signed_at=signed_at)
    if scope.problem is not None:
        raise _header_malformed(scope.problem)
    names = stated.names
    if names is None:
        raise _header_malformed("the SignedHeaders are mal-formed.")
    region_set = None
    if v4a:
        region_set = _first(headers, "x-amz-region-set")
        if region_set is None:
            raise SignatureError(
                "MissingSecurityHeader",
                "Your request was missing a required header",
                {"MissingHeaderName": "x-amz-region-set"},
            )
        if region_set != "*" and not is_region_set(region_set):
            raise _header_malformed("the region set is mal-formed.")
    return Claim(
        algorithm="v4a" if v4a else "v4",
        form="header",
        access_key_id=scope.access_key_id,
        session_token=_first(headers, "x-amz-security-token"),
        region=scope.region,
        region_set=region_set,
        service=scope.service,
        signed_at=signed_at,
        expires_s=None,
        signed_headers=names,
        signature=signature,
        payload_hash=_payload_hash(_first(headers, "x-amz-content-sha256"), scope.service, in_query=False),
    )


def _from_query(parameters: list[tuple[str, str]], headers: Mapping[str, Sequence[str]]) -> Claim:
    given: dict[str, str] = {}
    for name, value in parameters:
        if name.startswith("X-Amz-"):
            if name in given:
                raise _query_malformed(f"The {name} parameter may be given only once.")
            given[name] = value
    if any(name not in given for name in (*_REQUIRED, "X-Amz-Expires")):
        raise _query_malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    algorithm = given["X-Amz-Algorithm"]
    if algorithm not in {HMAC_ALGORITHM, ECDSA_ALGORITHM}:
        raise _query_malformed(f'X-Amz-Algorithm only supports "{HMAC_ALGORITHM} and {ECDSA_ALGORITHM}"')
    v4a = algorithm == ECDSA_ALGORITHM
    signed_at = parse_timestamp(given["X-Amz-Date"])
    if signed_at is None:
        raise _query_malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    scope = _scope(given["X-Amz-Credential"], v4a=v4a, signed_at=signed_at)
    if scope.problem is not None:
        raise _query_malformed(f"Error parsing the X-Amz-Credential parameter; {scope.problem}")
    names = _names(given["X-Amz-SignedHeaders"])
    if names is None:
        raise _query_malformed("The X-Amz-SignedHeaders parameter is mal-formed.")
    region_set = given.get("X-Amz-Region-Set")
    if v4a and (region_set is None or not is_region_set(region_set)):
        raise _query_malformed("The X-Amz-Region-Set parameter is missing or mal-formed.")
    stated = _first(headers, "x-amz-content-sha256")
    if stated is None:
        stated = given.get("X-Amz-Content-Sha256")
    token = given.get("X-Amz-Security-Token")
    return Claim(
        algorithm="v4a" if v4a else "v4",
        form="query",
        access_key_id=scope.access_key_id,
        session_token=token if token is not None else _first(headers, "x-amz-security-token"),
        region=scope.region,
        region_set=region_set if v4a else None,
        service=scope.service,
        signed_at=signed_at,
        expires_s=_expires_s(given["X-Amz-Expires"]),
        signed_headers=names,
        signature=given["X-Amz-Signature"],
        payload_hash=_payload_hash(stated, scope.service, in_query=True),
    )


def _expires_s(text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 18:
        raise _query_malformed("X-Amz-Expires should be a number")
    expires_s = int(text)
    if expires_s < 0:
        raise _query_malformed("X-Amz-Expires must be non-negative")
    if expires_s == 0:
        raise _query_malformed("X-Amz-Expires must be at least 1 second")
    if expires_s > EXPIRES_S_MAX:
        raise _query_malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            f"{EXPIRES_S_MAX} seconds"
        )
    return expires_s


def read_claim(message: Message) -> Claim | None:
    """The claim of a request, or None if it makes none (an anonymous request).

    Raises SignatureError for a claim that can't be one: AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError, AccessDenied (no date), InvalidRequest (SigV2; no x-amz-content-sha256),
    InvalidArgument (two mechanisms, an unknown one, a bad x-amz-content-sha256), MissingSecurityHeader,
    RequestHeaderSectionTooLarge, InvalidURI.
    """
    _check_size(message)
    headers = _by_name(message)
    authorization = _first(headers, "authorization")
    if authorization is not None and not message.query:
        return _from_header(authorization, headers)
    parameters: list[tuple[str, str]] = []
    if message.query:
        parameters = [
            (canonical.decode(name).decode("latin-1"), canonical.decode(value).decode("latin-1"))
            for name, value in canonical.query_parameters(message.query)
        ]
    names = {name for name, _ in parameters}
    in_query = bool(names) and not names.isdisjoint(_OF_QUERY_FORM)
    if authorization is not None:
        if in_query or {"AWSAccessKeyId", "Signature"} <= names:
            raise _invalid_argument(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
                "Authorization",
            )
        return _from_header(authorization, headers)
    if in_query:
        return _from_query(parameters, headers)
    if {"AWSAccessKeyId", "Signature"} <= names:
        raise _no_sigv2()
    return None
