"""What a template no longer says of its data buckets goes back to what `deploy` gives every bucket; against moto."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from nearpoint.aws import alarms, buckets, record
from nearpoint.aws.application import load
from nearpoint.aws.bucket_settings import DEFAULT_LIFECYCLE, SETTINGS
from nearpoint.aws.clients import Clients
from nearpoint.aws.deploy import Deployed, Request, deploy
from nearpoint.aws.explain import code_of
from nearpoint.aws.record import DataBucket, Record
from nearpoint.aws.replication import ROLE_OUTPUT, is_replicated, rules
from nearpoint.aws.stacks import Stack

pytest.importorskip("openapi_spec_validator", reason="moto's CloudFormation is not installed: moto[cloudformation]")

REGIONS = ("us-east-1", "eu-west-1")
ROLE = {ROLE_OUTPUT: "arn:aws:iam::123456789012:role/copies"}
TOPIC = {alarms.TOPIC_OUTPUT: "arn:aws:sns:us-east-1:123456789012:alarms"}
RULE = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
KMS = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
DENY = {"Sid": "X", "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{Second}/x"}
Write = Callable[..., Path]
Watch = Callable[..., Any]


@pytest.fixture
def application(
    clients: Clients, template: Write, watcher: Watch, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Deployed]:
    """`application(settings, outputs)`: deployed with these settings of its second bucket, and these outputs, which
    moto does not keep."""

    def run(settings: dict[str, Any], outputs: dict[str, str] | None = None) -> Deployed:
        path = template(lambda document: document["Metadata"]["Nearpoint"].update(BucketSettings={"Second": settings}))
        monkeypatch.setattr(Stack, "outputs", lambda _: outputs or {})
        return deploy(clients, Request(application=load(path), stack="app", regions=REGIONS), watcher())

    return run


def copies(s3: Any, name: str) -> Any:
    return s3.get_bucket_replication(Bucket=name)["ReplicationConfiguration"]["Rules"]


def read(s3: Any, name: str) -> dict[str, Any]:
    """What each of the settings is, as a template would say it; without it where there is none."""
    found: dict[str, Any] = {"Tags": {k: v for k, v in buckets.tags_of(s3, name).items() if k[:10] != "nearpoint:"}}
    found["PolicyStatements"] = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    for setting, call, part in (
        ("LifecycleConfiguration", s3.get_bucket_lifecycle_configuration, "Rules"),
        ("ServerSideEncryptionConfiguration", s3.get_bucket_encryption, "ServerSideEncryptionConfiguration"),
        ("CORSConfiguration", s3.get_bucket_cors, "CORSRules"),
        ("ReplicationRules", s3.get_bucket_replication, "ReplicationConfiguration"),
    ):
        try:
            found[setting] = call(Bucket=name)[part]
        except ClientError as error:
            if code_of(error) not in ("NoSuchCORSConfiguration", "ReplicationConfigurationNotFoundError"):
                raise
    return found


GIVEN: dict[str, Any] = {
    "LifecycleConfiguration": {"Rules": [RULE]},
    "ServerSideEncryptionConfiguration": KMS,
    "CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
    "PolicyStatements": [DENY],
    "ReplicationRules": [],
    "Tags": {"team": "edge"},
}


@pytest.mark.parametrize("setting", sorted(SETTINGS))
def test_a_setting_that_is_gone(clients: Clients, application: Callable[..., Deployed], setting: str) -> None:
    name = application({}, ROLE).data[1].name
    s3 = clients.client("s3", "eu-west-1")
    tags = [{"Key": key, "Value": value} for key, value in {**buckets.tags_of(s3, name), "by": "hand"}.items()]
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
    without = read(s3, name)
    assert without["LifecycleConfiguration"][0]["ID"] == DEFAULT_LIFECYCLE["Rules"][0]["ID"]
    application({setting: GIVEN[setting]}, ROLE)
    given = read(s3, name)
    assert given.get(setting) != without.get(setting)
    assert {key: value for key, value in given.items() if key != setting} == {
        key: value for key, value in without.items() if key != setting
    }
    application({}, ROLE)
    assert read(s3, name) == without
    assert without["Tags"] == {"by": "hand"}  # and what is not the template's stays


def test_a_tag_goes_though_the_deployment_was_cut_off(
    clients: Clients, application: Callable[..., Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = application({"Tags": {"team": "edge", "cost": "1"}}).data[1].name
    with monkeypatch.context() as patch:
        patch.setattr(buckets, "ensure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            application({"Tags": {"cost": "2"}})
    application({"Tags": {"cost": "2"}})
    tags = buckets.tags_of(clients.client("s3", "eu-west-1"), name)
    assert {key: value for key, value in tags.items() if not key.startswith("nearpoint:")} == {"cost": "2"}
    known = record.read(clients, "app")
    assert known is not None
    assert known.tags == {"First": (), "Second": ("cost",)}


def test_copies_and_alarms_go_with_their_outputs(clients: Clients, application: Callable[..., Deployed]) -> None:
    def watched() -> list[str]:
        found = [clients.client("cloudwatch", region).describe_alarms()["MetricAlarms"] for region in REGIONS]
        return [each["AlarmName"] for listed in found for each in listed]

    data = application({}, ROLE | TOPIC).data
    assert [copies(clients.client("s3", each.region), each.name)[0]["ID"] for each in data] == ["to-Second", "to-First"]
    assert watched() == ["app-copies-from-eu-west-1-to-us-east-1"]
    application({}, ROLE)
    assert is_replicated(clients, data[0])
    assert watched() == []
    application({}, ROLE | TOPIC)
    application({})
    assert not any(is_replicated(clients, each) for each in data)
    assert watched() == []
    known = record.read(clients, "app")
    assert known == Record(stack="app", account="123456789012", data=data, tags={"First": (), "Second": ()})
    rule = rules([data[0]])
    clients.client("s3", "eu-west-1").put_bucket_replication(
        Bucket=data[1].name, ReplicationConfiguration={"Role": ROLE[ROLE_OUTPUT], "Rules": rule}
    )
    application({})
    assert is_replicated(clients, data[1])  # rules that somebody has put there are theirs


@pytest.mark.parametrize(
    ("regions", "by_deploy"),
    [
        ("us-east-1 eu-west-1", {"eu-west-1 us-east-1"}),
        ("eu-west-1 us-east-1", {"eu-west-1 us-east-1", "us-east-1 eu-west-1"}),
        (
            "us-east-1 eu-west-1 eu-north-1",
            {
                "us-east-1 eu-north-1", "eu-west-1 us-east-1", "eu-west-1 eu-north-1", "eu-north-1 us-east-1",
                "eu-north-1 eu-west-1",
            },
        ),
    ],
)  # fmt: skip
def test_every_pair_has_its_alarm_wherever_the_first_bucket_is(
    clients: Clients, regions: str, by_deploy: set[str]
) -> None:
    data = [DataBucket(name=f"b-{each}", region=each, parameter=each, made=True) for each in regions.split()]
    alarms.watch(clients, "app", data, "", lambda text: None)
    found: set[str] = set()
    for each in data:
        for alarm in clients.client("cloudwatch", each.region).describe_alarms()["MetricAlarms"]:
            source, _, target = alarm["AlarmName"].removeprefix("app-copies-from-").partition("-to-")
            assert source == each.region  # where its metrics are
            found.add(f"{source} {target}")
    assert found == by_deploy


@pytest.mark.parametrize("regions", [REGIONS, REGIONS[::-1]])
def test_a_template_may_ask_where_a_bucket_is(
    clients: Clients, template: Write, watcher: Watch, regions: tuple[str, str]
) -> None:
    path = template(lambda document: document["Parameters"].update(FirstRegion={"Type": "String"}))
    deploy(clients, Request(application=load(path), stack="app", regions=regions), watcher())
    (stack,) = clients.client("cloudformation").describe_stacks(StackName="app")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert given["FirstRegion"] == regions[0]
