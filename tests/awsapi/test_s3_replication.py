"""Replication rules, by PutBucketReplication and by CloudFormation: what is wrong about them is said as S3 says it."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from nearpoint.stack.engine import Engine
from nearpoint.stack.schema import PropertyError
from nearpoint.stack.services.buckets import Buckets
from nearpoint.stack.types.bucket_replication import SCHEMA


def rules(*destinations: str) -> dict[str, Any]:
    return {
        "Role": "arn:aws:iam::123456789012:role/r",
        "Rules": [
            {
                "ID": f"to-{name}",
                "Priority": at,
                "Filter": {"Prefix": ""},
                "Status": "Enabled",
                "DeleteMarkerReplication": {"Status": "Enabled"},
                "Destination": {"Bucket": f"arn:aws:s3:::{name}"},
            }
            for at, name in enumerate(destinations)
        ],
    }


@pytest.fixture
async def put(world: Any, call: Any) -> Any:
    """Puts rules on the bucket `here`; the refusal's code and message, or None."""
    s3, there = world.client("s3"), world.client("s3", "eu-west-1")
    await call(s3.create_bucket, Bucket="here")
    await call(there.create_bucket, Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    await call(s3.put_bucket_versioning, Bucket="here", VersioningConfiguration={"Status": "Enabled"})

    async def put(*destinations: str) -> tuple[str, str] | None:
        try:
            await call(s3.put_bucket_replication, Bucket="here", ReplicationConfiguration=rules(*destinations))
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        return None

    return put


async def test_destinations_have_to_be_there_and_keep_versions(world: Any, call: Any, put: Any) -> None:
    assert await put("nowhere") == ("InvalidRequest", "Destination bucket must exist.")
    assert await put("there") == ("InvalidRequest", "Destination bucket must have versioning enabled.")
    there = world.client("s3", "eu-west-1")
    await call(there.put_bucket_versioning, Bucket="there", VersioningConfiguration={"Status": "Enabled"})
    assert await put("there", "nowhere") == ("InvalidRequest", "Destination bucket must exist.")
    assert (await put("here"))[0] == "InvalidRequest"
    assert await put("there") is None
    s3 = world.client("s3")
    found = (await call(s3.get_bucket_replication, Bucket="here"))["ReplicationConfiguration"]
    assert found == rules("there")
    await call(s3.delete_bucket_replication, Bucket="here")
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await call(s3.get_bucket_replication, Bucket="here")


async def test_nobody_outside_writes_versions_of_their_own(world: Any, call: Any, put: Any) -> None:
    """What replication says between stores is under a name that no bucket can have."""
    s3 = world.client("s3")
    with pytest.raises(ClientError, match=r"NoSuchBucket|InvalidBucketName"):
        await call(s3.get_object, Bucket="---", Key="outbox")
    headers = {"x-nearpoint-stamp": "9", "x-nearpoint-region": "eu-west-1"}
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: request.headers.update(headers))
    await call(s3.put_object, Bucket="here", Key="k", Body=b"x")
    head = await call(s3.head_object, Bucket="here", Key="k")
    assert head["LastModified"].year > 2000


def spoilt(*steps: Any, value: Any = None) -> Callable[[dict[str, Any]], None]:
    """Changes, or without a value takes away, what is at that path of a configuration."""

    def change(configuration: dict[str, Any]) -> None:
        at: Any = configuration
        for step in steps[:-1]:
            at = at[step]
        if value is None:
            del at[steps[-1]]
        else:
            at[steps[-1]] = value

    return change


ON, OFF = {"Status": "Enabled"}, {"Status": "Disabled"}
TAG = {"Key": "a", "Value": "b"}
R0 = ("Rules", 0)
# What is wrong, the code, and what is in its message.
WRONG: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (spoilt("Rules", value=[]), "MalformedXML", "not well-formed"),
    (spoilt(*R0, "Status", value="On"), "MalformedXML", "not well-formed"),
    (spoilt(*R0, "Destination", "Bucket", value="there"), "InvalidArgument", "Invalid bucket ARN"),
    (spoilt(*R0, "Destination", "Bucket", value="arn:aws:s3:::here"), "InvalidRequest", "cannot be the same"),
    (spoilt(*R0, "Destination", "Bucket", value="arn:aws:s3:::nowhere"), "InvalidRequest", "must exist"),
    (spoilt(*R0, "Priority"), "InvalidRequest", "Priority must be specified"),
    (spoilt(*R0, "Priority", value=-1), "InvalidArgument", "Priority must be a positive"),
    (spoilt(*R0, "DeleteMarkerReplication"), "InvalidRequest", "DeleteMarkerReplication must be specified"),
    (spoilt(*R0, "Filter", value={"Prefix": "a", "Tag": TAG}), "MalformedXML", ""),
    (spoilt(*R0, "Filter", value={"And": {"Prefix": "a"}}), "MalformedXML", ""),
    (spoilt(*R0, "Filter", value={"Tag": TAG}), "InvalidRequest", "Delete marker replication is not supported"),
    (spoilt(*R0, "Filter", value={"Prefix": "x" * 1025}), "InvalidRequest", "1024"),
    (spoilt(*R0, "ID", value="x" * 256), "InvalidArgument", "255"),
    (spoilt("Rules", 1, "ID", value="to-there"), "InvalidArgument", "unique"),
    (spoilt("Rules", 1, "Priority", value=0), "InvalidRequest", "Priority must be unique"),
    (spoilt(*R0, "Destination", "ReplicationTime", value=ON | {"Time": {"Minutes": 15}}), "InvalidRequest", "Metrics"),
]


