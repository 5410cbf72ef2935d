"""CloudFront distributions and invalidations: what they may be, and when they change.

CloudFront API Reference (CreateDistribution, UpdateDistribution, CreateInvalidation); Developer Guide, "Restrictions on
edge functions" and "Invalidate files".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.edge.log_target import log_bucket
from nearpoint.edge.tags import is_tag
from nearpoint.stack.services import edge_settings, roles
from nearpoint.stack.services.context import LOWER_AND_DIGITS, UPPER_AND_DIGITS, Context, text_of
from nearpoint.stack.services.distribution_config import behaviors, check_config
from nearpoint.stack.services.policies import service_principals
from nearpoint.state.resources import Bucket, Distribution, Function, Invalidation
from nearpoint.state.store import State

DISTRIBUTIONS_MAX = 200  # per account
EDGE_REGION = "us-east-1"  # where functions of the edge are made
FUNCTION_ARN = re.compile(
    r"arn:aws:lambda:([a-z0-9-]+):([0-9]{12}):function:([a-zA-Z0-9_-]{1,64})(?::([a-zA-Z0-9$_-]+))?"
)
VIEWER_TIMEOUT_S, VIEWER_MEMORY_MB, VIEWER_PACKAGE_BYTES = 5, 128, 1024 * 1024
ORIGIN_TIMEOUT_S = 30
PATH_CHARACTERS_MAX = 4000
PATHS_IN_PROGRESS_MAX = 3000
WILDCARDS_IN_PROGRESS_MAX = 15
INVALIDATIONS_KEPT = 200  # completed ones, a distribution


def id_of(random_bytes: bytes) -> str:
    """`E` and 13 capitals or digits, out of 13 random bytes. Entity tags look the same."""
    return "E" + text_of(random_bytes[:13], UPPER_AND_DIGITS)


def new_id(context: Context) -> str:
    """An id that no distribution has."""
    while context.state.get(Distribution, found := id_of(context.random_bytes(13))) is not None:
        continue
    return found


def find(state: State, distribution_id: str) -> Distribution:
    """Raises NoSuchDistribution."""
    distribution = state.get(Distribution, distribution_id)
    if distribution is None:
        raise AwsError("NoSuchDistribution", "The specified distribution does not exist.", status=404)
    return distribution


def check_functions(state: State, account_id: str, config: dict[str, Any]) -> None:
    """Every associated function version exists and may run at the edge. Raises InvalidLambdaFunctionAssociation."""
    for behavior in behaviors(config):
        for association in behavior.get("LambdaFunctionAssociations", ()):
            _check_function(state, account_id, association["LambdaFunctionARN"], association["EventType"])


def _check_function(state: State, account_id: str, arn: str, event_type: str) -> None:
    def refuse(text: str) -> AwsError:
        return AwsError("InvalidLambdaFunctionAssociation", text, status=400)

    parsed = FUNCTION_ARN.fullmatch(arn)
    if parsed is None or parsed[2] != account_id:
        raise refuse(f"The function ARN is not one of a Lambda function of this account. ARN: {arn[:256]}")
    region, _, name, version = parsed.groups()
    if region != EDGE_REGION:
        raise refuse(f"The function must be in region '{EDGE_REGION}'. ARN: {arn}")
    if version is None or not version.isdigit():
        raise refuse(
            "The function ARN must reference a specific function version. (The ARN must end with the version number.) "
            f"ARN: {arn}"
        )
    function = state.get(Function, f"{name}:{version}")
    if function is None or function.arn != arn:
        raise refuse(f"Lambda@Edge cannot retrieve the specified Lambda function: it does not exist. ARN: {arn}")
    if function.environment:
        raise refuse(f"The function cannot have environment variables. Function: {arn}")
    if function.architectures != ("x86_64",):
        raise refuse(f"The function must have the x86_64 architecture. Function: {arn}")
    viewer = event_type.startswith("viewer-")
    timeout_s = VIEWER_TIMEOUT_S if viewer else ORIGIN_TIMEOUT_S
    if function.timeout_s > timeout_s:
        raise refuse(
            f"The function timeout is larger than the maximum allowed for functions that are triggered by a CloudFront "
            f"event: {function.timeout_s} Max allowed: {timeout_s} Function: {arn}"
        )
    if viewer and function.memory_mb > VIEWER_MEMORY_MB:
        raise refuse(
            f"The function memory size is larger than the maximum allowed for functions that are triggered by a "
            f"CloudFront event: {function.memory_mb} Max allowed: {VIEWER_MEMORY_MB} Function: {arn}"
        )
    if viewer and function.code_size_bytes > VIEWER_PACKAGE_BYTES:
        raise refuse(
            f"The function code size is larger than the maximum allowed for functions that are triggered by a "
            f"CloudFront event: {function.code_size_bytes} Max allowed: {VIEWER_PACKAGE_BYTES} Function: {arn}"
        )
    role = roles.find_by_arn(state, function.role_arn)
    if role is None or not {"lambda.amazonaws.com", "edgelambda.amazonaws.com"} <= service_principals(role.trust):
        raise refuse(
            "The function execution role must be assumable with edgelambda.amazonaws.com as well as "
            f"lambda.amazonaws.com principals. Update the IAM role and try again. Role: {function.role_arn}"
        )


def _check_log_bucket(state: State, config: dict[str, Any]) -> None:
    """Raises InvalidArgument where the bucket for the log does not exist."""
    bucket = log_bucket(config["Logging"]["Bucket"]) if "Logging" in config else None
    if bucket is not None and state.get(Bucket, bucket) is None:
        raise AwsError(
            "InvalidArgument",
            f"The S3 bucket that you specified for CloudFront logs does not exist: {bucket}",
            status=400,
        )


def _check_aliases(state: State, config: dict[str, Any], *, own_id: str | None = None) -> None:
    """Raises CNAMEAlreadyExists for a custom domain that another distribution has."""
    wanted = {alias.lower() for alias in config.get("Aliases", ())}
    for each in state.list(Distribution) if wanted else ():
        taken = wanted & {alias.lower() for alias in each.config.get("Aliases", ())}
        if taken and each.distribution_id != own_id:
            raise AwsError(
                "CNAMEAlreadyExists",
                "One or more of the CNAMEs you provided are already associated with a different resource: "
                + ", ".join(sorted(taken)),
                status=409,
            )


async def create_distribution(
    context: Context,
    *,
    config: dict[str, Any],
    tags: Mapping[str, str] | None = None,
    distribution_id: str | None = None,
    caller_reference: str = "",
) -> Distribution:
    """Create, with an id that the caller has chosen beforehand (`new_id`) or a new one; status InProgress until
    `mark_deployed`. The same caller reference with the same configuration answers the distribution there is. Raises
    AwsError: InvalidArgument and CloudFront's other codes, DistributionAlreadyExists, TooManyDistributions."""
    checked = check_config(config)
    async with context.lock:
        edge_settings.check_references(context.state, checked)
        check_functions(context.state, context.account_id, checked)
        _check_aliases(context.state, checked)
        _check_log_bucket(context.state, checked)
        existing = context.state.list(Distribution)
        for each in existing if caller_reference else ():
            if each.caller_reference == caller_reference:
                if each.config == checked:
                    return each
                raise AwsError(
                    "DistributionAlreadyExists",
                    "The caller reference that you are using to create a distribution is associated with another "
                    f"distribution. Already exists: {each.distribution_id}",
                    status=409,
                )
        if len(existing) >= DISTRIBUTIONS_MAX:
            raise AwsError(
                "TooManyDistributions", "Your request exceeds the maximum number of distributions allowed.", status=400
            )
        if distribution_id is None:
            distribution_id = new_id(context)
        elif context.state.get(Distribution, distribution_id) is not None:
            raise AwsError("DistributionAlreadyExists", "The distribution id is in use.", status=409)
        domains = {each.domain for each in existing}
        while (domain := _domain(context.random_bytes(13))) in domains:
            continue
        now = context.now()
        distribution = Distribution(
            distribution_id=distribution_id,
            account_id=context.account_id,
            domain=domain,
            config=checked,
            etag=id_of(context.random_bytes(13)),
            created_at=now,
            last_modified=now,
            tags=dict(tags or {}),
            caller_reference=caller_reference,
        )
        await context.state.put(distribution)
        return distribution


