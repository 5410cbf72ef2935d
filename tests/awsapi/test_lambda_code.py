"""A function's code by the address that Lambda names: for whom, how long, and what else it leads to (nothing)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from nearpoint.awsapi import lambda_code
from nearpoint.awsproto import AwsError
from nearpoint.state.resources import Function
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import Headers, Request

ACCOUNT = "123456789012"
DIGEST = "ab" * 32
KEY = f"snapshots/{ACCOUNT}/edge:1"
ROOT = Identity(access_key_id="A", secret_key="s", principal_arn=f"arn:aws:iam::{ACCOUNT}:root")


@pytest.fixture
async def packed(world: Any) -> bytes:
    """A function's package, where the function's version says that it is."""
    role = await world.role("lambda-role")
    await world.state.put(
        Function(
            name="edge", version="1", account_id=ACCOUNT, region="us-east-1", role_arn=role.arn, runtime="python3.13",
            handler="index.handler", code_sha256=DIGEST, code_size_bytes=3, last_modified=1_700_000_000.5,
        )
    )  # fmt: skip
    world.context.packages.mkdir(parents=True, exist_ok=True)
    (world.context.packages / f"{DIGEST}.zip").write_bytes(b"zip")
    return b"zip"


async def test_the_address_is_good_as_it_is(world: Any, call: Any, packed: bytes) -> None:
    location = (await call(world.client("lambda").get_function, FunctionName="edge:1"))["Code"]["Location"]
    parts = urlsplit(location)
    assert parts.netloc == "awslambda-us-east-1-tasks.s3.us-east-1.amazonaws.com"
    headers = [("Host", parts.netloc)]
    response = await world.raw(Request("GET", f"{parts.path}?{parts.query}", Headers(headers)))
    assert (response.status, response.body.data) == (200, packed)
    forged = parts.query[:-4] + ("0000" if parts.query[-4:] != "0000" else "1111")
    response = await world.raw(Request("GET", f"{parts.path}?{forged}", Headers(headers)))
    assert response.status == 403
    other = parts.path.replace("edge", "else")
    assert (await world.raw(Request("GET", f"{other}?{parts.query}", Headers(headers)))).status == 403


async def asked(world: Any, identity: Identity, key: str, region: str = "us-east-1") -> str:
    try:
        response = await lambda_code.answer(world.context, Request("GET", "/"), identity, key, region)
    except AwsError as error:
        return error.code
    return str(response.status)


async def test_for_whom(world: Any, packed: bytes) -> None:
    role = await world.role("nobody")
    nobody = Identity(
        access_key_id="B",
        secret_key="s",
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/nobody/me",
        role_arn=role.arn,
    )
    assert await asked(world, ROOT, KEY) == "200"
    assert await asked(world, nobody, KEY) == "AccessDenied"
    for key in ("", "snapshots/x/none:1", "snapshots/../../etc/passwd", KEY.replace(":1", ":2")):
        assert await asked(world, ROOT, key) == "NoSuchKey"
    assert await asked(world, ROOT, KEY, "eu-west-1") == "NoSuchKey"
    (world.context.packages / f"{DIGEST}.zip").unlink()
    assert await asked(world, ROOT, KEY) == "NoSuchKey"
