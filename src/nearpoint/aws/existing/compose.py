"""From what exists to the template that makes such things again. Pure.

Everything is put down with its own ids first; `references` then says Ref and GetAtt where the template makes what an id
stands for. Names that only one thing may have (buckets, domain names) become parameters.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.aws.existing.bucket_reading import parameter
from nearpoint.aws.existing.found import EdgeFunction, Existing, Setting
from nearpoint.aws.existing.references import Name, Names
from nearpoint.aws.replication import ROLE_OUTPUT

NO_VALUE = {"Ref": "AWS::NoValue"}
# Who may name whom: see references.Name. A resource of a rank names what ranks below.
_PARAMETER, _FIRST, _ROLE, _FUNCTION, _VERSION, _SETTING, _GROUP, _DISTRIBUTION, _LAST = range(9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A template, the functions' code by folder and path, and what to tell the user."""

    template: Mapping[str, Any]
    folders: Mapping[str, Mapping[str, bytes]]
    notes: tuple[str, ...]


class _Draft:
    """A template on its way, with literal ids."""

    def __init__(self, existing: Existing) -> None:
        self.existing = existing
        self.parameters: dict[str, Any] = {}
        self.conditions: dict[str, Any] = {}
        self.mappings: dict[str, dict[str, str]] = {}
        self.resources: dict[str, tuple[int, dict[str, Any]]] = {}
        self.outputs: dict[str, Any] = {}
        self.names: list[Name] = []
        self.notes: list[str] = [*existing.notes]
        self.metadata: dict[str, Any] = {}

    def text_parameter(self, name: str, description: str, default: str | None = None, **more: Any) -> None:
        self.parameters[name] = {
            "Type": "String",
            **({} if default is None else {"Default": default}),
            **more,
            "Description": description,
        }

    def logical(self, wanted: str) -> str:
        """The wanted id, or the first free one with a number."""
        number, name = 1, wanted
        while name in self.resources or name in self.parameters:
            number += 1
            name = f"{wanted}{number}"
        return name

    def add(self, wanted: str, rank: int, type_: str, properties: Mapping[str, Any], **more: Any) -> str:
        name = self.logical(wanted)
        self.resources[name] = (rank, {"Type": type_, **more, "Properties": dict(properties)})
        return name

    def stands_for(self, literal: str, expression: str, rank: int, *, whole: bool = False) -> None:
        self.names.append(Name(literal=literal, expression=expression, rank=rank, whole=whole))


def compose(existing: Existing) -> Composed:
    """The template and what belongs to it."""
    draft = _Draft(existing)
    _data_buckets(draft)
    _access_point(draft)
    _origin_buckets(draft)
    _roles(draft)
    folders = _functions(draft)
    _settings(draft)
    _distribution(draft)
    _outputs(draft)
    names = Names(draft.names, existing.account_id)
    resources = {
        name: {**resource, "Properties": names.replaced(resource["Properties"], rank)}
        for name, (rank, resource) in draft.resources.items()
    }
    template: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Imported from distribution {existing.distribution.id} and access point "
        f"{existing.access_point.name}",
        "Metadata": {"Nearpoint": names.placed(draft.metadata)},
        "Parameters": draft.parameters,
        "Conditions": draft.conditions,
        "Mappings": {"Managed": draft.mappings} if draft.mappings else {},
        "Resources": resources,
        "Outputs": draft.outputs,
    }
    return Composed(
        template={name: section for name, section in template.items() if section},
        folders=folders,
        notes=tuple(draft.notes),
    )


def _data_buckets(draft: _Draft) -> None:
    point = draft.existing.access_point
    settings: dict[str, Any] = {}
    for bucket in point.buckets:
        name = parameter(bucket.region)
        draft.text_parameter(name, f"Data bucket in {bucket.region}")
        draft.stands_for(bucket.name, name, _PARAMETER, whole=True)
        if bucket.settings:
            settings[name] = dict(bucket.settings)
    draft.metadata["DataBuckets"] = [parameter(bucket.region) for bucket in point.buckets]
    if settings:
        draft.metadata["BucketSettings"] = settings
    shown = ", ".join(bucket.name for bucket in point.buckets)
    draft.notes.append(
        f"the content of {shown} is not copied; `aws s3 sync s3://OLD s3://NEW` does that, or name the existing "
        "buckets with --parameter"
    )


def _access_point(draft: _Draft) -> None:
    point = draft.existing.access_point
    properties: dict[str, Any] = {"Regions": [{"Bucket": bucket.name} for bucket in point.buckets]}
    if point.public_access_block:
        properties["PublicAccessBlockConfiguration"] = dict(point.public_access_block)
    name = draft.add("AccessPoint", _FIRST, "AWS::S3::MultiRegionAccessPoint", properties)
    draft.stands_for(point.alias, f"{name}.Alias", _FIRST)
    if point.policy is not None:
        policy = {"MrapName": {"Ref": name}, "Policy": point.policy}
        draft.add("AccessPointPolicy", _LAST, "AWS::S3::MultiRegionAccessPointPolicy", policy)