async def test_what_is_wrong_about_rules_is_said_as_s3_says_it(world: Any, call: Any, put: Any) -> None:
    there, s3 = world.client("s3", "eu-west-1"), world.client("s3")
    await call(there.put_bucket_versioning, Bucket="there", VersioningConfiguration=ON)
    given = rules("there", "there")
    given["Rules"][1]["ID"] = "second"
    await call(s3.put_bucket_replication, Bucket="here", ReplicationConfiguration=given)
    for change, code, text in WRONG:
        wrong = copy.deepcopy(given)
        change(wrong)
        with pytest.raises(ClientError) as caught:
            await call(s3.put_bucket_replication, Bucket="here", ReplicationConfiguration=wrong)
        error = caught.value.response["Error"]
        assert (error["Code"], text in error["Message"]) == (code, True), error
    assert (await call(s3.get_bucket_replication, Bucket="here"))["ReplicationConfiguration"] == given


async def test_rules_may_lead_in_circles_and_a_source_has_to_keep_versions(world: Any, call: Any, put: Any) -> None:
    here, there = world.client("s3"), world.client("s3", "eu-west-1")
    with pytest.raises(ClientError, match="Versioning must be 'Enabled' on the bucket"):
        await call(there.put_bucket_replication, Bucket="there", ReplicationConfiguration=rules("here"))
    await call(there.put_bucket_versioning, Bucket="there", VersioningConfiguration=ON)
    assert await put("there") is None
    await call(there.put_bucket_replication, Bucket="there", ReplicationConfiguration=rules("here"))
    with pytest.raises(ClientError, match="InvalidBucketState"):
        await call(here.put_bucket_versioning, Bucket="here", VersioningConfiguration={"Status": "Suspended"})


# --- by CloudFormation

ROLE = "arn:aws:iam::123456789012:role/r"


def template(**replication: Any) -> str:
    properties: dict[str, Any] = {"BucketName": "here"}
    if replication:
        properties["ReplicationConfiguration"] = replication
    return json.dumps({"Resources": {"Here": {"Type": "AWS::S3::Bucket", "Properties": properties}}})


