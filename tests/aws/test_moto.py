"""Deploying and deleting against moto: a service that shares nothing with the local world."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearpoint.aws import alarms, buckets, record
from nearpoint.aws.application import load
from nearpoint.aws.clients import Clients
from nearpoint.aws.delete import delete
from nearpoint.aws.deploy import Deployed, Request, deploy
from nearpoint.aws.errors import DeployError
from nearpoint.aws.record import DataBucket, Record
from nearpoint.aws.replication import is_replicated, replicate

pytest.importorskip("openapi_spec_validator", reason="moto's CloudFormation is not installed: moto[cloudformation]")
pytest.importorskip("moto")

ACCOUNT = "123456789012"
REGIONS = ("us-east-1", "eu-west-1")
NAMES = tuple(f"app-{ACCOUNT}-{last}" for last in ("deployment", *REGIONS))
Write = Callable[..., Path]
Watch = Callable[..., Any]


def run(clients: Clients, path: Path, watcher: Any, **changes: Any) -> Deployed:
    given: dict[str, Any] = {"application": load(path), "stack": "app", "regions": REGIONS}
    return deploy(clients, Request(**(given | changes)), watcher)


def names(clients: Clients) -> set[str]:
    return {each["Name"] for each in clients.client("s3").list_buckets()["Buckets"]}


def test_there_again_and_back(clients: Clients, template: Write, watcher: Watch) -> None:
    watch = watcher()
    done = run(clients, template(), watch)
    assert (done.status, done.changed) == ("CREATE_COMPLETE", True)
    # Outputs are left to the local world: moto has none of stacks that change sets made.
    assert "arn:aws:sts::123456789012" in watch.asked[0]
    assert [change.action for change in watch.change_sets[0].changes] == ["Add", "Add"]
    for name, region in zip(NAMES, ("us-east-1", *REGIONS), strict=True):
        s3 = clients.client("s3", region)
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        assert s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
        (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
        assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        location = s3.get_bucket_location(Bucket=name)["LocationConstraint"]
        assert (location or "us-east-1") == region
    (function,) = clients.client("lambda").list_functions()["Functions"]
    (built,) = done.packages
    assert function["CodeSha256"] == built.code_sha256

    again = watcher()
    same = run(clients, template(), again)
    assert (same.changed, again.asked, again.events) == (False, [], [])
    watch = watcher()
    changed = template(lambda document: document["Resources"]["Signer"]["Properties"].update(Description="two"))
    other = run(clients, changed, watch)
    assert (other.status, other.changed) == ("UPDATE_COMPLETE", True)
    assert [(each.action, each.logical_id) for each in watch.change_sets[0].changes] == [("Modify", "Signer")]

    clients.client("s3", "eu-west-1").put_object(Bucket=NAMES[2], Key="a", Body=b"1")
    clients.client("s3", "eu-west-1").put_object(Bucket=NAMES[2], Key="a", Body=b"2")
    clients.client("s3", "eu-west-1").delete_object(Bucket=NAMES[2], Key="a")
    watch = watcher()
    gone = delete(clients, "app", watch)
    assert f"bucket {NAMES[2]} in eu-west-1 and the 3 object versions in it" in watch.asked[0]
    assert (gone.left, gone.kept) == ((), ())
    assert names(clients) == set()
    left = clients.client("cloudformation").list_stacks()["StackSummaries"]
    assert {each["StackStatus"] for each in left} == {"DELETE_COMPLETE"}
    assert delete(clients, "app", watcher()).removed == ()


def test_what_was_set_since_stays_until_the_template_says_otherwise(
    clients: Clients, template: Write, watcher: Watch
) -> None:
    run(clients, template(), watcher())
    s3 = clients.client("s3", "eu-west-1")
    rule = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=NAMES[2], LifecycleConfiguration={"Rules": [rule]})
    run(clients, template(), watcher())
    assert s3.get_bucket_lifecycle_configuration(Bucket=NAMES[2])["Rules"][0]["ID"] == "mine"
    theirs = {"LifecycleConfiguration": {"Rules": [rule | {"ID": "theirs"}]}, "Tags": {"bucket": "{Second}"},
              "PolicyStatements": [{"Sid": "X", "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject",
                                    "Resource": "arn:aws:s3:::{Second}/{AWS::AccountId}/${aws:username}"}]}  # fmt: skip
    path = template(lambda document: document["Metadata"]["Nearpoint"].update(BucketSettings={"Second": theirs}))
    run(clients, path, watcher())
    assert s3.get_bucket_lifecycle_configuration(Bucket=NAMES[2])["Rules"][0]["ID"] == "theirs"
    assert buckets.tags_of(s3, NAMES[2])["bucket"] == NAMES[2]
    statement = json.loads(s3.get_bucket_policy(Bucket=NAMES[2])["Policy"])["Statement"][-1]
    assert statement["Resource"] == f"arn:aws:s3:::{NAMES[2]}/{ACCOUNT}/${{aws:username}}"


def test_a_no_leaves_nothing_behind(clients: Clients, template: Write, watcher: Watch) -> None:
    with pytest.raises(DeployError, match="Nothing was made") as refused:
        run(clients, template(), watcher(agrees=False))
    assert refused.value.refused
    assert names(clients) == set()
    run(clients, template(), watcher())
    with pytest.raises(DeployError, match="Nothing was changed"):
        run(clients, template(), watcher(agrees=False), parameters={"Comment": "two"})
    listed = clients.client("cloudformation").list_change_sets(StackName="app")["Summaries"]
    assert {each["ExecutionStatus"] for each in listed} == {"EXECUTE_COMPLETE"}
    with pytest.raises(DeployError, match="Nothing was removed"):
        delete(clients, "app", watcher(agrees=False))
    assert names(clients) == set(NAMES)


def test_a_template_that_is_too_long_for_a_call(clients: Clients, template: Write, watcher: Watch) -> None:
    path = template(lambda document: document["Metadata"].update(Long="x" * 52_000))
    with pytest.raises(DeployError, match="has more than 51200 bytes"):
        run(clients, path, watcher(), plan_only=True)
    assert run(clients, path, watcher()).status == "CREATE_COMPLETE"
    kept = clients.client("s3").get_object(Bucket=NAMES[0], Key="nearpoint/template.yaml")["Body"].read()
    assert kept == path.read_bytes()
    assert run(clients, path, watcher()).changed is False
    with pytest.raises(DeployError, match=r"template\.yaml: Template may not exceed 1000000 bytes in size\."):
        load(template(lambda document: document["Metadata"].update(Long="x" * 1_000_000)))


def test_a_plan_makes_nothing(clients: Clients, template: Write, watcher: Watch) -> None:
    watch = watcher()
    planned = run(clients, template(), watch, plan_only=True)
    assert planned.change_set is not None
    assert len(planned.change_set.changes) == 2
    assert names(clients) == set()
    assert watch.asked == []
    stacks = clients.client("cloudformation").list_stacks()["StackSummaries"]
    assert {each["StackStatus"] for each in stacks} <= {"DELETE_COMPLETE"}


def test_it_goes_on_wherever_it_was_interrupted(
    clients: Clients, template: Write, watcher: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call to AWS never returns; the next run finishes, and delete takes all of it away."""

    class Killed(BaseException):
        pass

    application = load(template())
    calls, stop_at = 0, 0

    def count(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Killed

    clients.session.events.register("before-call.*.*", count)
    request = Request(application=application, stack="app", regions=REGIONS)
    whole = False
    while not whole:
        calls, stop_at = 0, stop_at + 6
        try:
            deploy(clients, request, watcher())
            whole = True
        except Killed:
            stopped_at, stop_at = stop_at, 0
            done = deploy(clients, request, watcher())
            assert done.status == "CREATE_COMPLETE"
            calls, stop_at = 0, stopped_at
            try:
                delete(clients, "app", watcher())
            except Killed:
                stop_at = 0
                delete(clients, "app", watcher())
            stop_at = 0
            assert names(clients) == set()
            stop_at = stopped_at
    assert stop_at > 20


def test_the_users_own_bucket_is_used_and_never_emptied(clients: Clients, template: Write, watcher: Watch) -> None:
    clients.client("s3").create_bucket(Bucket="mine")
    clients.client("s3").put_object(Bucket="mine", Key="precious", Body=b"x")
    done = run(clients, template(), watcher(), parameters={"First": "mine"})
    assert done.data[0] == DataBucket(name="mine", region="us-east-1", parameter="First", made=False)
    gone = delete(clients, "app", watcher())
    assert gone.kept == ("mine (AWS::S3::Bucket)",)
    assert names(clients) == {"mine"}
    assert clients.client("s3").get_object(Bucket="mine", Key="precious")["Body"].read() == b"x"


def test_keeping_the_data(clients: Clients, template: Write, watcher: Watch) -> None:
    run(clients, template(), watcher())
    gone = delete(clients, "app", watcher(), keep_buckets=True)
    assert set(gone.kept) == {f"{name} (AWS::S3::Bucket)" for name in NAMES[1:]}
    assert names(clients) == set(NAMES[1:])
    assert run(clients, template(), watcher()).status == "CREATE_COMPLETE"


def test_a_bucket_that_is_not_ours(clients: Clients, template: Write, watcher: Watch) -> None:
    s3 = clients.client("s3")
    s3.create_bucket(Bucket=NAMES[1])
    s3.put_object(Bucket=NAMES[1], Key="a", Body=b"1")
    with pytest.raises(DeployError, match=r"was not made by `nearpoint deploy --stack app`"):
        run(clients, template(), watcher())
    delete(clients, "app", watcher())
    assert names(clients) == {NAMES[1]}
    s3.put_bucket_tagging(Bucket=NAMES[1], Tagging={"TagSet": [{"Key": buckets.TAG, "Value": "other"}]})
    with pytest.raises(DeployError, match="was not made by"):
        run(clients, template(), watcher())


def test_a_stack_that_is_not_ours(clients: Clients, template: Write, watcher: Watch) -> None:
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    clients.client("cloudformation").create_stack(StackName="app", TemplateBody=body)
    with pytest.raises(DeployError, match="was not made by `nearpoint deploy`") as refused:
        delete(clients, "app", watcher())
    assert refused.value.refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": {"Nope": "1"}}, "declares no parameter Nope"),
        ({"regions": ("us-east-1",)}, "data buckets for 2 regions"),
        ({"regions": ("us-east-1", "mars-1")}, "can't have a bucket in mars-1"),
        ({"stack": "a" * 60}, "is no bucket name"),
    ],
)
def test_asked_for_wrongly(
    clients: Clients, template: Write, watcher: Watch, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DeployError, match=words):
        run(clients, template(), watcher(), **changes)
    assert names(clients) == set()


