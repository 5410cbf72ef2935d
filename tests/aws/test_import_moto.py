"""Importing from moto, which shares nothing with the local world: what it implements, and what goes wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.exceptions import ClientError

from nearpoint.aws.clients import Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.existing import functions
from nearpoint.aws.existing.compose import compose
from nearpoint.aws.existing.reading import read
from nearpoint.aws.existing.text import written

moto = pytest.importorskip("moto")

ACCOUNT = "123456789012"
TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip


def package() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("index.py", "def handler(event, context): return event\n")
    return data.getvalue()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    # Lambda's own address for the code leads out of the machine; moto does not stand in for urllib3.
    monkeypatch.setattr(functions, "fetch", lambda clients, location: package())
    with moto.mock_aws():
        yield Clients(target="aws", session=boto3.Session(region_name="us-east-1"))


@pytest.fixture
def distribution(clients: Clients) -> str:
    """An application that somebody made by hand: two buckets, an access point, a function, a distribution."""
    for name, region in (("mine-us", "us-east-1"), ("mine-eu", "eu-west-1")):
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3 = clients.client("s3", region)
        s3.create_bucket(Bucket=name, **where)
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "team", "Value": "a"}]})
    clients.client("s3").put_bucket_versioning(Bucket="mine-us", VersioningConfiguration={"Status": "Enabled"})
    control = clients.client("s3control", "us-west-2")
    details = {"Name": "mine", "Regions": [{"Bucket": "mine-us"}, {"Bucket": "mine-eu"}]}
    control.create_multi_region_access_point(AccountId=ACCOUNT, ClientToken="x", Details=details)
    (point,) = control.list_multi_region_access_points(AccountId=ACCOUNT)["AccessPoints"]
    arn = f"arn:aws:s3::{ACCOUNT}:accesspoint/{point['Alias']}"

    def place(parsed: dict[str, Any], **_: Any) -> None:  # moto takes every bucket for one of us-east-1
        parsed["AccessPoints"][0]["Regions"][1]["Region"] = "eu-west-1"

    control.meta.events.register("after-call.s3-control.ListMultiRegionAccessPoints", place)
    iam = clients.client("iam")
    role = iam.create_role(RoleName="edge", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::mine-us/*", f"{arn}/*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="edge", PolicyName="read", PolicyDocument=policy)
    made = clients.client("lambda").create_function(
        FunctionName="sign", Runtime="python3.13", Role=role, Handler="index.handler", Timeout=5, Publish=True,
        Code={"ZipFile": package()},
    )  # fmt: skip
    behavior = {
        "TargetOriginId": "point", "ViewerProtocolPolicy": "https-only", "MinTTL": 0,
        "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
        "LambdaFunctionAssociations": {"Quantity": 1, "Items": [
            {"EventType": "origin-request", "LambdaFunctionARN": f"{made['FunctionArn'].removesuffix(':1')}:1"}]},
    }  # fmt: skip
    origin = {
        "Id": "point", "DomainName": f"{point['Alias']}.accesspoint.s3-global.amazonaws.com",
        "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only",
                               "OriginSslProtocols": {"Quantity": 1, "Items": ["TLSv1.2"]}},
    }  # fmt: skip
    config = {
        "CallerReference": "x", "Comment": "by hand", "Enabled": True, "DefaultCacheBehavior": behavior,
        "Origins": {"Quantity": 1, "Items": [origin]},
    }  # fmt: skip
    cloudfront = clients.client("cloudfront")
    answer = cloudfront.create_distribution(DistributionConfig=config)

    def associate(parsed: dict[str, Any], **_: Any) -> None:  # moto does not keep them
        parsed["DistributionConfig"]["DefaultCacheBehavior"]["LambdaFunctionAssociations"] = behavior[
            "LambdaFunctionAssociations"
        ]

    cloudfront.meta.events.register("after-call.cloudfront.GetDistributionConfig", associate)
    return str(answer["Distribution"]["Id"])


def test_what_somebody_made_by_hand(
    clients: Clients, distribution: str, tmp_path: Path, lint: Callable[[Path], str]
) -> None:
    composed = compose(read(clients, distribution, None, lambda text: None))
    resources = composed.template["Resources"]
    assert {each["Type"].rpartition("::")[2] for each in resources.values()} == {
        "MultiRegionAccessPoint", "Role", "Function", "Version", "Distribution",
    }  # fmt: skip
    policy = resources["OriginRequestRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == [
        {"Fn::Sub": "arn:${AWS::Partition}:s3:::${UsEast1Bucket}/*"},
        {"Fn::Sub": "arn:${AWS::Partition}:s3::${AWS::AccountId}:accesspoint/${AccessPoint.Alias}/*"},
    ]
    assert resources["OriginRequestFunction"]["Properties"]["Timeout"] == 5
    config = resources["Distribution"]["Properties"]["DistributionConfig"]
    assert config["Comment"] == "by hand"
    settings = composed.template["Metadata"]["Nearpoint"]["BucketSettings"]
    assert settings["EuWest1Bucket"] == {"Tags": {"team": "a"}}
    assert composed.folders == {"function": {"index.py": b"def handler(event, context): return event\n"}}
    notes = "\n".join(composed.notes)
    assert "bucket mine-eu keeps no versions" in notes
    assert "bucket mine-us keeps no versions" not in notes
    (tmp_path / "template.yaml").write_text(written(composed.template))
    assert lint(tmp_path / "template.yaml") == ""


def test_rules_whose_role_is_gone_are_named_and_left_out(clients: Clients, distribution: str) -> None:
    s3 = clients.client("s3", "eu-west-1")
    s3.put_bucket_versioning(Bucket="mine-eu", VersioningConfiguration={"Status": "Enabled"})
    rule = {
        "ID": "all", "Status": "Enabled", "Priority": 0, "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"}, "Destination": {"Bucket": "arn:aws:s3:::mine-us"},
    }  # fmt: skip
    gone = f"arn:aws:iam::{ACCOUNT}:role/gone"
    s3.put_bucket_replication(Bucket="mine-eu", ReplicationConfiguration={"Role": gone, "Rules": [rule]})
    composed = compose(read(clients, distribution, None, lambda text: None))
    assert [note for note in composed.notes if gone in note]
    assert "ReplicationRules" not in composed.template["Metadata"]["Nearpoint"]["BucketSettings"]["EuWest1Bucket"]
    assert "ReplicationRole" not in composed.template["Resources"]


def test_an_access_point_by_any_of_its_names(clients: Clients, distribution: str) -> None:
    found = read(clients, distribution, "mine", lambda text: None).access_point
    for word in (found.alias, f"arn:aws:s3::{ACCOUNT}:accesspoint/{found.alias}"):
        assert read(clients, distribution, word, lambda text: None).access_point.name == "mine"
    with pytest.raises(DeployError, match="no access point other in account 123456789012; there is mine"):
        read(clients, distribution, "other", lambda text: None)


def test_no_such_distribution(clients: Clients) -> None:
    with pytest.raises(DeployError, match=r"no distribution E0 in account 123456789012; `aws cloudfront list-dist"):
        read(clients, "E0", None, lambda text: None)


@pytest.mark.parametrize(
    "error", [urllib3.exceptions.HTTPError("no way"), ValueError("status 403"), zipfile.BadZipFile("no zip")]
)
def test_code_that_cannot_be_fetched_is_named(
    clients: Clients, distribution: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(clients: Clients, location: str) -> bytes:
        raise error

    monkeypatch.setattr(functions, "fetch", refuse)
    composed = compose(read(clients, distribution, None, lambda text: None))
    assert composed.folders == {}
    assert any(f"the code of sign could not be fetched ({error}); put it" in note for note in composed.notes)
    assert "OriginRequestFunction" in composed.template["Resources"]


def deny(client: Any, operation: str) -> None:
    def check(model: Any, **_: Any) -> None:
        if model.name == operation:
            answer: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {}}
            raise ClientError(answer, operation)

    client.meta.events.register("before-call", check)


def test_what_may_not_be_read(clients: Clients, distribution: str) -> None:
    """A bucket's setting is named and left out; without a role there is no template."""
    deny(clients.client("s3"), "GetBucketPolicy")
    notes = compose(read(clients, distribution, None, lambda text: None)).notes
    assert any("bucket mine-us: GetBucketPolicy is not allowed, so it is not taken over" in note for note in notes)
    deny(clients.client("iam"), "GetRole")
    with pytest.raises(DeployError, match=r"GetRole is not allowed: no\. Give the caller's policy that permission"):
        read(clients, distribution, None, lambda text: None)