def _origin_buckets(draft: _Draft) -> None:
    for domain, bucket in draft.existing.origin_buckets.items():
        origin = next(each for each in draft.existing.distribution.config["Origins"] if each["DomainName"] == domain)
        name = draft.add(
            f"{_pascal(origin['Id'])}Bucket", _FIRST, "AWS::S3::Bucket", bucket.properties,
            DeletionPolicy="RetainExceptOnCreate", UpdateReplacePolicy="Retain",
        )  # fmt: skip
        draft.stands_for(domain, f"{name}.RegionalDomainName", _FIRST)
        draft.stands_for(bucket.name, name, _FIRST, whole=True)
        draft.outputs[name] = {"Description": f"The bucket of the origin {origin['Id']}", "Value": {"Ref": name}}
        if bucket.policy is not None:
            policy = {"Bucket": {"Ref": name}, "PolicyDocument": bucket.policy}
            draft.add(f"{name}Policy", _LAST, "AWS::S3::BucketPolicy", policy)


def _roles(draft: _Draft) -> None:
    existing = draft.existing
    replicating = {bucket.replication_role_arn for bucket in existing.access_point.buckets} - {None}
    for role in existing.roles:
        users = [each for each in existing.functions if each.role_arn == role.arn]
        wanted = f"{_event_word(users[0])}Role" if users else "ReplicationRole"
        name = draft.add(wanted, _ROLE, "AWS::IAM::Role", role.properties)
        draft.stands_for(role.arn, f"{name}.Arn", _ROLE)
        if role.arn in replicating and ROLE_OUTPUT not in draft.outputs:
            draft.outputs[ROLE_OUTPUT] = {
                "Description": "With this output, `nearpoint deploy` has the buckets copy to each other",
                "Value": {"Fn::GetAtt": [name, "Arn"]},
            }
    if len(replicating) > 1:
        draft.notes.append("the buckets copy with different roles; the new ones copy with one, ReplicationRole")


def _functions(draft: _Draft) -> dict[str, Mapping[str, bytes]]:
    functions = draft.existing.functions
    folders: dict[str, Mapping[str, bytes]] = {}
    places: list[dict[str, str]] = []
    if functions:
        draft.text_parameter("CodeBucket", "Bucket in us-east-1 that holds the packages of the functions")
    for function in functions:
        name = draft.logical(f"{_event_word(function)}Function")
        first = "" if len(functions) == 1 else name
        key, digest, condition = f"{first}CodeKey", f"{first}CodeSha256", f"Has{first}Digest"
        draft.text_parameter(key, f"Key of the package of {name} in that bucket", "function.zip")
        draft.text_parameter(digest, "Its SHA-256 in base64; when it changes, the edge gets a new version", "")
        draft.conditions[condition] = {"Fn::Not": [{"Fn::Equals": [{"Ref": digest}, ""]}]}
        folder = "function" if len(functions) == 1 else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
        places.append(
            {"Folder": folder, "BucketParameter": "CodeBucket", "KeyParameter": key, "DigestParameter": digest}
        )
        if function.files is not None:
            folders[folder] = function.files
        properties = {
            **function.properties,
            "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": key}},
            "Role": function.role_arn,
        }
        draft.add(name, _FUNCTION, "AWS::Lambda::Function", properties)
        version = draft.add(
            f"{name}Version", _VERSION, "AWS::Lambda::Version",
            {"FunctionName": {"Ref": name}, "CodeSha256": {"Fn::If": [condition, {"Ref": digest}, NO_VALUE]}},
        )  # fmt: skip
        draft.stands_for(function.version_arn, version, _VERSION)
        draft.stands_for(function.version_arn.rpartition(":")[0], f"{name}.Arn", _FUNCTION)
    if places:
        draft.metadata["Function"] = places[0] if len(places) == 1 else places
    for viewer in draft.existing.viewer_functions:
        name = draft.logical(f"{_pascal(viewer.name)}Function")
        properties = {
            "Name": {"Fn::Sub": f"${{AWS::StackName}}-{_dashed(viewer.name)}"},
            "AutoPublish": True,
            "FunctionConfig": {"Comment": viewer.comment or viewer.name, "Runtime": viewer.runtime},
            "FunctionCode": viewer.code,
        }
        draft.add(name, _FUNCTION, "AWS::CloudFront::Function", properties)
        draft.stands_for(viewer.arn, f"{name}.FunctionARN", _FUNCTION)
    return folders


def _settings(draft: _Draft) -> None:
    for setting in draft.existing.settings:
        wanted = _setting_id(draft.existing, setting)
        rank = _GROUP if setting.kind == "KeyGroup" else _SETTING
        named = {**setting.config, "Name": {"Fn::Sub": f"${{AWS::StackName}}-{_dashed(wanted)}"}}
        name = draft.add(wanted, rank, f"AWS::CloudFront::{setting.kind}", {f"{setting.kind}Config": named})
        reference = f"{name}.Id" if setting.kind == "OriginAccessControl" else name
        draft.stands_for(setting.id, reference, rank)


