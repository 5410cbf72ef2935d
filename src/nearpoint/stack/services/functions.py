"""Lambda functions and their published versions (Lambda API Reference, CreateFunction and PublishVersion)."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import roles
from nearpoint.stack.services.context import Context
from nearpoint.stack.services.packages import check_package, digest, keep_package, path_of, write_package
from nearpoint.stack.services.policies import service_principals
from nearpoint.state.resources import Distribution, Function, Resource
from nearpoint.state.store import State

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
RUNTIME = re.compile(r"python3\.[0-9]{1,2}")
HANDLER = re.compile(r"[^\s.][^\s]{0,126}")
ARCHITECTURES = ("x86_64", "arm64")
MEMORY_MB = (128, 10240)
TIMEOUT_S = (1, 900)
DESCRIPTION_MAX = 256
ENVIRONMENT_BYTES_MAX = 4096
ENVIRONMENT_NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9_])+")
ENVIRONMENT_RESERVED = frozenset(
    ("_HANDLER", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
     "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT")
)  # fmt: skip
FUNCTIONS_MAX = 1000
VERSIONS_MAX = 1000  # of one function

LATEST = "$LATEST"


class VersionCounter(Resource, frozen=True, kw_only=True):
    """The last version number given to functions of that name: Lambda never gives one again, not even to a new
    function of the same name."""

    KIND: ClassVar[str] = "function-version-counter"
    name: str
    last: int

    @property
    def id(self) -> str:
        return self.name


def _invalid(text: str) -> AwsError:
    return AwsError("InvalidParameterValueException", text, status=400)


def _constraint(value: str, member: str, rule: str) -> AwsError:
    shown = value if len(value) <= 256 else value[:256] + "…"
    return AwsError(
        "ValidationException",
        f"1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: Member must {rule}",
        status=400,
    )


def arn_of(context: Context, region: str, name: str) -> str:
    """The ARN of a function of this account."""
    return f"arn:aws:lambda:{region}:{context.account_id}:function:{name}"


def split_reference(reference: str, qualifier: str | None = None) -> tuple[str, str]:
    """Name and version out of what callers give: a name, `name:version`, a partial ARN or an ARN. Raises
    InvalidParameterValueException where the qualifier says otherwise."""
    parts = reference.split(":")
    if parts[0] == "arn":
        parts = parts[6:]
    elif len(parts) > 2 and parts[1] == "function":  # 123456789012:function:name[:version]
        parts = parts[2:]
    if not 1 <= len(parts) <= 2 or not NAME.fullmatch(parts[0]):
        raise _constraint(reference, "functionName", "satisfy regular expression pattern of a function name or ARN")
    if len(parts) == 2:
        if qualifier not in (None, parts[1]):
            raise _invalid("The derived qualifier from the function name does not match the specified qualifier.")
        qualifier = parts[1]
    return parts[0], qualifier or LATEST


def find(context: Context, region: str, reference: str, qualifier: str | None = None) -> Function:
    """The function or version in that region. Raises ResourceNotFoundException."""
    name, version = split_reference(reference, qualifier)
    function = context.state.get(Function, f"{name}:{version}")
    if function is None or function.region != region:
        arn = arn_of(context, region, name)
        shown = arn if version == LATEST and qualifier is None else f"{arn}:{version}"
        raise AwsError("ResourceNotFoundException", f"Function not found: {shown}", status=404, extra={"Type": "User"})
    return function


def list_functions(state: State, region: str) -> list[Function]:
    """Every function of the region ($LATEST), by name."""
    return [each for each in state.list(Function) if each.version == LATEST and each.region == region]


def list_versions(state: State, name: str) -> list[Function]:
    """$LATEST and then the published versions in order."""
    found = [function for function in state.list(Function) if function.name == name]
    return sorted(found, key=lambda each: -1 if each.version == LATEST else int(each.version))


def check_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Raises InvalidParameterValueException for reserved or malformed names, or more than 4 KB."""
    for name in environment:
        if name in ENVIRONMENT_RESERVED:
            raise _invalid(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                f"provided contains reserved keys that are currently not supported for modification. Reserved keys "
                f"used in this request: {name}"
            )
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise _constraint(
                name, "environment.variables", "satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+"
            )
    if sum(len(name.encode()) + len(value.encode()) for name, value in environment.items()) > ENVIRONMENT_BYTES_MAX:
        raise _invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the {ENVIRONMENT_BYTES_MAX // 1024}KB limit."
        )
    return dict(environment)