def _domain(random_bytes: bytes) -> str:
    return f"d{text_of(random_bytes[:13], LOWER_AND_DIGITS)}.cloudfront.net"


def _check_etag(distribution: Distribution, if_match: str | None) -> None:
    if if_match is None:
        raise AwsError(
            "InvalidIfMatchVersion", "The If-Match version is missing or not valid for the resource.", status=400
        )
    if if_match != distribution.etag:
        raise AwsError(
            "PreconditionFailed",
            "The request failed because it didn't meet the preconditions in one or more request-header fields.",
            status=412,
        )


async def update_distribution(
    context: Context,
    distribution_id: str,
    *,
    config: dict[str, Any],
    if_match: str | None,
    tags: Mapping[str, str] | None = None,
) -> Distribution:
    """Replace the configuration (and the tags unless None). `if_match` is the ETag the caller knows. Raises
    NoSuchDistribution, InvalidIfMatchVersion, PreconditionFailed, or as `create_distribution`."""
    checked = check_config(config)
    async with context.lock:
        before = find(context.state, distribution_id)
        _check_etag(before, if_match)
        edge_settings.check_references(context.state, checked)
        check_functions(context.state, context.account_id, checked)
        _check_aliases(context.state, checked, own_id=distribution_id)
        _check_log_bucket(context.state, checked)
        distribution = msgspec.structs.replace(
            before,
            config=checked,
            tags=before.tags if tags is None else dict(tags),
            etag=id_of(context.random_bytes(13)),
            last_modified=context.now(),
            status="InProgress",
        )
        await context.state.put(distribution)
        return distribution


