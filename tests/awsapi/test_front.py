"""Who may come in, what is answered to whom, and in which shape."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from botocore.exceptions import ClientError

from nearpoint.awsproto.xml import parse
from nearpoint.signing import Credentials, Message, sign_v4
from nearpoint.state.sessions import mint
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all

ROOT = ("AKIAROOTROOTROOTROOT", "root-secret")
CALLS = [
    ("s3", "list_buckets", {}),
    ("s3control", "list_multi_region_access_points", {"AccountId": "123456789012"}),
    ("cloudfront", "list_distributions", {}),
    ("iam", "list_roles", {}),
    ("lambda", "list_functions", {}),
    ("sts", "get_caller_identity", {}),
]


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def signed(
    service: str,
    host: str,
    target: str = "/",
    *,
    method: str = "GET",
    body: bytes = b"",
    region: str = "us-east-1",
    headers: list[tuple[str, str]] | None = None,
    age_s: float = 0,
    keys: tuple[str, str] = ROOT,
) -> Request:
    import hashlib

    path, _, query = target.partition("?")
    digest = hashlib.sha256(body).hexdigest()
    fields = [("Host", host), *(headers or [])]
    fields += sign_v4(
        Message(method=method, path=path, query=query, headers=fields),
        Credentials(*keys),
        region=region,
        service=service,
        now=datetime.now(UTC) - timedelta(seconds=age_s),
        payload_hash=digest,
    )
    return Request(method, target, Headers(fields), body)


async def body_of(response: Response) -> bytes:
    return await read_all(response.body, 1 << 20)


@pytest.mark.parametrize(("service", "operation", "params"), CALLS)
async def test_every_answer_has_its_request_id(
    world: Any, call: Any, service: str, operation: str, params: dict[str, Any]
) -> None:
    answer = await call(getattr(world.client(service, "us-west-2"), operation), **params)
    assert len(answer["ResponseMetadata"]["RequestId"]) in {16, 36}


@pytest.mark.parametrize(
    ("service", "operation", "params", "expected"),
    [
        (*CALLS[0], ("SignatureDoesNotMatch", 403)),
        (*CALLS[1], ("SignatureDoesNotMatch", 403)),
        (*CALLS[2], ("SignatureDoesNotMatch", 403)),
        (*CALLS[3], ("SignatureDoesNotMatch", 403)),
        (*CALLS[4], ("InvalidSignatureException", 403)),
        (*CALLS[5], ("SignatureDoesNotMatch", 403)),
    ],
)
async def test_a_wrong_secret(
    world: Any, call: Any, service: str, operation: str, params: dict[str, Any], expected: tuple[str, int]
) -> None:
    client = world.client(service, "us-west-2", keys=(ROOT[0], "wrong", None))
    with pytest.raises(ClientError) as error:
        await call(getattr(client, operation), **params)
    assert code(error) == expected
    assert "RequestId" in error.value.response["ResponseMetadata"]


@pytest.mark.parametrize(
    ("service", "operation", "params", "expected"),
    [
        (*CALLS[0], ("InvalidAccessKeyId", 403)),
        (*CALLS[2], ("InvalidClientTokenId", 403)),
        (*CALLS[3], ("InvalidClientTokenId", 403)),
        (*CALLS[4], ("UnrecognizedClientException", 403)),
    ],
)
async def test_a_key_nobody_knows(
    world: Any, call: Any, service: str, operation: str, params: dict[str, Any], expected: tuple[str, int]
) -> None:
    client = world.client(service, keys=("AKIANOBODY", "x", None))
    with pytest.raises(ClientError) as error:
        await call(getattr(client, operation), **params)
    assert code(error) == expected


@pytest.mark.parametrize(
    ("service", "operation", "params", "expected"),
    [
        (*CALLS[0], ("ExpiredToken", 400)),
        (*CALLS[3], ("ExpiredToken", 403)),
        (*CALLS[4], ("ExpiredTokenException", 403)),
    ],
)
async def test_a_session_that_is_over(
    world: Any, call: Any, service: str, operation: str, params: dict[str, Any], expected: tuple[str, int]
) -> None:
    role = await world.role("r", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    for expires_in_s, over in ((60, False), (-1, True)):
        keys = mint(
            "session-secret",
            role_arn=role.arn,
            session_name="s",
            expires_at=int(time.time()) + expires_in_s,
            random_bytes=os.urandom(10),
        )
        client = world.client(service, keys=keys)
        if not over:
            await call(getattr(client, operation), **params)
            continue
        with pytest.raises(ClientError) as error:
            await call(getattr(client, operation), **params)
        assert code(error) == expected
    client = world.client(service, keys=(keys[0], keys[1], keys[2][:-4] + "AAAA"))
    with pytest.raises(ClientError) as error:
        await call(getattr(client, operation), **params)
    assert code(error)[0] in {"InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException"}


@pytest.mark.parametrize(
    ("host", "target", "content_type", "expected"),
    [
        ("s3.amazonaws.com", "/", "application/xml", "AccessDenied"),
        ("123456789012.s3-control.us-west-2.amazonaws.com", "/v20180820/mrap/instances", "text/xml", "AccessDenied"),
        ("iam.amazonaws.com", "/", "text/xml", "MissingAuthenticationToken"),
        ("cloudfront.amazonaws.com", "/2020-05-31/distribution", "text/xml", "MissingAuthenticationToken"),
        (
            "lambda.us-east-1.amazonaws.com",
            "/2015-03-31/functions",
            "application/json",
            "MissingAuthenticationTokenException",
        ),
    ],
)
async def test_no_signature(world: Any, host: str, target: str, content_type: str, expected: str) -> None:
    response = await world.raw(Request("GET", target, Headers([("Host", host)])))
    assert response.status == 403
    assert response.headers.get("content-type") == content_type
    assert expected.encode() in await body_of(response) or response.headers.get("x-amzn-errortype") == expected
    assert response.headers.get("x-amz-request-id") or response.headers.get("x-amzn-requestid")


async def test_old_and_misplaced_signatures(world: Any) -> None:
    old = await world.raw(signed("s3", "s3.amazonaws.com", age_s=1000))
    assert (old.status, parse(await body_of(old)).child("Code").text) == (403, "RequestTimeTooSkewed")
    old = await world.raw(signed("iam", "iam.amazonaws.com", "/?Action=ListRoles&Version=2010-05-08", age_s=1000))
    assert (old.status, b"SignatureDoesNotMatch" in await body_of(old)) == (403, True)
    misplaced = await world.raw(signed("s3", "s3.eu-west-1.amazonaws.com"))
    root = parse(await body_of(misplaced))
    assert (misplaced.status, root.child("Code").text) == (400, "AuthorizationHeaderMalformed")
    assert root.child("Region").text == "eu-west-1"
    for_another = await world.raw(signed("sts", "iam.amazonaws.com", "/?Action=ListRoles&Version=2010-05-08"))
    assert for_another.status in {400, 403}
    elsewhere = await world.raw(signed("lambda", "lambda.eu-west-1.amazonaws.com", "/2015-03-31/functions"))
    assert (elsewhere.status, elsewhere.headers.get("x-amzn-errortype")) == (403, "InvalidSignatureException")


async def test_a_body_other_than_the_signed_one(world: Any) -> None:
    request = signed("iam", "iam.amazonaws.com", method="POST", body=b"Action=ListRoles&Version=2010-05-08")
    request.body.data = b"Action=GetRole&RoleName=a&Version=2010-05-08"  # type: ignore[attr-defined]
    response = await world.raw(request)
    assert (response.status, b"SignatureDoesNotMatch" in await body_of(response)) == (403, True)


@pytest.mark.parametrize(
    ("service", "operation", "params"),
    [
        ("s3control", "list_jobs", {"AccountId": "123456789012"}),
        ("cloudfront", "list_functions", {}),
        ("iam", "list_users", {}),
        ("lambda", "list_layers", {}),
        ("sts", "get_session_token", {}),
    ],
)
async def test_what_is_not_implemented_says_so(
    world: Any, call: Any, service: str, operation: str, params: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as error:
        await call(getattr(world.client(service), operation), **params)
    assert code(error) == ("NotImplemented", 501)
    named = "".join(part.capitalize() for part in operation.split("_"))
    assert error.value.response["Error"]["Message"] == f"The operation {named} of {service} is not implemented here."


@pytest.mark.parametrize(
    ("service", "operation"),
    [("dynamodb", "list_tables"), ("sqs", "list_queues"), ("sns", "list_topics"), ("ec2", "describe_instances")],
)
async def test_services_that_are_not_here(world: Any, call: Any, service: str, operation: str) -> None:
    with pytest.raises(ClientError) as error:
        await call(getattr(world.client(service), operation))
    assert code(error) == ("NotImplemented", 501)
    assert service in error.value.response["Error"]["Message"]


async def test_bad_parameters_are_answered_in_the_services_words(world: Any) -> None:
    response = await world.raw(signed("iam", "iam.amazonaws.com", "/?Action=GetRole&Version=2010-05-08"))
    assert response.status == 400
    assert b"<Code>ValidationError</Code>" in await body_of(response)
    response = await world.raw(signed("iam", "iam.amazonaws.com", "/?Action=Nonsense"))
    assert b"<Code>InvalidAction</Code>" in await body_of(response)
    response = await world.raw(signed("lambda", "lambda.us-east-1.amazonaws.com", "/nonsense"))
    assert (response.status, response.headers.get("x-amzn-errortype")) == (404, "UnknownOperationException")


async def test_a_body_that_is_too_large(world: Any) -> None:
    large = signed("iam", "iam.amazonaws.com", method="POST", body=b"x" * (1 << 20) + b"x")
    response = await world.raw(large)
    assert (response.status, b"RequestEntityTooLargeException" in await body_of(response)) == (413, True)

    async def endless() -> Any:
        while True:
            yield b"x" * 65536

    large.body = StreamBody(endless())
    assert (await world.raw(large)).status == 413


async def test_a_head_has_no_body(world: Any) -> None:
    response = await world.raw(signed("s3", "nothere.s3.amazonaws.com", method="HEAD"))
    assert (response.status, await body_of(response)) == (404, b"")


async def test_a_handler_that_fails_is_a_500_and_says_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.state, "list", lambda kind: 1 / 0)
    response = await world.raw(signed("lambda", "lambda.us-east-1.amazonaws.com", "/2015-03-31/functions"))
    body = orjson.loads(await body_of(response))
    assert (response.status, response.headers.get("x-amzn-errortype")) == (500, "InternalFailure")
    assert "ZeroDivision" not in str(body)


@pytest.mark.parametrize(
    "authorization",
    [
        "nonsense",
        "AWS4-HMAC-SHA256 Credential=a",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=00",
        "AWS AKIA:sig",
    ],
)
async def test_malformed_authorization(world: Any, authorization: str) -> None:
    for host, target in (("s3.amazonaws.com", "/"), ("iam.amazonaws.com", "/?Action=ListRoles"), ("127.0.0.1", "/")):
        headers = Headers([("Host", host), ("Authorization", authorization), ("X-Amz-Date", "20260101T000000Z")])
        headers.add("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        response = await world.raw(Request("GET", target, headers))
        assert 400 <= response.status <= 403


async def aws(world: Any, *words: str, stdin: bytes = b"", region: str = "us-east-1") -> tuple[int, str, str]:
    """The AWS CLI, with the front as its endpoint."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": ROOT[0],
        "AWS_SECRET_ACCESS_KEY": ROOT[1],
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{world.port}",
        "AWS_MAX_ATTEMPTS": "1",
    }
    program = Path(sys.executable).parent / "aws"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        *words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_aws_cli(world: Any) -> None:
    assert (await aws(world, "s3", "mb", "s3://from-cli"))[0] == 0
    status, _, err = await aws(world, "s3", "mb", "s3://from-ireland", region="eu-west-1")
    assert (status, err) == (0, "")
    assert (await aws(world, "s3", "cp", "-", "s3://from-ireland/index.html", stdin=b"hello"))[0] == 0
    status, out, err = await aws(world, "s3", "cp", "s3://from-ireland/index.html", "-")
    assert (status, out) == (0, "hello"), err
    status, out, _ = await aws(world, "sts", "get-caller-identity", "--query", "Arn", "--output", "text")
    assert (status, out.strip()) == (0, "arn:aws:iam::123456789012:root")
    status, _, err = await aws(world, "iam", "list-users")
    assert status != 0
    assert "The operation ListUsers of iam is not implemented here." in err
    assert (await aws(world, "s3", "rb", "--force", "s3://from-ireland", region="eu-west-1"))[0] == 0
    _, out, _ = await aws(world, "s3", "ls")
    assert [line.split()[-1] for line in out.splitlines()] == ["from-cli"]
