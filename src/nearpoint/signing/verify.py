"""Proves a claim: scope, time, what had to be signed, the signature.

The caller looks up the secret (InvalidAccessKeyId, ExpiredToken and InvalidToken are its answers) and hashes the body.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from functools import lru_cache

from nearpoint.signing import canonical, keys
from nearpoint.signing.regionset import region_set_matches
from nearpoint.signing.values import (
    ECDSA_ALGORITHM,
    HMAC_ALGORITHM,
    S3_SERVICES,
    SignatureError,
    Verified,
    signature_octets,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from nearpoint.signing.values import Claim, Message

SKEW_S_MAX = 900  # S3 API Reference, RequestTimeTooSkewed: 15 minutes

_SKEW = timedelta(seconds=SKEW_S_MAX)

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_scope(claim: Claim, region: str | None, service: str | None) -> None:
    if service is not None and claim.service != service:
        _refuse_scope(claim, f'incorrect service "{claim.service}". This endpoint belongs to "{service}".', None)
    if region is None:
        return
    if claim.region_set is not None:
        if not region_set_matches(claim.region_set, region):
            _refuse_scope(claim, f"the region set '{claim.region_set}' is wrong; expecting '{region}'", region)
    elif claim.region != region:
        _refuse_scope(claim, f"the region '{claim.region}' is wrong; expecting '{region}'", region)


def _refuse_scope(claim: Claim, why: str, region: str | None) -> None:
    fields = {} if region is None else {"Region": region}
    if claim.form == "header":
        raise SignatureError("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}", fields)
    raise SignatureError(
        "AuthorizationQueryParametersError", f"Error parsing the X-Amz-Credential parameter; {why}", fields
    )


def _check_time(claim: Claim, now: datetime) -> None:
    skew = _SKEW
    if claim.expires_s is None:
        if abs(now - claim.signed_at) > skew:
            raise SignatureError(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                {
                    "RequestTime": canonical.timestamp(claim.signed_at),
                    "ServerTime": _iso(now),
                    "MaxAllowedSkewMilliseconds": str(SKEW_S_MAX * 1000),
                },
            )
        return
    if claim.signed_at - now > skew:
        raise SignatureError(
            "AccessDenied",
            "Request is not valid yet",
            {"X-Amz-Date": canonical.timestamp(claim.signed_at), "ServerTime": _iso(now)},
        )
    expires_at = claim.signed_at + timedelta(seconds=claim.expires_s)
    if now > expires_at:
        raise SignatureError(
            "AccessDenied",
            "Request has expired",
            {"X-Amz-Expires": str(claim.expires_s), "Expires": _iso(expires_at), "ServerTime": _iso(now)},
        )


def _signed_fields(claim: Claim, message: Message) -> list[tuple[str, str]]:
    """The fields that the signature covers, sorted. Raises SignatureError when one that must be signed is not."""
    values = message.by_name
    signed = claim.signed_headers
    missing = set() if "host" in signed else {"host"}
    for name in values:
        if name in signed or not (name.startswith("x-amz-") or name == "content-md5"):
            continue
        # S3 takes a presigned request's unsigned x-amz-content-sha256 for the payload hash, so the signature fails by
        # itself; other services let a session token be added after signing (IAM User Guide).
        if name == "x-amz-content-sha256" and claim.form == "query":
            continue
        if name == "x-amz-security-token" and claim.service not in S3_SERVICES:
            continue
        missing.add(name)
    if missing:
        raise SignatureError(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            {"HeadersNotSigned": ", ".join(sorted(missing))},
        )
    return [(name, _joined(values.get(name, ()))) for name in _in_order(signed)]


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _joined(values: Sequence[str]) -> str:
    if len(values) == 1:
        return canonical.header_value(values[0])
    return ",".join([canonical.header_value(value) for value in values])


def _paths_and_queries(claim: Claim, message: Message) -> list[tuple[str, str]]:
    """The canonical path and query, and where the wire's escapes differ from them, those too.

    S3 decodes and encodes anew; botocore signs the wire's own escapes in both, awscrt in the path. Each names the bytes
    that were sent.
    """
    if claim.service in S3_SERVICES:
        path = canonical.path_of_s3(message.path)
        as_sent = message.path or "/"
    else:
        path = as_sent = canonical.path_of_others(message.path)
    paths = [path] if path == as_sent else [path, as_sent]
    if not message.query:
        return [(path, "") for path in paths]
    parameters = canonical.query_parameters(message.query)
    if claim.form == "query":
        parameters = [item for item in parameters if canonical.decode(item[0]) != b"X-Amz-Signature"]
    query = canonical.query_of(parameters)
    query_as_sent = canonical.query_as_sent(parameters)
    queries = [query] if query == query_as_sent else [query, query_as_sent]
    return [(path, query) for path in paths for query in queries]


def verify(
    claim: Claim,
    message: Message,
    secret_key: str,
    *,
    now: datetime,
    region: str | None = None,
    service: str | None = None,
    payload_hash: str | None = None,
) -> Verified:
    """Raises SignatureError unless the holder of `secret_key` signed this message, in time and for this place.

    `now` must be aware. `region` and `service`, where given, are this endpoint's own and must be in the claim's scope.
    `payload_hash` is the body's SHA-256 in lower-case hex where the caller has the whole body; it must be given when
    `claim.payload_hash` is empty (ValueError), and is compared with it when that is a digest. A body that is read later
    goes through `payload_decoder`.

    Codes: AuthorizationHeaderMalformed or AuthorizationQueryParametersError (scope), RequestTimeTooSkewed, AccessDenied
    (expired, not yet valid, headers not signed), XAmzContentSHA256Mismatch, SignatureDoesNotMatch (its `fields` are
    S3's: AWSAccessKeyId, StringToSign, SignatureProvided, CanonicalRequest and their bytes).
    """
    if not claim.payload_hash and payload_hash is None:
        raise ValueError("this request doesn't state its payload hash: give it")
    _check_scope(claim, region, service)
    _check_time(claim, now)
    fields = _signed_fields(claim, message)
    stated = claim.payload_hash or payload_hash or ""
    if payload_hash is not None and len(stated) == 64 and stated != payload_hash:
        raise SignatureError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            {"ClientComputedContentSHA256": stated, "S3ComputedContentSHA256": payload_hash},
        )
    timestamp = canonical.timestamp(claim.signed_at)
    day = timestamp[:8]
    public = None
    if claim.region is None:
        algorithm, scope = ECDSA_ALGORITHM, f"{day}/{claim.service}/aws4_request"
        public = keys.v4a_key(claim.access_key_id, secret_key).public
        key = b""
    else:
        algorithm, scope = HMAC_ALGORITHM, f"{day}/{claim.region}/{claim.service}/aws4_request"
        key = keys.v4_key(secret_key, day, claim.region, claim.service)
    signature = signature_octets(claim.signature)
    signed = canonical.signed_part(fields, stated)
    checkpoints: list[tuple[str, str]] = []
    for path, query in _paths_and_queries(claim, message):
        request = canonical.canonical_request(message.method, path, query, signed)
        text = canonical.string_to_sign(algorithm, timestamp, scope, request)
        checkpoints.append((request, text))
        octets = text.encode("latin-1")
        if public is not None:
            good = public.verify(hashlib.sha256(octets).digest(), signature)
        else:
            good = hmac.compare_digest(hmac.digest(key, octets, "sha256"), signature)
        if good:
            return Verified(
                claim=claim, payload_hash=stated, canonical_request=request, string_to_sign=text, key=public or key
            )
    request, text = checkpoints[0]
    raise SignatureError(
        "SignatureDoesNotMatch",
        _MISMATCH,
        {
            "AWSAccessKeyId": claim.access_key_id,
            "StringToSign": text,
            "SignatureProvided": claim.signature,
            "StringToSignBytes": _octets(text),
            "CanonicalRequest": request,
            "CanonicalRequestBytes": _octets(request),
        },
    )


def _octets(text: str) -> str:
    return text.encode("latin-1").hex(" ")