async def set_tags(context: Context, distribution_id: str, tags: Mapping[str, str]) -> None:
    """Replace the tags alone; the configuration's ETag stays. Raises NoSuchDistribution."""
    async with context.lock:
        distribution = find(context.state, distribution_id)
        await context.state.put(msgspec.structs.replace(distribution, tags=dict(tags)))


async def mark_deployed(context: Context, distribution_id: str, etag: str) -> None:
    """Every node has this version of it. Nothing happens when it has changed again or is gone."""
    async with context.lock:
        distribution = context.state.get(Distribution, distribution_id)
        if distribution is not None and distribution.etag == etag and distribution.status != "Deployed":
            await context.state.put(msgspec.structs.replace(distribution, status="Deployed"))


async def delete_distribution(
    context: Context, distribution_id: str, *, if_match: str | None, even_enabled: bool = False
) -> None:
    """Delete with its invalidations. Raises NoSuchDistribution, InvalidIfMatchVersion, PreconditionFailed, and
    DistributionNotDisabled unless `even_enabled` (CloudFormation disables it first)."""
    async with context.lock:
        distribution = find(context.state, distribution_id)
        _check_etag(distribution, if_match)
        if distribution.config.get("Enabled") and not even_enabled:
            raise AwsError(
                "DistributionNotDisabled",
                "The distribution you are trying to delete has not been disabled.",
                status=409,
            )
        for invalidation in list_invalidations(context.state, distribution_id):
            await context.state.delete(invalidation)
        await context.state.delete(distribution)


