"""AWS's refusals in a sentence that says what to do."""

from __future__ import annotations

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
    "EndpointConnectionError": "AWS cannot be reached; is there a way to the internet from here?",
    "ConnectTimeoutError": "AWS cannot be reached; is there a way to the internet from here?",
    "ProxyConnectionError": "The proxy cannot be reached; is the world still running (`nearpoint status`)?",
}
_EXPIRED = f"The AWS credentials have expired. {_SIGN_IN}"
_WRONG = f"AWS does not accept these credentials. {_SIGN_IN}"
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
    "LimitExceeded": "A quota of the account is used up; remove what is not needed or ask for a higher quota.",
    "LimitExceededException": "A quota of the account is used up; remove what is not needed or ask for a higher quota.",
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "SlowDown": _BUSY,
    "TooManyRequestsException": _BUSY,
}
_DENIED = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"))


def explained(error: ClientError | BotoCoreError) -> DeployError:
    """The error as a DeployError; AWS's own words are kept."""
    if isinstance(error, ClientError):
        code, message = code_of(error), error.response.get("Error", {}).get("Message", "")
        if code in _DENIED:
            return DeployError(
                f"{error.operation_name} is not allowed: {message or code}. Give the caller's policy that permission."
            )
        advice = _BY_CODE.get(code)
        return DeployError(f"{error.operation_name}: {message or code}" + (f" {advice}" if advice else ""))
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_EXCEPTION:
            return DeployError(f"{str(error).rstrip('.')}. {_BY_EXCEPTION[kind.__name__]}")
    return DeployError(str(error))


def code_of(error: ClientError) -> str:
    """AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))