def _setting_id(existing: Existing, setting: Setting) -> str:
    if setting.kind != "OriginAccessControl":
        return setting.kind
    origins = existing.distribution.config["Origins"]
    users = [origin["Id"] for origin in origins if origin.get("OriginAccessControlId") == setting.id]
    return f"{_pascal(users[0])}Access" if users else setting.kind


def _distribution(draft: _Draft) -> None:
    existing = draft.existing
    config = copy.deepcopy(dict(existing.distribution.config))
    config["Origins"] = [_origin(draft, origin) for origin in config["Origins"]]
    for behavior in [config["DefaultCacheBehavior"], *config.get("CacheBehaviors", ())]:
        for kind in ("CachePolicy", "OriginRequestPolicy", "ResponseHeadersPolicy"):
            id = behavior.get(f"{kind}Id")
            if id in existing.distribution.managed:
                key = re.sub("[^A-Za-z0-9]", "", existing.distribution.managed[id][1].removeprefix("Managed-"))
                draft.mappings.setdefault(kind, {})[key] = id
                behavior[f"{kind}Id"] = {"Fn::FindInMap": ["Managed", kind, key]}
    if "Aliases" in config:
        shown = ",".join(config["Aliases"])
        draft.parameters["DomainNames"] = {
            "Type": "CommaDelimitedList",
            "Default": "",
            "Description": f"Names of your own, which one distribution at a time may have; imported: {shown}",
        }
        draft.conditions["HasDomainNames"] = {
            "Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "DomainNames"}]}, ""]}]
        }
        config["Aliases"] = {"Fn::If": ["HasDomainNames", {"Ref": "DomainNames"}, NO_VALUE]}
        if "ViewerCertificate" in config:
            config["ViewerCertificate"] = {"Fn::If": ["HasDomainNames", config["ViewerCertificate"], NO_VALUE]}
        draft.notes.append(
            f"{shown} can only belong to one distribution: take it from {existing.distribution.id}, then deploy with "
            f"--parameter DomainNames={shown}"
        )
    elif "ViewerCertificate" in config:
        draft.notes.append("the certificate stays the one it is; another account needs its own")
    if "Logging" in config:
        bucket = config["Logging"]["Bucket"]
        draft.text_parameter("LogBucketDomain", "Where access logs go, as BUCKET.s3.amazonaws.com", bucket)
        config["Logging"] = {**config["Logging"], "Bucket": {"Ref": "LogBucketDomain"}}
        draft.notes.append(f"access logs go to {bucket} as well, unless you say --parameter LogBucketDomain=…")
    properties: dict[str, Any] = {"DistributionConfig": config}
    if existing.distribution.tags:
        properties["Tags"] = [{"Key": key, "Value": value} for key, value in existing.distribution.tags.items()]
    name = draft.add("Distribution", _DISTRIBUTION, "AWS::CloudFront::Distribution", properties)
    draft.stands_for(existing.distribution.id, name, _DISTRIBUTION)
    draft.stands_for(existing.distribution.domain, f"{name}.DomainName", _DISTRIBUTION)


def _origin(draft: _Draft, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The origin; what its custom headers say may be a secret, so the template does not say it."""
    made = dict(origin)
    headers = []
    for header in origin.get("OriginCustomHeaders", ()):
        name = draft.logical(f"{_pascal(origin['Id'])}{_pascal(header['HeaderName'])}")
        draft.text_parameter(name, f"Value of the header {header['HeaderName']} for {origin['Id']}", NoEcho=True)
        headers.append({"HeaderName": header["HeaderName"], "HeaderValue": {"Ref": name}})
        draft.notes.append(
            f"the value of the header {header['HeaderName']} may be a secret, so it is not in the template: deploy "
            f"with --parameter {name}=VALUE"
        )
    if headers:
        made["OriginCustomHeaders"] = headers
    return made


def _outputs(draft: _Draft) -> None:
    arn = "arn:${AWS::Partition}:s3::${AWS::AccountId}:accesspoint/${AccessPoint.Alias}"
    draft.outputs = {
        "Url": {"Description": "The one address", "Value": {"Fn::Sub": "https://${Distribution.DomainName}"}},
        "DistributionId": {"Value": {"Ref": "Distribution"}},
        "AccessPointAlias": {"Value": {"Fn::GetAtt": ["AccessPoint", "Alias"]}},
        "AccessPointArn": {"Value": {"Fn::Sub": arn}},
        **draft.outputs,
    }


def _pascal(text: str) -> str:
    words = "".join(part[:1].upper() + part[1:] for part in re.split("[^A-Za-z0-9]+", text))
    return words if words[:1].isalpha() else f"X{words}"


def _dashed(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()).strip("-")


def _event_word(function: EdgeFunction) -> str:
    return _pascal(function.event)