def rule(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "Id": "all",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "Status": "Enabled",
        "DeleteMarkerReplication": ON,
        "Destination": {"Bucket": "arn:aws:s3:::there"},
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


EVERYTHING = [
    rule(
        SourceSelectionCriteria={"ReplicaModifications": ON},
        Destination={
            "Bucket": "arn:aws:s3:::there",
            "Account": "123456789012",
            "AccessControlTranslation": {"Owner": "Destination"},
            "Metrics": ON | {"EventThreshold": {"Minutes": "15"}},
            "ReplicationTime": ON | {"Time": {"Minutes": 15}},
            "StorageClass": "STANDARD",
        },
    ),
    rule(Id="tag", Priority="2", Filter={"TagFilter": TAG}, DeleteMarkerReplication=OFF),
    rule(
        Id="both",
        Priority=3,
        Filter={"And": {"Prefix": "logs/", "TagFilters": [TAG, {"Key": "c", "Value": "d"}]}},
        DeleteMarkerReplication=OFF,
    ),
    rule(Id="off", Priority=4, Status="Disabled"),
]


@pytest.fixture
async def stacks(world: Any, call: Any) -> AsyncIterator[Any]:
    """Creates or updates the stack; its last status and the reasons of what failed."""
    buckets = Buckets(world.domain, world.stores)
    engine = Engine(world.domain, reader=buckets, buckets=buckets, published=world.context.published)
    world.context.parts[Engine] = engine
    client = world.client("cloudformation")
    there = world.client("s3", "eu-west-1")
    await call(there.create_bucket, Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    made = False

    async def apply(text: str) -> tuple[str, list[str]]:
        nonlocal made
        since = len(await events()) if made else 0
        await call(client.update_stack if made else client.create_stack, StackName="app", TemplateBody=text)
        made = True
        [stack] = (await call(client.describe_stacks, StackName="app"))["Stacks"]
        await engine.settled(stack["StackId"].rpartition("/")[2])
        [stack] = (await call(client.describe_stacks, StackName="app"))["Stacks"]
        found = await events()
        new = found[: len(found) - since]
        return stack["StackStatus"], [
            each["ResourceStatusReason"] for each in new if "_FAILED" in each["ResourceStatus"]
        ]

    async def events() -> list[Any]:
        found: list[Any] = (await call(client.describe_stack_events, StackName="app"))["StackEvents"]
        return found

    yield apply
    await engine.close()


async def test_rules_of_a_stack_are_put_changed_and_taken_away(world: Any, call: Any, stacks: Any) -> None:
    s3, there = world.client("s3"), world.client("s3", "eu-west-1")
    assert await stacks(template()) == ("CREATE_COMPLETE", [])
    await call(s3.put_bucket_versioning, Bucket="here", VersioningConfiguration=ON)
    status, reasons = await stacks(template(Role=ROLE, Rules=EVERYTHING))
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Destination bucket must have versioning enabled." in reasons[0]
    await call(there.put_bucket_versioning, Bucket="there", VersioningConfiguration=ON)
    assert await stacks(template(Role=ROLE, Rules=EVERYTHING)) == ("UPDATE_COMPLETE", [])
    found = (await call(s3.get_bucket_replication, Bucket="here"))["ReplicationConfiguration"]
    assert found["Role"] == ROLE
    assert [each["ID"] for each in found["Rules"]] == ["all", "tag", "both", "off"]
    assert [each["Filter"] for each in found["Rules"]] == [
        {"Prefix": ""},
        {"Tag": TAG},
        {"And": {"Prefix": "logs/", "Tags": [TAG, {"Key": "c", "Value": "d"}]}},
        {"Prefix": ""},
    ]
    assert found["Rules"][0]["Destination"]["Metrics"] == ON | {"EventThreshold": {"Minutes": 15}}
    assert found["Rules"][0]["SourceSelectionCriteria"] == {"ReplicaModifications": ON}
    # Wrong rules say why, and the ones before are back.
    status, reasons = await stacks(template(Role=ROLE, Rules=[rule(Filter={"TagFilter": TAG})]))
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Delete marker replication is not supported if any Tag filter is specified." in reasons[0]
    assert (await call(s3.get_bucket_replication, Bucket="here"))["ReplicationConfiguration"] == found
    # The older form: a bare prefix.
    bare = rule(Filter=None, Priority=None, DeleteMarkerReplication=None, Prefix="a/")
    assert (await stacks(template(Role=ROLE, Rules=[bare])))[0] == "UPDATE_COMPLETE"
    assert await stacks(template()) == ("UPDATE_COMPLETE", [])
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await call(s3.get_bucket_replication, Bucket="here")


async def test_a_template_makes_a_bucket_and_its_replica_and_takes_both_away(
    world: Any, call: Any, stacks: Any
) -> None:
    versions = {"VersioningConfiguration": ON}
    there = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "beside", **versions}}
    destination = {"Bucket": {"Fn::GetAtt": ["There", "Arn"]}}
    here = {
        "Type": "AWS::S3::Bucket",
        "Properties": {
            "BucketName": "here",
            **versions,
            "ReplicationConfiguration": {"Role": ROLE, "Rules": [rule(Destination=destination)]},
        },
    }
    resources = {"Here": here, "There": there}
    assert await stacks(json.dumps({"Resources": resources})) == ("CREATE_COMPLETE", [])
    s3 = world.client("s3")
    put = await call(s3.put_object, Bucket="here", Key="k", Body=b"x")
    head = await call(s3.head_object, Bucket="here", Key="k")
    assert (head["ReplicationStatus"], head["VersionId"]) == ("PENDING", put["VersionId"])
    del here["Properties"]["ReplicationConfiguration"], here["Properties"]["VersioningConfiguration"]  # type: ignore[attr-defined]
    assert await stacks(json.dumps({"Resources": {"Here": here}})) == ("UPDATE_COMPLETE", [])
    found = await call(s3.get_bucket_versioning, Bucket="here")
    assert found.get("Status") == "Suspended"
    with pytest.raises(ClientError, match="404"):
        await call(s3.head_bucket, Bucket="beside")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (rule(Filtre={}), "Rules.0.Filtre"),
        (rule(Status="On"), "Rules.0.Status"),
        (rule(Destination={}), "Rules.0.Destination.Bucket"),
        (rule(Filter={"TagFilter": {"Key": "a"}}), "Rules.0.Filter.TagFilter.Value"),
        (rule(Priority="high"), "Rules.0.Priority"),
    ],
)
def test_a_property_of_the_wrong_shape_is_named(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(PropertyError) as caught:
        SCHEMA.check({"Role": ROLE, "Rules": [wrong]}, "")
    assert caught.value.path == path