def _check_role(state: State, role_arn: str) -> None:
    role = roles.find_by_arn(state, role_arn)
    if role is None or "lambda.amazonaws.com" not in service_principals(role.trust):
        raise _invalid("The role defined for the function cannot be assumed by Lambda.")


def _check_settings(function: Function) -> None:
    if not RUNTIME.fullmatch(function.runtime):
        raise _invalid(
            f"Value {function.runtime[:64]} at 'runtime' failed to satisfy constraint: Member must be "
            "a Python runtime, python3.x"
        )
    if not HANDLER.fullmatch(function.handler) or "." not in function.handler[1:-1]:
        raise _constraint(function.handler, "handler", r"be module.function and satisfy pattern: [^\s]+")
    if not MEMORY_MB[0] <= function.memory_mb <= MEMORY_MB[1]:
        raise _constraint(str(function.memory_mb), "memorySize", f"be {MEMORY_MB[0]} to {MEMORY_MB[1]}")
    if not TIMEOUT_S[0] <= function.timeout_s <= TIMEOUT_S[1]:
        raise _constraint(str(function.timeout_s), "timeout", f"be {TIMEOUT_S[0]} to {TIMEOUT_S[1]}")
    if len(function.description) > DESCRIPTION_MAX:
        raise _constraint(function.description, "description", f"have length less than or equal to {DESCRIPTION_MAX}")
    if len(function.architectures) != 1 or function.architectures[0] not in ARCHITECTURES:
        raise _constraint(",".join(function.architectures), "architectures", f"be one of {', '.join(ARCHITECTURES)}")
    check_environment(function.environment)


async def create_function(
    context: Context,
    *,
    name: str,
    region: str,
    package: bytes,
    runtime: str,
    handler: str,
    role_arn: str,
    memory_mb: int = 128,
    timeout_s: int = 3,
    description: str = "",
    environment: Mapping[str, str] | None = None,
    architectures: Sequence[str] = ("x86_64",),
) -> Function:
    """Create; the package is on disk when this returns. Raises AwsError: ValidationException,
    InvalidParameterValueException (runtime, role, package), ResourceConflictException."""
    if not NAME.fullmatch(name):
        raise _constraint(name, "functionName", "satisfy regular expression pattern: [a-zA-Z0-9-_]{1,64}")
    function = Function(
        name=name,
        account_id=context.account_id,
        region=region,
        role_arn=role_arn,
        runtime=runtime,
        handler=handler,
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        code_sha256=digest(package),
        code_size_bytes=len(package),
        description=description,
        architectures=tuple(architectures),
        environment=dict(environment or {}),
        last_modified=context.now(),
    )
    _check_settings(function)
    await asyncio.to_thread(check_package, package)
    written = await asyncio.to_thread(write_package, context.packages_dir, package, context.random_bytes(8).hex())
    try:
        async with context.lock:
            if context.state.get(Function, function.id) is not None:
                raise AwsError(
                    "ResourceConflictException", f"Function already exist: {name}", status=409, extra={"Type": "User"}
                )
            if len(list_functions(context.state, region)) >= FUNCTIONS_MAX:
                raise _invalid(f"There can be at most {FUNCTIONS_MAX} functions")
            _check_role(context.state, role_arn)
            keep_package(written, context.packages_dir, function.code_sha256)
            await context.state.put(function)
    finally:
        written.unlink(missing_ok=True)
    return function


async def update_code(context: Context, region: str, reference: str, package: bytes) -> Function:
    """Give $LATEST another package; published versions keep theirs. Raises as `create_function`."""
    await asyncio.to_thread(check_package, package)
    written = await asyncio.to_thread(write_package, context.packages_dir, package, context.random_bytes(8).hex())
    try:
        async with context.lock:
            before = find(context, region, split_reference(reference)[0])
            function = msgspec.structs.replace(
                before, code_sha256=digest(package), code_size_bytes=len(package), last_modified=context.now()
            )
            keep_package(written, context.packages_dir, function.code_sha256)
            await context.state.put(function)
            _drop_packages(context, {before.code_sha256})
    finally:
        written.unlink(missing_ok=True)
    return function


