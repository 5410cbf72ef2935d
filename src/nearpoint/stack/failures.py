"""Why a resource could not be made, in the words of CloudFormation's events."""

from __future__ import annotations

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.schema import PropertyError
from nearpoint.stack.types.base import NotStabilizedError

CANCELLED = "Resource creation cancelled"
UPDATE_CANCELLED = "Resource update cancelled"
_ALREADY_EXISTS = frozenset(
    ("AlreadyExists", "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "DistributionAlreadyExists",
     "EntityAlreadyExists", "MultiRegionAccessPointAlreadyOwnedByYou", "ResourceConflictException")
)  # fmt: skip
_ACCESS_DENIED = frozenset(("AccessDenied", "AccessDeniedException"))
_LIMITS = frozenset(("LimitExceeded", "TooManyBuckets", "TooManyDistributions", "TooManyMultiRegionAccessPoints"))


class CancelledError(Exception):
    """The resource was being made when the stack was told to stop."""


def handler_error_code(error: AwsError) -> str:
    """CloudFormation CLI User Guide, "Handler error codes"."""
    if error.code in _ALREADY_EXISTS:
        return "AlreadyExists"
    if error.code in _ACCESS_DENIED:
        return "AccessDenied"
    if error.code in _LIMITS:
        return "ServiceLimitExceeded"
    if error.status == 404:
        return "NotFound"
    if error.status == 409:
        return "ResourceConflict"
    return "InvalidRequest" if error.status < 500 else "GeneralServiceException"


def reason_of(error: Exception, *, type_name: str, request_token: str, cancelled: str = CANCELLED) -> str:
    """The reason that the resource's event carries."""
    if isinstance(error, CancelledError):
        return cancelled
    if isinstance(error, TemplateError):
        return error.message
    if isinstance(error, PropertyError):
        return error.text if "." not in error.path else f"{error.text} (at {error.path})"
    if isinstance(error, NotStabilizedError):
        message, code = str(error), "NotStabilized"
    elif isinstance(error, AwsError):
        service = type_name.split("::")[1]
        message = (
            f"{error.message} (Service: {service}, Error Code: {error.code}, Status Code: {error.status}, "
            f"Request ID: {request_token})"
        )
        code = handler_error_code(error)
    else:
        message, code = f"Internal Failure: {type(error).__name__}", "InternalFailure"
    return f'Resource handler returned message: "{message}" (RequestToken: {request_token}, HandlerErrorCode: {code})'
