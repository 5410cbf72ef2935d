"""The functions of a distribution, their code and their roles."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from botocore.exceptions import ClientError

from nearpoint.aws.archive import ORIGIN_ZIPPED_BYTES_MAX, UNZIPPED_BYTES_MAX
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.existing.found import EdgeFunction, Role, ViewerFunction
from nearpoint.aws.explain import code_of
from nearpoint.aws.https import pool

CONNECT_TIMEOUT_S, FETCH_TIMEOUT_S = 10.0, 60.0
FILES_MAX = 20_000
_DEFAULTS = {"MemorySize": 128, "Timeout": 3, "Description": ""}


def of_distribution(clients: Clients, config: Mapping[str, Any], notes: list[str]) -> list[EdgeFunction]:
    """Each Lambda function once, however many behaviors run it. Raises DeployError, ClientError."""
    found: dict[str, EdgeFunction] = {}
    for association in _associations("LambdaFunctionAssociations", config):
        arn = association["LambdaFunctionARN"]
        if arn not in found:
            found[arn] = _function(clients, arn, association["EventType"], notes)
    return list(found.values())


def _associations(name: str, config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for behavior in (config["DefaultCacheBehavior"], *config.get("CacheBehaviors", ())):
        yield from behavior.get(name, ())


def _function(clients: Clients, arn: str, event: str, notes: list[str]) -> EdgeFunction:
    try:
        answer = clients.client("lambda", HOME_REGION).get_function(FunctionName=arn)
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            raise DeployError(f"The distribution runs {arn}, which is not there.") from None
        raise
    given = answer["Configuration"]
    properties = {"Runtime": given["Runtime"], "Handler": given["Handler"]}
    properties |= {name: given[name] for name, usual in _DEFAULTS.items() if given.get(name, usual) != usual}
    name = given["FunctionName"]
    return EdgeFunction(
        version_arn=arn,
        name=name,
        event=event,
        role_arn=given["Role"],
        properties=properties,
        files=_files(clients, name, answer.get("Code", {}).get("Location", ""), notes),
    )


def _files(clients: Clients, name: str, location: str, notes: list[str]) -> dict[str, bytes] | None:
    """The package's files; None, and a note, where it can't be fetched."""
    try:
        return unpacked(fetch(clients, location), name, notes)
    except (urllib3.exceptions.HTTPError, OSError, ValueError, zipfile.BadZipFile) as error:
        notes.append(f"the code of {name} could not be fetched ({str(error)[:200]}); put it into its folder yourself")
        return None


def fetch(clients: Clients, location: str) -> bytes:
    """What is at the address that Lambda names. Raises ValueError, urllib3's HTTPError."""
    if not location.startswith("https://"):
        raise ValueError("Lambda names no address for it")
    connections = pool(
        proxy_url=clients.proxy_url,
        ca_bundle=clients.ca_bundle,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        read_timeout_s=FETCH_TIMEOUT_S,
    )
    with connections.request("GET", location, preload_content=False, redirect=False) as response:
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        data: bytes = response.read(ORIGIN_ZIPPED_BYTES_MAX + 1)
    if len(data) > ORIGIN_ZIPPED_BYTES_MAX:
        raise ValueError(f"more than {ORIGIN_ZIPPED_BYTES_MAX} bytes")
    return data


def unpacked(data: bytes, name: str, notes: list[str]) -> dict[str, bytes]:
    """The files of a package, by paths that stay inside a folder. Raises ValueError, BadZipFile."""
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > FILES_MAX or sum(entry.file_size for entry in entries) > UNZIPPED_BYTES_MAX:
            raise ValueError("its package unpacks to more than Lambda allows")
        for entry in entries:
            parts = entry.filename.split("/")
            if entry.filename.startswith("/") or "\\" in entry.filename or not all(parts) or {"..", "."} & set(parts):
                raise ValueError(f"its package has a file outside of it: {entry.filename[:100]!r}")
            if stat.S_ISLNK(entry.external_attr >> 16):
                notes.append(f"{name}: the link {entry.filename} of its package is left out")
            elif entry.filename == "requirements.txt":
                notes.append(f"{name}: requirements.txt is left out; what it names is in the package already")
            else:
                files[entry.filename] = archive.read(entry)
    return files


def viewer_functions(clients: Clients, config: Mapping[str, Any]) -> list[ViewerFunction]:
    """Each CloudFront function once. Raises ClientError."""
    cloudfront = clients.client("cloudfront")
    found: dict[str, ViewerFunction] = {}
    for association in _associations("FunctionAssociations", config):
        arn = association["FunctionARN"]
        if arn in found:
            continue
        name = arn.rpartition("/")[2]
        described = cloudfront.describe_function(Name=name, Stage="LIVE")["FunctionSummary"]["FunctionConfig"]
        code = cloudfront.get_function(Name=name, Stage="LIVE")["FunctionCode"].read()
        found[arn] = ViewerFunction(
            arn=arn,
            name=name,
            comment=described.get("Comment", ""),
            runtime=described["Runtime"],
            code=code.decode("utf-8", "replace"),
        )
    return list(found.values())


def role(clients: Clients, arn: str, notes: list[str]) -> Role:
    """A role with all its policies. Raises ClientError."""
    iam = clients.client("iam")
    path, _, name = arn.partition(":role")[2].rpartition("/")
    given = iam.get_role(RoleName=name)["Role"]
    properties: dict[str, Any] = {"AssumeRolePolicyDocument": given["AssumeRolePolicyDocument"]}
    if given.get("Description"):
        properties["Description"] = given["Description"]
    if given.get("MaxSessionDuration", 3600) != 3600:
        properties["MaxSessionDuration"] = given["MaxSessionDuration"]
    if path:
        properties["Path"] = f"{path}/"
    attached = [
        each["PolicyArn"]
        for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
        for each in page["AttachedPolicies"]
    ]
    if attached:
        properties["ManagedPolicyArns"] = attached
    for own in attached:
        if ":iam::aws:" not in own:
            notes.append(f"the policy {own} of the role {name} stays the one it is; another account lacks it")
    policies = [
        {
            "PolicyName": policy,
            "PolicyDocument": iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"],
        }
        for page in iam.get_paginator("list_role_policies").paginate(RoleName=name)
        for policy in page["PolicyNames"]
    ]
    if policies:
        properties["Policies"] = policies
    if given.get("PermissionsBoundary"):
        properties["PermissionsBoundary"] = given["PermissionsBoundary"]["PermissionsBoundaryArn"]
    tags = [tag for tag in given.get("Tags", ()) if not tag["Key"].startswith("aws:")]
    if tags:
        properties["Tags"] = tags
    return Role(arn=arn, properties=properties)
