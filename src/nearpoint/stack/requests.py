"""What a caller asks of a stack, and what can be told to be wrong with it at once."""

from __future__ import annotations

import re

from msgspec import Struct, field

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.records import Stack

STACK_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
INLINE_BYTES_MAX = 51_200  # CloudFormation quotas: a template in the call itself
TAGS_MAX = 50
REVIEW = "REVIEW_IN_PROGRESS"  # a stack that so far is only asked for, by a change set
ON_FAILURE = ("ROLLBACK", "DELETE", "DO_NOTHING")
UPDATABLE = (
    "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE",
)  # fmt: skip
DELETABLE = (
    *UPDATABLE, "CREATE_FAILED", "CREATE_IN_PROGRESS", "DELETE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED",
    "UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED", REVIEW,
)  # fmt: skip


class StackRequest(Struct, frozen=True, kw_only=True):
    """What a caller asks of a stack. For an update, None keeps what there is."""

    name: str
    region: str
    template: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    keep_parameters: tuple[str, ...] = ()  # `UsePreviousValue`
    capabilities: tuple[str, ...] = ()
    tags: dict[str, str] | None = None
    on_failure: str = "ROLLBACK"
    timeout_minutes: int | None = None
    notification_arns: tuple[str, ...] = ()
    role_arn: str | None = None
    termination_protection: bool = False
    client_request_token: str | None = None


def check_create(request: StackRequest) -> None:
    """Raises TemplateError."""
    if not STACK_NAME.fullmatch(request.name):
        raise TemplateError(
            f"1 validation error detected: Value '{request.name[:256]}' at 'stackName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
        )
    if request.template is None:
        raise TemplateError("Either Template URL or Template Body must be specified.")
    if request.on_failure not in ON_FAILURE:
        raise TemplateError(f"OnFailure must be one of {', '.join(ON_FAILURE)}")
    if request.timeout_minutes is not None and request.timeout_minutes < 1:
        raise TemplateError("TimeoutInMinutes must be at least 1")
    if len(request.tags or {}) > TAGS_MAX:
        raise TemplateError(f"A stack has at most {TAGS_MAX} tags")


def check_update(request: StackRequest, stack: Stack) -> None:
    """Raises AwsError where the stack is not in a state to be updated."""
    if stack.status not in UPDATABLE:
        raise AwsError(
            "ValidationError", f"Stack:{stack.arn} is in {stack.status} state and can not be updated.", status=400
        )
    if len(request.tags or {}) > TAGS_MAX:
        raise TemplateError(f"A stack has at most {TAGS_MAX} tags")