def list_invalidations(state: State, distribution_id: str) -> list[Invalidation]:
    """The distribution's invalidations, newest first."""
    found = [each for each in state.list(Invalidation) if each.distribution_id == distribution_id]
    return sorted(found, key=lambda each: (-each.created_at, each.invalidation_id))


def find_invalidation(state: State, distribution_id: str, invalidation_id: str) -> Invalidation:
    """Raises NoSuchDistribution or NoSuchInvalidation."""
    find(state, distribution_id)
    invalidation = state.get(Invalidation, invalidation_id)
    if invalidation is None or invalidation.distribution_id != distribution_id:
        raise AwsError("NoSuchInvalidation", "The specified invalidation does not exist.", status=404)
    return invalidation


def check_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths as given, `/` put in front where it is missing, and `#tag` items. Raises InvalidArgument, BatchTooLarge."""
    if not paths:
        raise AwsError("InvalidArgument", "Your request contains no invalidation paths.", status=400)
    if len(paths) > PATHS_IN_PROGRESS_MAX:
        raise AwsError("BatchTooLarge", "Your request contains too many invalidation paths.", status=413)
    checked = []
    for path in paths:
        if path.startswith("#"):
            if not is_tag(path[1:]):
                raise AwsError(
                    "InvalidArgument", "Your request contains one or more invalid invalidation tags.", status=400
                )
            checked.append(path)
            continue
        whole = path if path.startswith("/") else f"/{path}"
        if len(whole) > PATH_CHARACTERS_MAX or "*" in whole[:-1] or not re.fullmatch(r"[!-~]+", whole):
            raise AwsError(
                "InvalidArgument", "Your request contains one or more invalid invalidation paths.", status=400
            )
        checked.append(whole)
    return tuple(dict.fromkeys(checked))


async def create_invalidation(
    context: Context, distribution_id: str, *, paths: Sequence[str], caller_reference: str
) -> Invalidation:
    """Invalidate; the same reference with the same paths answers the invalidation there is. Raises NoSuchDistribution,
    InvalidArgument, BatchTooLarge, TooManyInvalidationsInProgress."""
    checked = check_paths(paths)
    if not caller_reference or len(caller_reference) > 128:
        raise AwsError("InvalidArgument", "The parameter CallerReference is required.", status=400)
    async with context.lock:
        find(context.state, distribution_id)
        known = list_invalidations(context.state, distribution_id)
        for invalidation in known:
            if invalidation.caller_reference == caller_reference:
                if set(invalidation.paths) == set(checked):
                    return invalidation
                raise AwsError(
                    "InvalidArgument",
                    "Your request contains a caller reference that was used for a previous invalidation batch for the "
                    "same distribution, but the content of the new batch is different.",
                    status=400,
                )
        running = [path for each in known if each.status != "Completed" for path in each.paths] + list(checked)
        wildcards = sum(path.endswith("*") and not path.startswith("#") for path in running)
        if len(running) > PATHS_IN_PROGRESS_MAX or wildcards > WILDCARDS_IN_PROGRESS_MAX:
            raise AwsError(
                "TooManyInvalidationsInProgress",
                "You have exceeded the maximum number of allowable InProgress invalidation paths.",
                status=400,
            )
        invalidation = Invalidation(
            invalidation_id="I" + text_of(context.random_bytes(25), UPPER_AND_DIGITS),
            distribution_id=distribution_id,
            paths=checked,
            caller_reference=caller_reference,
            created_at=context.now(),
        )
        await context.state.put(invalidation)
        for old in [each for each in known if each.status == "Completed"][INVALIDATIONS_KEPT:]:
            await context.state.delete(old)
        return invalidation


async def complete_invalidation(context: Context, invalidation_id: str) -> None:
    """Every node has carried it out."""
    async with context.lock:
        invalidation = context.state.get(Invalidation, invalidation_id)
        if invalidation is not None and invalidation.status != "Completed":
            await context.state.put(msgspec.structs.replace(invalidation, status="Completed"))
