"""AWS's refusals in a sentence that says what to do."""

from __future__ import annotations

import re

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.errors import DeployError

_SIGN_IN = "Sign in again (`aws sso login` or `aws configure`), or name another profile with --profile."
_BY_EXCEPTION = {
    "NoCredentialsError": f"No AWS credentials were found. {_SIGN_IN}",
    "PartialCredentialsError": f"The AWS credentials are incomplete. {_SIGN_IN}",
    "ProfileNotFound": "There is no such AWS profile; `aws configure list-profiles` shows which there are.",
    "TokenRetrievalError": f"The sign-in has expired. {_SIGN_IN}",
    "UnauthorizedSSOTokenError": f"The sign-in has expired. {_SIGN_IN}",
    "SSOTokenLoadError": f"There is no sign-in for this profile. {_SIGN_IN}",
}
_NO_WAY = "AWS cannot be reached; is there a way to the internet from here?"
_BY_CONNECTION = {
    "ProxyConnectionError": "The proxy cannot be reached; is the world still running (`nearpoint status`)?",
    "EndpointConnectionError": _NO_WAY,
    "ConnectTimeoutError": _NO_WAY,
    "ReadTimeoutError": "AWS did not answer in time; run the same command again, it goes on where it stopped.",
    "ConnectionClosedError": "The connection broke; run the same command again, it goes on where it stopped.",
    "HTTPClientError": _NO_WAY,
}
_EXPIRED = f"The AWS credentials have expired. {_SIGN_IN}"
_WRONG = f"AWS does not accept these credentials; those of China or GovCloud are of no use here. {_SIGN_IN}"
_QUOTA = "A quota of the account is used up; remove what is not needed or ask for a higher quota (Service Quotas)."
_BUSY = "AWS throttles this account's calls; wait a minute and run the same command again, it goes on where it stopped."
_BY_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "InvalidClientTokenId": _WRONG,
    "InvalidAccessKeyId": _WRONG,
    "SignatureDoesNotMatch": _WRONG,
    "UnrecognizedClientException": _WRONG,
    "AuthFailure": _WRONG,
    "OptInRequired": "The account has not opted in to this region or service; enable it in the account's settings.",
    "TooManyBuckets": "The account has as many buckets as it may; remove some or ask for a higher quota.",
    "LimitExceeded": _QUOTA,
    "LimitExceededException": _QUOTA,
    "CodeStorageExceededException": _QUOTA,
    "ServiceQuotaExceededException": _QUOTA,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "SlowDown": _BUSY,
    "TooManyRequestsException": _BUSY,
}
_DENIED = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"))
_REFUSING = frozenset((_EXPIRED, _WRONG, _BY_CODE["OptInRequired"]))
# What services say in the reason of a stack's event, where there is no code to go by.
_IN_REASONS = (
    (re.compile(r"LimitExceeded|TooMany|quota|exceeded the (?:maximum|limit)|maximum number", re.IGNORECASE), _QUOTA),
    (
        re.compile(r"AccessDenied|not authorized|is not allowed", re.IGNORECASE),
        "Give the caller's policy that permission.",
    ),
    (re.compile(r"Throttl|Rate exceeded", re.IGNORECASE), "AWS throttles this account's calls; try again in a minute."),
    (
        re.compile(r"already exists|AlreadyExists", re.IGNORECASE),
        "Something else has that name, perhaps left by an earlier stack: remove it, or take another --stack.",
    ),
)


def explained(error: ClientError | BotoCoreError) -> DeployError:
    """The error as a DeployError; AWS's own words are kept."""
    if isinstance(error, ClientError):
        code, message = code_of(error), error.response.get("Error", {}).get("Message", "")
        if is_denied(error):
            return DeployError(
                f"{error.operation_name} is not allowed: {(message or code).rstrip('.')}. Give the caller's policy "
                "that permission.",
                refused=True,
            )
        advice = _BY_CODE.get(code)
        return DeployError(
            f"{error.operation_name}: {message or code}" + (f" {advice}" if advice else ""),
            refused=advice in _REFUSING,
            passing=advice == _BUSY,
        )
    kinds = [kind.__name__ for kind in type(error).__mro__]
    said = str(error).rstrip(".")
    for kind in kinds:
        if kind in _BY_EXCEPTION:
            return DeployError(f"{said}. {_BY_EXCEPTION[kind]}", refused=True)
        if kind in _BY_CONNECTION:
            return DeployError(f"{said}. {_BY_CONNECTION[kind]}", unreachable=True, passing=True)
    return DeployError(str(error))


def advice_on(reason: str) -> str:
    """What to do about the reason of a stack's event; empty where its words say enough."""
    return next((advice for words, advice in _IN_REASONS if words.search(reason)), "")


def is_denied(error: ClientError) -> bool:
    """Whether the caller lacks a permission."""
    return code_of(error) in _DENIED


def code_of(error: ClientError) -> str:
    """AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))
