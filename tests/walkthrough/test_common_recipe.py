"""The recipe of most projects: boto3 from the runtime, awscrt as a native wheel in the package, the CRT signer."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Signs what the origin will get: the host and the request id that CloudFront adds. The rest travels on unsigned.
SIGNER = """
import boto3
import botocore.crt.auth
from botocore.awsrequest import AWSRequest

signer = botocore.crt.auth.CrtS3SigV4AsymAuth(boto3.Session().get_credentials(), "s3", "*")

def handler(event, context):
    cf = event["Records"][0]["cf"]
    request = cf["request"]
    host = request["origin"]["custom"]["domainName"]
    to_sign = AWSRequest(
        method=request["method"],
        url="https://" + host + request["uri"],
        headers={"Host": host, "X-Amz-Cf-Id": cf["config"]["requestId"]},
    )
    signer.add_auth(to_sign)
    headers = to_sign.prepare().headers
    del headers["X-Amz-Cf-Id"]
    request["headers"] |= {name.lower(): [{"key": name, "value": value}] for name, value in headers.items()}
    print("signed", request["uri"])
    return request
"""


@pytest.fixture(scope="module")
def native_package() -> bytes:
    """What `pip install --target build awscrt` and zipping leave, with a handler."""
    spec = importlib.util.find_spec("awscrt")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in (*folder.rglob("*.py"), *folder.parent.glob("_awscrt*.so")):
            archive.write(path, path.relative_to(folder.parent))
        archive.writestr("index.py", SIGNER)
    return content.getvalue()


@pytest.fixture(scope="module")
def app(shared_world: Any, new_app: Any, native_package: bytes, example: Path) -> Iterator[Any]:
    template = (example / "template.yaml").read_text()
    made = new_app(shared_world, native_package, template.replace("python3.13", "python3.9"))
    yield made
    made.delete()


def test_it_is_answered_from_the_nearest_bucket(app: Any) -> None:
    for location, region in (("us-east-1", "us-east-1"), ("eu-west-1", "eu-west-1"), ("SIN", "eu-west-1")):
        answer = app.world.get(location, app.url)
        assert (answer.status, answer.data.decode()) == (200, app.hello(region))
        assert answer.headers["x-nearpoint-region"] == region
    assert app.world.get("FRA", f"{app.url}/missing").status == 404
    assert "signed /index.html" in app.world.nearpoint("logs").stdout