async def update_configuration(context: Context, region: str, reference: str, **changes: Any) -> Function:
    """Change fields of $LATEST by `Function`'s names: role_arn, runtime, handler, memory_mb, timeout_s, description,
    environment. Raises as `create_function`."""
    async with context.lock:
        function = msgspec.structs.replace(
            find(context, region, split_reference(reference)[0]), **changes, last_modified=context.now()
        )
        _check_settings(function)
        _check_role(context.state, function.role_arn)
        await context.state.put(function)
    return function


def _unchanged(latest: Function, version: Function) -> bool:
    keep = {"version": "", "last_modified": 0.0, "description": ""}
    return msgspec.structs.replace(latest, **keep) == msgspec.structs.replace(version, **keep)


def newest_version(state: State, name: str) -> Function | None:
    """The highest published version that is still there, or None."""
    versions = list_versions(state, name)
    return versions[-1] if versions and versions[-1].version != LATEST else None


def next_version(state: State, name: str) -> int:
    """The number that the next published version gets."""
    counter = state.get(VersionCounter, name)
    return 1 if counter is None else counter.last + 1


async def publish_version(
    context: Context,
    region: str,
    reference: str,
    *,
    code_sha256_base64: str | None = None,
    description: str | None = None,
) -> Function:
    """Publish what $LATEST is now; where nothing changed since the newest version, that one is the answer. Raises
    ResourceNotFoundException, and InvalidParameterValueException where the code is not the one the caller means."""
    async with context.lock:
        state = context.state
        latest = find(context, region, split_reference(reference)[0])
        have = code_sha256_base64_of(latest)
        if code_sha256_base64 is not None and code_sha256_base64 != have:
            raise _invalid(
                f"CodeSHA256 ({code_sha256_base64}) is different from current CodeSHA256 in $LATEST ({have}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        newest = newest_version(state, latest.name)
        if newest is not None and _unchanged(latest, newest):
            return newest
        if len(list_versions(state, latest.name)) > VERSIONS_MAX:
            raise _invalid(f"A function can have at most {VERSIONS_MAX} versions")
        number = next_version(state, latest.name)
        # The counter first: a number that is lost in a crash is only skipped.
        await state.put(VersionCounter(name=latest.name, last=number))
        version = msgspec.structs.replace(
            latest,
            version=str(number),
            description=latest.description if description is None else description,
            last_modified=context.now(),
        )
        await state.put(version)
        return version


def code_sha256_base64_of(function: Function) -> str:
    """The digest as Lambda's API shows it."""
    return base64.b64encode(bytes.fromhex(function.code_sha256)).decode()


def associated_arns(state: State) -> Iterator[tuple[str, Distribution]]:
    """Every function version ARN that a distribution's behavior runs."""
    for distribution in state.list(Distribution):
        behaviors = [
            distribution.config.get("DefaultCacheBehavior", {}),
            *distribution.config.get("CacheBehaviors", ()),
        ]
        for behavior in behaviors:
            for association in behavior.get("LambdaFunctionAssociations", ()):
                yield association.get("LambdaFunctionARN", ""), distribution


async def delete_function(context: Context, region: str, reference: str, qualifier: str | None = None) -> None:
    """Delete one version, or the function with all its versions. Raises ResourceNotFoundException, and
    InvalidParameterValueException for a version that a distribution still runs. Packages that no version has any
    more are removed."""
    async with context.lock:
        state = context.state
        name, version = split_reference(reference, qualifier)
        if qualifier == LATEST or reference.endswith(f":{LATEST}"):
            raise _invalid("$LATEST version cannot be deleted without deleting the function.")
        found = find(context, region, name, None if version == LATEST else version)
        doomed = list_versions(state, name) if version == LATEST else [found]
        in_use = {arn for arn, _ in associated_arns(state)}
        for function in doomed:
            if function.version != LATEST and function.arn in in_use:
                raise _invalid(
                    f"Lambda was unable to delete {function.arn} because it is a replicated function. Please see our "
                    "documentation for Deleting Lambda@Edge Functions and Replicas."
                )
        # $LATEST last: while it is there, what a crash left of the versions is found and deleted again.
        for function in reversed(doomed):
            await state.delete(function)
        _drop_packages(context, {function.code_sha256 for function in doomed})


def _drop_packages(context: Context, digests: set[str]) -> None:
    kept = {function.code_sha256 for function in context.state.list(Function)}
    for code_sha256 in digests - kept:
        path_of(context.packages_dir, code_sha256).unlink(missing_ok=True)
