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
        BucketSettings:                             # optional; what a data bucket has besides deploy's own settings
          FirstBucket: {LifecycleConfiguration: …}  # see nearpoint.aws.bucket_settings
        OnAws: {Monitoring: "yes"}                  # optional; parameters that get another value with --target aws

`Function` may be a list of such functions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearpoint.aws.bucket_settings import SETTINGS
from nearpoint.aws.clients import HOME_REGION
from nearpoint.aws.edge_limits import check_function
from nearpoint.aws.errors import DeployError
from nearpoint.aws.package import HANDLER, RUNTIME
from nearpoint.stack.document import read
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.matching import matches_in_time
from nearpoint.stack.parameters import Parameter, declare, resolve

_KEYS = frozenset(("DataBuckets", "Function", "BucketSettings", "OnAws"))
# Properties that name what has to be in the stack's own region
_OF_HOME = ("LambdaFunctionARN", "AcmCertificateArn", "WebACLId", "AlarmActions", "OKActions")
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
    """`lines` are where the resources stand, by logical id. `defaults` has every declared parameter: its default, or
    None; `checked` those whose values can be told right or wrong here. `bound_to` are resources that CloudFormation can
    only make in the region of the bucket that a parameter names, as (logical id, parameter)."""

    path: Path
    text: str
    lines: Mapping[str, int]
    defaults: Mapping[str, str | None]
    checked: Mapping[str, Parameter]
    data_buckets: tuple[str, ...]
    functions: tuple[FunctionPlace, ...]
    bucket_settings: Mapping[str, Mapping[str, Any]]
    on_aws: Mapping[str, str]
    bound_to: tuple[tuple[str, str], ...]
    makes_named_roles: bool
    makes_roles: bool

    def place_of(self, logical_id: str) -> str:
        """Where a resource stands, as `template.yaml:57`; empty where that is not known."""
        line = self.lines.get(logical_id)
        return "" if line is None else f"{self.path}:{line}"

    def check_values(self, given: Mapping[str, str]) -> None:
        """Raises DeployError for a parameter's value that CloudFormation would refuse; blocks."""
        known = {name: value for name, value in given.items() if name in self.checked}
        try:
            resolve(self.checked, known, matches_in_time)
        except TemplateError as error:
            raise DeployError(f"{self.path}: {error.message}") from None

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
        parsed = read(text)
        document = parsed.value
    except OSError as error:
        raise DeployError(f"The template {path} cannot be read: {error.strerror}.", usage=True) from None
    except UnicodeDecodeError:
        raise DeployError(f"The template {path} is not UTF-8.") from None
    except TemplateError as error:
        raise DeployError(f"{path}: {error.message}") from None
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise DeployError(f"{path} is no CloudFormation template: it has no Resources.")
    resources = {name: each for name, each in document["Resources"].items() if isinstance(each, dict)}
    declared = document.get("Parameters") or {}
    if not isinstance(declared, dict):
        raise DeployError(f"{path}: Parameters has to be an object.")
    section = _section(document, path)
    roles = [each for each in resources.values() if str(each.get("Type", "")).startswith("AWS::IAM::")]
    data_buckets = tuple(section.get("DataBuckets", ()))
    _check_reach(resources, data_buckets, path)
    application = Application(
        path=path,
        text=text,
        lines={
            str(where[1]): line
            for where, line in parsed.lines.items()
            if where[:1] == ("Resources",) and len(where) == 2
        },
        defaults={
            name: None if "Default" not in each else str(each["Default"])
            for name, each in declared.items()
            if isinstance(each, dict)
        },
        checked=_checked(declared),
        data_buckets=data_buckets,
        functions=tuple(_functions(section, resources, path)),
        bucket_settings=_bucket_settings(section, path),
        on_aws=_on_aws(section, path),
        bound_to=tuple(_bound(resources)),
        makes_roles=bool(roles),
        makes_named_roles=any(_is_named(each.get("Properties")) for each in roles),
    )
    named = [*application.data_buckets, *application.bucket_settings, *application.on_aws]
    for function in application.functions:
        named += [function.bucket_parameter, function.key_parameter]
        named += [function.digest_parameter] if function.digest_parameter else []
    unknown = [name for name in named if name not in application.defaults]
    if unknown:
        raise DeployError(f"{path}: Metadata.Nearpoint names {', '.join(unknown)}, which Parameters does not declare.")
    return application


