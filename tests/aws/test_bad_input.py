"""What goes wrong on the way to AWS, against moto with AWS's own error codes: a sentence, what is there by then, and an
exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from nearpoint.aws.application import load
from nearpoint.aws.clients import Clients
from nearpoint.aws.delete import delete
from nearpoint.aws.deploy import Deployed, Request, deploy
from nearpoint.aws.errors import DeployError
from nearpoint.aws.stacks import Stack
from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.target import sentences

pytest.importorskip("openapi_spec_validator", reason="moto's CloudFormation is not installed: moto[cloudformation]")
pytest.importorskip("moto")

REGIONS = ("us-east-1", "eu-west-1")
HOME, FIRST, SECOND = (f"app-123456789012-{last}" for last in ("deployment", *REGIONS))
Write = Callable[..., Path]
Watch = Callable[..., Any]


def run(clients: Clients, path: Path, watcher: Any, **changes: Any) -> Deployed:
    given: dict[str, Any] = {"application": load(path), "stack": "app", "regions": REGIONS}
    return deploy(clients, Request(**(given | changes)), watcher)


def names(clients: Clients) -> set[str]:
    return {each["Name"] for each in clients.client("s3").list_buckets()["Buckets"]}


def refuse(
    clients: Clients, operation: str, error: str | Exception, *, nth: int = 1, times: int = 10**9, status: int = 400
) -> None:
    """From the nth call of the operation on, AWS refuses it so many times with that code."""
    calls = 0

    def answer(model: Any, **_: Any) -> None:
        nonlocal calls
        calls += model.name == operation
        if model.name == operation and nth <= calls < nth + times:
            if isinstance(error, Exception):
                raise error
            given: Any = {"Error": {"Code": error, "Message": "AWS's words"},
                          "ResponseMetadata": {"HTTPStatusCode": status}}  # fmt: skip
            raise ClientError(given, operation)

    clients.session.events.register("before-call", answer)


@pytest.mark.parametrize(
    ("operation", "error", "words", "code"),
    [
        ("GetCallerIdentity", NoCredentialsError(), "aws sso login", Exit.REFUSED),
        ("GetCallerIdentity", "ExpiredToken", "have expired", Exit.REFUSED),
        ("GetCallerIdentity", "InvalidClientTokenId", "China or GovCloud", Exit.REFUSED),
        ("GetCallerIdentity", "AccessDenied", "GetCallerIdentity is not allowed: AWS's words. Give", Exit.REFUSED),
        ("GetCallerIdentity", EndpointConnectionError(endpoint_url="x"), "way to the internet", Exit.UNREACHABLE),
        ("HeadBucket", "403", "is taken, or these credentials may not look", Exit.FAILED),
        ("CreateBucket", "TooManyBuckets", "higher quota", Exit.FAILED),
        ("CreateBucket", "BucketAlreadyExists", "taken by another account", Exit.FAILED),
        ("CreateBucket", "AccessDenied", "CreateBucket is not allowed", Exit.REFUSED),
        ("CreateBucket", "Throttling", "goes on where it stopped", Exit.FAILED),
        ("DescribeStacks", "AccessDenied", "DescribeStacks is not allowed", Exit.REFUSED),
        ("ValidateTemplate", "ValidationError", r"template\.yaml: AWS's words\.", Exit.FAILED),
    ],
)
def test_before_anything_is_made(
    clients: Clients, template: Write, watcher: Watch, operation: str, error: Any, words: str, code: Exit
) -> None:
    status = 403 if error in ("403", "AccessDenied") else 400
    refuse(clients, operation, error, status=status)
    with pytest.raises(CommandError, match=words) as refused, sentences():
        run(clients, template(), watcher())
    assert refused.value.code == code
    assert "So far there is" not in str(refused.value)
    assert operation == "CreateBucket" or names(clients) == set()


def test_who_may_not_validate_hears_of_the_change_set(clients: Clients, template: Write, watcher: Watch) -> None:
    refuse(clients, "ValidateTemplate", "AccessDenied", status=403)
    assert run(clients, template(), watcher()).status == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    ("operation", "nth", "error", "words", "there"),
    [
        ("CreateBucket", 2, "TooManyBuckets", "higher quota", {HOME}),
        ("CreateBucket", 3, "ExpiredToken", "have expired", {HOME, FIRST}),
        ("PutBucketPolicy", 3, "AccessDenied", "PutBucketPolicy is not allowed", {HOME, FIRST}),
        ("PutObject", 2, "SlowDown", "throttles", {HOME, FIRST, SECOND}),
        ("CreateChangeSet", 1, "LimitExceededException", "quota", {HOME, FIRST, SECOND}),
        ("ExecuteChangeSet", 1, "InsufficientCapabilitiesException", "AWS's words", {HOME, FIRST, SECOND}),
    ],
)
def test_half_way_what_is_there_is_named(
    clients: Clients, template: Write, watcher: Watch, operation: str, nth: int, error: str, words: str, there: set[str]
) -> None:
    path = template()
    refuse(clients, operation, error, nth=nth, times=1)
    with pytest.raises(DeployError, match=words) as failed:
        run(clients, path, watcher())
    for name in there:
        assert f"bucket {name}" in str(failed.value)
    assert str(failed.value).endswith("`nearpoint delete --stack app` removes it.")
    assert run(clients, path, watcher()).status == "CREATE_COMPLETE"  # the same again goes on
    delete(clients, "app", watcher())
    assert names(clients) == set()


def test_a_no_to_the_change_set_names_the_buckets(clients: Clients, template: Write, watcher: Watch) -> None:
    watch = watcher()
    watch.confirm = lambda question: "Carry out" not in question
    with pytest.raises(DeployError, match=r"Nothing was changed in the stack\. So far there is: bucket app") as refused:
        run(clients, template(), watch)
    assert refused.value.refused
    stacks = clients.client("cloudformation").list_stacks()["StackSummaries"]
    assert {each["StackStatus"] for each in stacks} <= {"DELETE_COMPLETE"}


def test_looking_goes_on_where_aws_throttles(clients: Clients, template: Write, watcher: Watch) -> None:
    refuse(clients, "DescribeStackEvents", "Throttling", nth=2, times=5)
    assert run(clients, template(), watcher()).status == "CREATE_COMPLETE"


def test_an_own_bucket_that_is_not_there(clients: Clients, template: Write, watcher: Watch) -> None:
    clients.client("s3").create_bucket(Bucket="mine")
    for given, words in (
        ({"First": "nowhere"}, "There is no bucket nowhere in us-east-1; make it first"),
        ({"Second": "mine"}, "The bucket mine is in us-east-1, and --regions says eu-west-1"),
        ({"First": "Not A Name"}, "'Not A Name' is no bucket name"),
    ):
        with pytest.raises(DeployError, match=words):
            run(clients, template(), watcher(), parameters=given)
    assert names(clients) == {"mine"}


class Moving:
    """CloudFormation with a stack that somebody else is changing."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {"Stacks": [{"StackId": "id", "StackName": StackName, "StackStatus": status}]}

    def describe_stack_events(self, **_: Any) -> Any:
        return {"StackEvents": []}


@pytest.mark.parametrize("ended", ["UPDATE_COMPLETE", "ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_a_stack_that_moves_is_waited_for(watcher: Watch, ended: str) -> None:
    from nearpoint.aws.deploy import _at_rest

    clients = Clients(target="local", session=None)  # type: ignore[arg-type]
    clients._clients[("cloudformation", "us-east-1")] = Moving("UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", ended)
    stack, watch = Stack(clients, "app", sleep=lambda _: None), watcher()
    found = _at_rest(stack, watch)
    assert found is not None
    assert found["StackStatus"] == ended
    assert watch.said == ["the stack is in UPDATE_IN_PROGRESS: waiting for it to rest"]
    if ended != "UPDATE_COMPLETE":
        with pytest.raises(DeployError, match=r"(nearpoint delete --stack app|continue-update-rollback)"):
            stack.check_movable(found)
