"""A package with native code inside: boto3 from the runtime, awscrt from the package, a SigV4A signature from both."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path

import pytest

from nearpoint.functions.event import EventConfig
from nearpoint.functions.origin import CustomOrigin
from nearpoint.functions.outcome import Continue
from nearpoint.functions.runner import Runner
from nearpoint.signing import Credentials
from nearpoint.wire.message import Headers, Request

# Signs an origin request for an access point as users of the CRT signer do.
SIGNER = """
import boto3
import botocore.crt.auth
from botocore.awsrequest import AWSRequest

session = boto3.Session()
READ_ONLY = ("accept-encoding", "content-length", "if-modified-since", "if-none-match", "if-range",
             "if-unmodified-since", "transfer-encoding", "via")

def handler(event, context):
    cf = event["Records"][0]["cf"]
    request = cf["request"]
    host = request["origin"]["custom"]["domainName"]
    signer = botocore.crt.auth.CrtS3SigV4AsymAuth(session.get_credentials(), "s3", "*")
    given = {fields[0]["key"]: fields[0]["value"] for name, fields in request["headers"].items() if name in READ_ONLY}
    signed = AWSRequest(
        method=request["method"],
        url="https://" + host + request["uri"],
        headers={**given, "Host": host, "X-Amz-Cf-Id": cf["config"]["requestId"]},
    )
    signer.add_auth(signed)
    headers = signed.prepare().headers
    del headers["X-Amz-Cf-Id"]
    request["headers"] = {name.lower(): [{"key": name, "value": value}] for name, value in headers.items()}
    return request
"""


@pytest.fixture(scope="module")
def awscrt_package() -> bytes:
    spec = importlib.util.find_spec("awscrt")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path in (*folder.rglob("*.py"), *folder.parent.glob("_awscrt*.so")):
            zipped.write(path, path.relative_to(folder.parent))
        zipped.writestr("app.py", SIGNER)
    return buffer.getvalue()


async def test_the_crt_signer_signs_an_origin_request(bench, awscrt_package):
    function = bench.function("", code_sha256=bench.package(awscrt_package))
    role = Credentials(access_key_id="ASIAONE", secret_key="secret", session_token="token")
    runner = Runner(bench.sandbox.invoke, lambda function: role)
    request = Request(
        "GET",
        "/index.html",
        Headers(
            [("Host", "m.mrap.accesspoint.s3-global.amazonaws.com"), ("Via", "1.1 x"), ("X-Forwarded-Proto", "https")]
        ),
    )
    origin = CustomOrigin(domain_name="m.mrap.accesspoint.s3-global.amazonaws.com")
    config = EventConfig(distribution_domain="d1.cloudfront.net", distribution_id="E1", request_id="cf-id==")
    outcome = await runner.run_origin_request(function, config, request, origin)
    assert isinstance(outcome, Continue), (outcome, bench.lines)
    headers = outcome.request.headers
    authorization = headers.get("authorization") or ""
    assert authorization.startswith("AWS4-ECDSA-P256-SHA256 Credential=ASIAONE/")
    assert "x-amz-cf-id" in authorization
    assert headers.get("x-amz-security-token") == "token"
    assert headers.get("x-amz-region-set") == "*"
    assert headers.get("via") == "1.1 x"
    assert headers.get("x-forwarded-proto") == "https"
    warm = await runner.run_origin_request(function, config, request, origin)
    assert isinstance(warm, Continue)
    assert warm.request.headers.get("authorization") != authorization
