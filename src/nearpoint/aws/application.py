"""A template as `deploy` reads it: which parameters it fills in itself, and which function it packages.

The template says so in its Metadata, which CloudFormation keeps and leaves alone:

    Metadata:
      Nearpoint:
        DataBuckets: [FirstBucket, SecondBucket]    # parameters, in the order of --regions
        Function:
          Folder: function                          # beside the template
          BucketParameter: CodeBucket
          KeyParameter: CodeKey
          DigestParameter: CodeSha256               # optional; publishes a version when the code changes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearpoint.aws.edge_limits import check_function
from nearpoint.aws.errors import DeployError
from nearpoint.aws.package import HANDLER, RUNTIME
from nearpoint.stack.document import read
from nearpoint.stack.errors import TemplateError

_KEYS = frozenset(("DataBuckets", "Function"))
_FUNCTION_KEYS = frozenset(("Folder", "BucketParameter", "KeyParameter", "DigestParameter"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlace:
    """The function to package and the parameters that say where its package is."""

    folder: Path
    handler: str
    runtime: str
    event: str
    bucket_parameter: str
    key_parameter: str
    digest_parameter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """`defaults` has every declared parameter: its default, or None. `bound_to` are resources that CloudFormation can
    only make in the region of the bucket that a parameter names, as (logical id, parameter)."""

    path: Path
    text: str
    defaults: Mapping[str, str | None]
    data_buckets: tuple[str, ...]
    function: FunctionPlace | None
    bound_to: tuple[tuple[str, str], ...]
    makes_named_roles: bool
    makes_roles: bool

    @property
    def capabilities(self) -> list[str]:
        """What CloudFormation wants acknowledged."""
        if self.makes_named_roles:
            return ["CAPABILITY_NAMED_IAM"]
        return ["CAPABILITY_IAM"] if self.makes_roles else []


def load(path: Path) -> Application:
    """Read the template. Raises DeployError."""
    path = path / "template.yaml" if path.is_dir() else path
    try:
        text = path.read_text("utf-8")
        document = read(text).value
    except OSError as error:
        raise DeployError(f"The template {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DeployError(f"The template {path} is not UTF-8.") from None
    except TemplateError as error:
        raise DeployError(f"{path}: {error.message}") from None
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise DeployError(f"{path} is no CloudFormation template: it has no Resources.")
    resources = {name: each for name, each in document["Resources"].items() if isinstance(each, dict)}
    declared = document.get("Parameters") or {}
    section = _section(document, path)
    roles = [each for each in resources.values() if str(each.get("Type", "")).startswith("AWS::IAM::")]
    application = Application(
        path=path,
        text=text,
        defaults={
            name: None if "Default" not in each else str(each["Default"])
            for name, each in declared.items()
            if isinstance(each, dict)
        },
        data_buckets=tuple(section.get("DataBuckets", ())),
        function=_function(section, resources, path),
        bound_to=tuple(_bound(resources)),
        makes_roles=bool(roles),
        makes_named_roles=any(_is_named(each.get("Properties")) for each in roles),
    )
    function = application.function
    named = [*application.data_buckets]
    if function is not None:
        named += [function.bucket_parameter, function.key_parameter]
        named += [function.digest_parameter] if function.digest_parameter else []
    unknown = [name for name in named if name not in application.defaults]
    if unknown:
        raise DeployError(f"{path}: Metadata.Nearpoint names {', '.join(unknown)}, which Parameters does not declare.")
    return application


def _bound(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A bucket's policy is put by the stack's own region, which cannot reach a bucket in another one."""
    for name, resource in resources.items():
        properties = resource.get("Properties") or {}
        bucket = properties.get("Bucket") if isinstance(properties, dict) else None
        if resource.get("Type") == "AWS::S3::BucketPolicy" and isinstance(bucket, dict) and "Ref" in bucket:
            yield name, str(bucket["Ref"])


def _is_named(properties: Any) -> bool:
    return isinstance(properties, dict) and bool({"RoleName", "PolicyName", "UserName", "GroupName"} & set(properties))


def _section(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    metadata = document.get("Metadata")
    section = metadata.get("Nearpoint", {}) if isinstance(metadata, dict) else {}
    if not isinstance(section, dict) or not set(section) <= _KEYS:
        raise DeployError(f"{path}: Metadata.Nearpoint may have {' and '.join(sorted(_KEYS))}.")
    buckets = section.get("DataBuckets", [])
    if not isinstance(buckets, list) or not all(isinstance(each, str) for each in buckets):
        raise DeployError(f"{path}: Metadata.Nearpoint.DataBuckets has to be a list of parameters.")
    return section


def _function(section: Mapping[str, Any], resources: Mapping[str, Any], path: Path) -> FunctionPlace | None:
    declared = section.get("Function")
    if declared is None:
        return None
    needed = _FUNCTION_KEYS - {"DigestParameter"}
    if (
        not isinstance(declared, dict)
        or not needed <= set(declared) <= _FUNCTION_KEYS
        or not all(isinstance(each, str) for each in declared.values())
    ):
        raise DeployError(f"{path}: Metadata.Nearpoint.Function needs {', '.join(sorted(needed))}.")
    event = _strictest_event(resources)
    properties: Mapping[str, Any] = {}
    for name, resource in resources.items():
        given = resource.get("Properties") or {}
        code = given.get("Code") if isinstance(given, dict) else None
        key = code.get("S3Key") if isinstance(code, dict) else None
        if resource.get("Type") == "AWS::Lambda::Function" and key == {"Ref": declared["KeyParameter"]}:
            properties = given
            problems = check_function(name, given, event)
            if problems:
                raise DeployError("\n".join((f"{path}: CloudFront would refuse the function:", *problems)))
    handler, runtime = properties.get("Handler", HANDLER), properties.get("Runtime", RUNTIME)
    return FunctionPlace(
        folder=path.parent / declared["Folder"],
        handler=handler if isinstance(handler, str) else HANDLER,
        runtime=runtime if isinstance(runtime, str) else RUNTIME,
        event=event,
        bucket_parameter=declared["BucketParameter"],
        key_parameter=declared["KeyParameter"],
        digest_parameter=declared.get("DigestParameter"),
    )


def _strictest_event(resources: Mapping[str, Any]) -> str:
    events = {str(each) for each in _values_of("EventType", resources)}
    return next((each for each in sorted(events, reverse=True) if each.startswith("viewer")), "origin-request")


def _values_of(key: str, value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from _values_of(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from _values_of(key, each)