def _checked(declared: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters as declared, but for those of types that only CloudFormation knows."""
    found = {}
    for name, each in declared.items():
        with contextlib.suppress(TemplateError):  # CloudFormation will say so, or knows better
            found[name] = declare(name, each)
    return found


def _properties(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    found = resource.get("Properties")
    return found if isinstance(found, dict) else {}


def _check_reach(resources: Mapping[str, Any], data_buckets: Sequence[str], path: Path) -> None:
    """CloudFront takes functions, certificates and web ACLs of us-east-1 alone, and so does a stack there its alarms'
    topics. Raises DeployError for an ARN of another region, and for a data bucket that the stack would make itself."""
    problems = []
    for name, resource in resources.items():
        for key in _OF_HOME:
            for value in _values_of(key, resource):
                for arn in value if isinstance(value, list) else [value]:
                    region = arn.split(":")[3] if isinstance(arn, str) and arn.count(":") >= 5 else ""
                    if region not in ("", HOME_REGION):
                        problems.append(f"{name}: {key} is in {region}; a stack in {HOME_REGION} needs one of its own.")
        bucket = _properties(resource).get("BucketName")
        if resource.get("Type") == "AWS::S3::Bucket" and bucket in [{"Ref": each} for each in data_buckets]:
            problems.append(f"{name}: deploy makes the data buckets, each in its region; take it out of the template.")
    if problems:
        raise DeployError("\n".join((f"{path} has resources out of its stack's reach:", *problems)))


def _bound(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A bucket's policy is put by the stack's own region, which cannot reach a bucket in another one."""
    for name, resource in resources.items():
        bucket = _properties(resource).get("Bucket")
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


def _bucket_settings(section: Mapping[str, Any], path: Path) -> dict[str, Mapping[str, Any]]:
    declared = section.get("BucketSettings", {})
    if not isinstance(declared, dict) or not all(
        isinstance(each, dict) and set(each) <= SETTINGS for each in declared.values()
    ):
        raise DeployError(
            f"{path}: Metadata.Nearpoint.BucketSettings has parameters of data buckets, and for each of them "
            f"{', '.join(sorted(SETTINGS))}."
        )
    return dict(declared)


def _on_aws(section: Mapping[str, Any], path: Path) -> dict[str, str]:
    declared = section.get("OnAws", {})
    if not isinstance(declared, dict) or not all(isinstance(each, str) for each in declared.values()):
        raise DeployError(f"{path}: Metadata.Nearpoint.OnAws has texts by parameter.")
    return dict(declared)


def _functions(section: Mapping[str, Any], resources: Mapping[str, Any], path: Path) -> Iterator[FunctionPlace]:
    declared = section.get("Function", [])
    for each in declared if isinstance(declared, list) else [declared]:
        yield _function(each, resources, path)


def _function(declared: Any, resources: Mapping[str, Any], path: Path) -> FunctionPlace:
    needed = _FUNCTION_KEYS - {"DigestParameter"}
    if (
        not isinstance(declared, dict)
        or not needed <= set(declared) <= _FUNCTION_KEYS
        or not all(isinstance(each, str) for each in declared.values())
    ):
        raise DeployError(f"{path}: Metadata.Nearpoint.Function needs {', '.join(sorted(needed))}.")
    event = "origin-request"
    properties: Mapping[str, Any] = {}
    for name, resource in resources.items():
        given = _properties(resource)
        code = given.get("Code")
        key = code.get("S3Key") if isinstance(code, dict) else None
        if resource.get("Type") == "AWS::Lambda::Function" and key == {"Ref": declared["KeyParameter"]}:
            properties = given
            event = _strictest_event(name, resources)
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


def _strictest_event(function: str, resources: Mapping[str, Any]) -> str:
    """The event that the function runs at; a viewer's, which allows least, where it can't be told which it is."""
    references = ({"Ref": function}, {"Fn::GetAtt": [function, "Arn"]})
    versions = {
        name
        for name, resource in resources.items()
        if resource.get("Type") == "AWS::Lambda::Version" and _properties(resource).get("FunctionName") in references
    }
    own: set[str] = set()
    others: set[str] = set()
    for each in _values_of("LambdaFunctionAssociations", resources):
        for association in each if isinstance(each, list) else ():
            if isinstance(association, dict):
                named = _named_by(association.get("LambdaFunctionARN"))
                (own if named in versions else others).add(str(association.get("EventType")))
    return next((each for each in sorted(own or others, reverse=True) if each.startswith("viewer")), "origin-request")


def _named_by(value: Any) -> str:
    """The resource that a Ref or Fn::GetAtt names; empty where it is neither."""
    if not isinstance(value, dict):
        return ""
    named = value.get("Ref") or value.get("Fn::GetAtt")
    return str(named[0] if isinstance(named, list) and named else named)


def _values_of(key: str, value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from _values_of(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from _values_of(key, each)