def test_a_missing_parameter(clients: Clients, template: Write, watcher: Watch) -> None:
    path = template(lambda document: document["Parameters"].update(Owner={"Type": "String"}))
    with pytest.raises(DeployError, match="--parameter Owner="):
        run(clients, path, watcher())


def test_a_resource_out_of_reach(clients: Clients, template: Write, watcher: Watch) -> None:
    policy = {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": {"Ref": "Second"}, "PolicyDocument": {}}}
    path = template(lambda document: document["Resources"].update(Policy=policy))
    with pytest.raises(DeployError, match="Policy belongs to the bucket of Second in eu-west-1"):
        run(clients, path, watcher())
    assert names(clients) == set()


def test_regions_cannot_be_moved(clients: Clients, template: Write, watcher: Watch) -> None:
    run(clients, template(), watcher())
    with pytest.raises(DeployError, match="deployed over us-east-1, eu-west-1"):
        run(clients, template(), watcher(), regions=("us-east-1", "eu-north-1"))


def test_replication_rules(clients: Clients, template: Write, watcher: Watch) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/copies"
    done = run(clients, template(), watcher())
    assert not is_replicated(clients, done.data[0])
    replicate(clients, arn, done.data)
    replicate(clients, arn, done.data)
    for source, target in ((1, 2), (2, 1)):
        s3 = clients.client("s3", REGIONS[source - 1])
        found = s3.get_bucket_replication(Bucket=NAMES[source])["ReplicationConfiguration"]
        assert found["Role"] == arn
        assert found["Rules"][0]["Destination"]["Bucket"] == f"arn:aws:s3:::{NAMES[target]}"
    assert is_replicated(clients, done.data[0])
    known = record.read(clients, "app")
    assert known is not None
    assert [each.name for each in known.data] == list(NAMES[1:])


def test_alarms_where_the_stack_makes_none(clients: Clients, template: Write, watcher: Watch) -> None:
    done = run(clients, template(), watcher())
    record.write(clients, Record(stack="app", data=done.data, alarms=True))
    for _ in range(2):  # again, nothing is made twice
        alarms.watch(clients, "app", done.data, "me@example.org", lambda text: None)
    name = "app-copies-from-eu-west-1-to-us-east-1"
    (alarm,) = clients.client("cloudwatch", "eu-west-1").describe_alarms()["MetricAlarms"]
    assert (alarm["AlarmName"], alarm["Threshold"]) == (name, 900)
    found = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    assert found == {"SourceBucket": NAMES[2], "DestinationBucket": NAMES[1], "RuleId": "to-First"}
    sns = clients.client("sns", "eu-west-1")
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=alarm["AlarmActions"][0])["Subscriptions"]
    assert subscription["Endpoint"] == "me@example.org"
    assert clients.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert f"alarm {name}" in delete(clients, "app", watcher()).removed
    assert clients.client("cloudwatch", "eu-west-1").describe_alarms()["MetricAlarms"] == []
    assert sns.list_topics()["Topics"] == []
