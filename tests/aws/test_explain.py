"""Every refusal of AWS is a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions
from botocore.exceptions import ClientError

from nearpoint.aws import delete as deleting
from nearpoint.aws.clients import Clients, aws_clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import advice_on, explained
from nearpoint.aws.stacks import Stack


def refusal(code: str, message: str = "AWS's words", status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "CreateBucket")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.NoCredentialsError(), "aws sso login"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), "incomplete"),
        (exceptions.ProfileNotFound(profile="me"), "aws configure list-profiles"),
        (exceptions.TokenRetrievalError(provider="sso", error_msg="x"), "sign-in has expired"),
        (exceptions.UnauthorizedSSOTokenError(), "sign-in has expired"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "cannot be reached"),
        (exceptions.ProxyConnectionError(proxy_url="http://x"), "nearpoint status"),
        (refusal("ExpiredToken"), "credentials have expired"),
        (refusal("InvalidClientTokenId", status=403), "does not accept these credentials"),
        (refusal("TooManyBuckets"), "higher quota"),
        (refusal("LimitExceededException"), "higher quota"),
        (refusal("Throttling"), "goes on where it stopped"),
        (refusal("OptInRequired"), "opted in"),
        (refusal("AccessDenied", status=403), "CreateBucket is not allowed: AWS's words. Give the caller's policy"),
        (refusal("Whatever"), "CreateBucket: AWS's words"),
    ],
)
def test_sentences(error: Any, words: str) -> None:
    assert words in str(explained(error))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resource handler returned message: The maximum number of distributions (Service: CloudFront)", "quota"),
        ("LimitExceeded: You have exceeded", "quota"),
        ("User: arn:aws:iam::1:user/me is not authorized to perform: iam:CreateRole", "that permission"),
        ("Rate exceeded", "throttles"),
        ("app-signer already exists in stack other", "take another --stack"),
        ("Value of property MemorySize must be from 128 to 10240", ""),
    ],
)
def test_advice_on_the_reason_of_an_event(reason: str, words: str) -> None:
    assert words in advice_on(reason)
    assert bool(words) == bool(advice_on(reason))


def test_no_such_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(DeployError, match="no such AWS profile"):
        aws_clients("nobody")


class Answers:
    """Stands for boto3's clients: answers by operation name, in order, the last one for ever."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.called: list[str] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**params: Any) -> Any:
            self.called.append(operation)
            listed = self.answers[operation]
            answer = listed.pop(0) if len(listed) > 1 else listed[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def clients_with(answers: Answers) -> Clients:
    clients = Clients(target="local", session=None)  # type: ignore[arg-type]
    clients._clients = dict.fromkeys(
        [("cloudformation", "us-east-1"), ("sts", "us-east-1"), ("s3", "us-east-1")], answers
    )
    return clients


def test_another_partition() -> None:
    answers = Answers(get_caller_identity=[{"Account": "1", "Arn": "arn:aws-cn:iam::1:root"}])
    with pytest.raises(DeployError, match="partition aws-cn, which has neither"):
        clients_with(answers).identity()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ROLLBACK_COMPLETE", "nearpoint delete --stack app"),
        ("CREATE_FAILED", "nearpoint delete --stack app"),
        ("UPDATE_ROLLBACK_FAILED", "nearpoint shell us-east-1 -- aws .* --region us-east-1 --stack-name app`"),
        ("IMPORT_ROLLBACK_FAILED", "neither creates nor updates"),
    ],
)
def test_a_stack_that_cannot_be_moved(status: str, words: str) -> None:
    with pytest.raises(DeployError, match=words):
        Stack(clients_with(Answers()), "app").check_movable({"StackStatus": status})


def replicated(left: int) -> Answers:
    """CloudFormation, where Lambda refuses `left` times to delete a function because of its replicas."""
    stack = {"StackId": "id", "StackName": "app", "StackStatus": "UPDATE_COMPLETE"}
    failed = {"Stacks": [stack | {"StackStatus": "DELETE_FAILED"}]}
    resources = {
        "StackResources": [
            {
                "LogicalResourceId": "Signer", "ResourceType": "AWS::Lambda::Function", "PhysicalResourceId": "f",
                "ResourceStatus": "DELETE_FAILED",
                "ResourceStatusReason": "Lambda was unable to delete f because it is a replicated function.",
            },
            {"LogicalResourceId": "Edge", "ResourceType": "AWS::CloudFront::Distribution",
             "ResourceStatus": "DELETE_COMPLETE"},
        ]
    }  # fmt: skip
    gone = refusal("ValidationError", "Stack with id id does not exist")
    described: list[Any] = [{"Stacks": [stack]}]
    described += [failed] * (2 * left - 1) if left else []
    return Answers(
        describe_stacks=[*described, gone],
        describe_stack_events=[{"StackEvents": []}],
        describe_stack_resources=[resources],
        delete_stack=[{}],
    )


def test_replicas_at_the_edge_are_named(watcher: Any) -> None:
    stack = Stack(clients_with(replicated(1)), "app")
    left = deleting._remove_stack(stack, watcher(), wait=False, sleep=lambda _: None)
    assert left == ["Signer (AWS::Lambda::Function) f"]


def test_replicas_at_the_edge_are_waited_for(watcher: Any) -> None:
    answers, slept = replicated(3), []
    stack = Stack(clients_with(answers), "app", sleep=lambda _: None)
    assert deleting._remove_stack(stack, watcher(), wait=True, sleep=slept.append) == []
    assert slept == [deleting.REPLICAS_POLL_S] * 3


def test_another_reason_is_said(watcher: Any) -> None:
    answers = replicated(1)
    resource = answers.answers["describe_stack_resources"][0]["StackResources"][0]
    resource.update(ResourceType="AWS::S3::Bucket", ResourceStatusReason="It is not empty.")
    stack = Stack(clients_with(answers), "app")
    with pytest.raises(DeployError, match=r"Signer \(AWS::S3::Bucket\) can't be deleted: It is not empty"):
        deleting._remove_stack(stack, watcher(), wait=False, sleep=lambda _: None)
