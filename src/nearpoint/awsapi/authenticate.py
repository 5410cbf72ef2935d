"""Proves who makes a call, or says why not in the words of the service that was called.

`signing` and S3 share one set of codes; the query and JSON services have others for the same faults (AWS General
Reference, "Common Errors"; observed answers of IAM, STS and Lambda).
"""

from __future__ import annotations

from datetime import datetime

from nearpoint.awsproto.errors import AwsError
from nearpoint.signing import Claim, Message, SignatureError, Verified, verify
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import Identity, find_identity
from nearpoint.wire.message import Request

# S3's code: code and status of query services and CloudFront, code and status of JSON services
_CODES: dict[str, tuple[tuple[str, int], tuple[str, int]]] = {
    "AuthorizationHeaderMalformed": (("IncompleteSignature", 400), ("IncompleteSignatureException", 400)),
    "AuthorizationQueryParametersError": (("IncompleteSignature", 400), ("IncompleteSignatureException", 400)),
    "ExpiredToken": (("ExpiredToken", 403), ("ExpiredTokenException", 403)),
    "InvalidAccessKeyId": (("InvalidClientTokenId", 403), ("UnrecognizedClientException", 403)),
    "InvalidArgument": (("IncompleteSignature", 400), ("IncompleteSignatureException", 400)),
    "InvalidRequest": (("IncompleteSignature", 400), ("IncompleteSignatureException", 400)),
    "InvalidToken": (("InvalidClientTokenId", 403), ("UnrecognizedClientException", 403)),
    "RequestTimeTooSkewed": (("SignatureDoesNotMatch", 403), ("InvalidSignatureException", 403)),
    "SignatureDoesNotMatch": (("SignatureDoesNotMatch", 403), ("InvalidSignatureException", 403)),
    "XAmzContentSHA256Mismatch": (("SignatureDoesNotMatch", 403), ("InvalidSignatureException", 403)),
}


def message_of(request: Request) -> Message:
    """The part of a request that its signature covers."""
    return Message(method=request.method, path=request.path, query=request.query, headers=list(request.headers))


def refusal(error: SignatureError, service: str, protocol: str) -> AwsError:
    """A signature's fault as the service answers it."""
    if service in {"s3", "s3control"}:
        return AwsError(error.code, error.text, extra=error.fields)
    codes = _CODES.get(error.code)
    if codes is None:
        return AwsError(error.code, error.text)
    code, status = codes["json" in protocol]
    return AwsError(code, error.text, status=status)


def unsigned(service: str, protocol: str) -> AwsError:
    """The answer to a call without a signature."""
    if service in {"s3", "s3control"}:
        return AwsError("AccessDenied")
    json = "json" in protocol
    return AwsError("MissingAuthenticationTokenException" if json else "MissingAuthenticationToken", status=403)


def find_caller(claim: Claim, snapshot: Snapshot, now_s: float, service: str, protocol: str) -> Identity:
    """Whose access key it is. Raises AwsError for a key that is not known or a session that is over."""
    identity = find_identity(snapshot, claim.access_key_id, claim.session_token)
    s3 = service in {"s3", "s3control"}
    if identity is None:
        unknown_token = claim.session_token is not None
        if s3:
            raise AwsError("InvalidToken" if unknown_token else "InvalidAccessKeyId", extra=_key_of(claim))
        error = SignatureError("InvalidAccessKeyId", "The security token included in the request is invalid.")
        raise refusal(error, service, protocol)
    if identity.expires_at is not None and identity.expires_at <= now_s:
        text = "The provided token has expired." if s3 else "The security token included in the request is expired"
        raise refusal(SignatureError("ExpiredToken", text), service, protocol)
    return identity


def _key_of(claim: Claim) -> dict[str, str]:
    return {} if claim.session_token is not None else {"AWSAccessKeyId": claim.access_key_id}


def prove(
    claim: Claim,
    message: Message,
    identity: Identity,
    *,
    now: datetime,
    region: str | None,
    service: str,
    signing_name: str,
    protocol: str,
    payload_hash: str | None,
) -> Verified:
    """Check the signature against the caller's secret. Raises AwsError in the service's words.

    `region` None: any region is right. `payload_hash` is the digest of the whole body where it has been read.
    """
    if service not in {"s3", "s3control"} and region is not None and claim.region not in {None, region}:
        code = "InvalidSignatureException" if "json" in protocol else "SignatureDoesNotMatch"
        raise AwsError(code, f"Credential should be scoped to a valid region, not '{claim.region}'.", status=403)
    try:
        return verify(
            claim,
            message,
            identity.secret_key,
            now=now,
            region=region,
            service=signing_name,
            payload_hash=payload_hash,
        )
    except SignatureError as error:
        raise refusal(error, service, protocol) from None
