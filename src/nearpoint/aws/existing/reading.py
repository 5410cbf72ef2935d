"""Asks AWS for a distribution, its access point and all they stand on (CloudFront, S3 Control, Lambda, IAM, S3)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.existing import bucket_reading, functions
from nearpoint.aws.existing.found import AccessPoint, Distribution, Existing, OriginBucket, Setting
from nearpoint.aws.existing.shapes import template_shape
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.verify import CONTROL_REGION

ACCESS_POINT_DOMAIN = ".accesspoint.s3-global.amazonaws.com"
_BUCKET_DOMAIN = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]*)\.s3[.-](?:dualstack\.)?(?:[a-z0-9-]+\.)?amazonaws\.com")
# Property of a behavior or origin → kind of setting, method that gets it
_USES: Mapping[str, tuple[str, str]] = {
    "CachePolicyId": ("CachePolicy", "cache_policy"),
    "OriginRequestPolicyId": ("OriginRequestPolicy", "origin_request_policy"),
    "ResponseHeadersPolicyId": ("ResponseHeadersPolicy", "response_headers_policy"),
    "TrustedKeyGroups": ("KeyGroup", "key_group"),
    "OriginAccessControlId": ("OriginAccessControl", "origin_access_control"),
}
_MANAGED = {
    "CachePolicy": "list_cache_policies",
    "OriginRequestPolicy": "list_origin_request_policies",
    "ResponseHeadersPolicy": "list_response_headers_policies",
}
# What a template can name, but not make.
_BESIDE = {
    "WebACLId": "the web ACL",
    "FieldLevelEncryptionId": "field-level encryption",
    "RealtimeLogConfigArn": "the configuration of real-time logs",
    "ContinuousDeploymentPolicyId": "the continuous deployment policy",
    "OriginAccessIdentity": "the origin access identity",
    "VpcOriginId": "the VPC origin",
}


def read(clients: Clients, distribution_id: str, access_point: str | None, step: Callable[[str], None]) -> Existing:
    """All of it. `access_point` is a name, an alias or an ARN; by default the one that an origin leads to. Raises
    DeployError."""
    account_id = clients.identity().account_id
    notes: list[str] = []
    try:
        step(f"distribution {distribution_id}")
        config, domain, tags = _distribution(clients, distribution_id)
        aliases = [
            origin["DomainName"].removesuffix(ACCESS_POINT_DOMAIN)
            for origin in config["Origins"]
            if origin["DomainName"].endswith(ACCESS_POINT_DOMAIN)
        ]
        settings, managed = _settings(clients, config)
        step(f"access point {access_point or ', '.join(aliases)}")
        point = _access_point(clients, access_point, aliases, distribution_id, notes)
        step("functions and roles")
        found = functions.of_distribution(clients, config, notes)
        viewers = functions.viewer_functions(clients, config)
        roles = dict.fromkeys(each.role_arn for each in found)
        roles |= dict.fromkeys(each.replication_role_arn for each in point.buckets if each.replication_role_arn)
        step("buckets of the other origins")
        origin_buckets = _origin_buckets(clients, config, notes)
        for name, what in _BESIDE.items():
            for value in values_of(name, config):
                notes.append(f"{what} {value} stays the one it is: the template names it, and another account lacks it")
        return Existing(
            account_id=account_id,
            distribution=Distribution(id=distribution_id, domain=domain, config=config, tags=tags, managed=managed),
            access_point=point,
            settings=tuple(settings),
            functions=tuple(found),
            viewer_functions=tuple(viewers),
            roles=tuple(functions.role(clients, arn, notes) for arn in roles if arn),
            origin_buckets=origin_buckets,
            notes=tuple(notes),
        )
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error


def values_of(key: str, value: Any) -> Iterator[Any]:
    """Every value under that key, at any depth."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name == key:
                yield each
            else:
                yield from values_of(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from values_of(key, each)


def _distribution(clients: Clients, id: str) -> tuple[dict[str, Any], str, dict[str, str]]:
    cloudfront = clients.client("cloudfront")
    try:
        answer = cloudfront.get_distribution(Id=id)["Distribution"]
    except ClientError as error:
        if code_of(error) in ("NoSuchDistribution", "NoSuchResource"):
            raise DeployError(
                f"There is no distribution {id} in account {clients.identity().account_id}; "
                "`aws cloudfront list-distributions` shows those there are.",
                refused=True,
            ) from None
        raise
    config = template_shape("DistributionConfig", cloudfront.get_distribution_config(Id=id)["DistributionConfig"])
    listed = cloudfront.list_tags_for_resource(Resource=answer["ARN"])["Tags"].get("Items") or ()
    tags = {tag["Key"]: tag.get("Value", "") for tag in listed if not tag["Key"].startswith("aws:")}
    return config, answer["DomainName"], tags


def _settings(clients: Clients, config: Mapping[str, Any]) -> tuple[list[Setting], dict[str, tuple[str, str]]]:
    cloudfront = clients.client("cloudfront")
    found: dict[str, Setting] = {}
    managed: dict[str, tuple[str, str]] = {}

    def add(kind: str, operation: str, id: str) -> None:
        answer = getattr(cloudfront, f"get_{operation}")(Id=id)[kind]
        raw = answer[f"{kind}Config"]
        if kind in _MANAGED and id in _managed_ids(cloudfront, kind):
            managed[id] = (kind, raw["Name"])
            return
        found[id] = Setting(kind=kind, id=id, config=template_shape(f"{kind}Config", raw))

    for property_name, (kind, operation) in _USES.items():
        for value in values_of(property_name, config):
            for id in value if isinstance(value, list) else [value]:
                if id not in found and id not in managed:
                    add(kind, operation, id)
    for group in [each for each in found.values() if each.kind == "KeyGroup"]:
        for id in group.config["Items"]:
            add("PublicKey", "public_key", id)
    return list(found.values()), managed


def _managed_ids(cloudfront: Any, kind: str) -> set[str]:
    ids: set[str] = set()
    marker: dict[str, str] = {}
    while True:
        page = getattr(cloudfront, _MANAGED[kind])(Type="managed", **marker)[f"{kind}List"]
        ids |= {each[kind]["Id"] for each in page.get("Items") or ()}
        if not page.get("NextMarker"):
            return ids
        marker = {"Marker": page["NextMarker"]}


def _access_point(
    clients: Clients, wanted: str | None, aliases: list[str], distribution_id: str, notes: list[str]
) -> AccessPoint:
    control, account_id = clients.client("s3control", CONTROL_REGION), clients.identity().account_id
    if wanted is None and not aliases:
        raise DeployError(
            f"No origin of {distribution_id} is a Multi-Region Access Point; name the one to take with --access-point."
        )
    word = (wanted or aliases[0]).rpartition("/")[2]
    points = list(_access_points(control, account_id))
    point = next((each for each in points if word in (each["Name"], each["Alias"])), None)
    if point is None:
        there = ", ".join(each["Name"] for each in points) or "none"
        raise DeployError(f"There is no access point {word} in account {account_id}; there is {there}.", refused=True)
    if point["Alias"] not in aliases:
        notes.append(f"no origin of {distribution_id} leads to the access point {point['Name']}; the template has both")
    if len(aliases) > 1:
        rest = ", ".join(each for each in aliases if each != point["Alias"])
        notes.append(f"the origins {rest} lead to further access points, which stay those they are")
    buckets = [(each["Bucket"], each["Region"]) for each in point["Regions"]]
    arn = f"arn:aws:s3::{account_id}:accesspoint/{point['Alias']}"
    try:
        routes = clients.client("s3control", HOME_REGION).get_multi_region_access_point_routes(
            AccountId=account_id, Mrap=arn
        )["Routes"]
        if any(route["TrafficDialPercentage"] != 100 for route in routes):
            shown = ", ".join(f"{route['Region']} {route['TrafficDialPercentage']} %" for route in routes)
            notes.append(
                f"the dials ({shown}) are no part of a template: all are 100 % after deploying; turn them then"
            )
    except (ClientError, BotoCoreError, NotImplementedError) as error:
        notes.append(f"the dials could not be read ({error}); all are 100 % after deploying")
    return AccessPoint(
        name=point["Name"],
        alias=point["Alias"],
        buckets=tuple(bucket_reading.data_buckets(clients, buckets, notes)),
        policy=_policy(control, account_id, point["Name"]),
        public_access_block={name: bool(value) for name, value in (point.get("PublicAccessBlock") or {}).items()},
    )


def _access_points(control: Any, account_id: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = control.list_multi_region_access_points(AccountId=account_id, **token)
        yield from page.get("AccessPoints", ())
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


def _policy(control: Any, account_id: str, name: str) -> dict[str, Any] | None:
    try:
        answer = control.get_multi_region_access_point_policy(AccountId=account_id, Name=name)["Policy"]
    except ClientError as error:
        if code_of(error) in ("NoSuchMultiRegionAccessPointPolicy", "NoSuchAccessPointPolicy", "NoSuchPolicy"):
            return None
        raise
    text = (answer.get("Established") or {}).get("Policy") or (answer.get("Proposed") or {}).get("Policy")
    policy: dict[str, Any] | None = json.loads(text) if text else None
    return policy


def _origin_buckets(clients: Clients, config: Mapping[str, Any], notes: list[str]) -> dict[str, OriginBucket]:
    found: dict[str, OriginBucket] = {}
    for origin in config["Origins"]:
        match = _BUCKET_DOMAIN.fullmatch(origin["DomainName"])
        if match is not None and "S3OriginConfig" in origin:
            bucket = bucket_reading.origin_bucket(clients, match["bucket"], notes)
            if bucket is not None:
                found[origin["DomainName"]] = bucket
    return found
