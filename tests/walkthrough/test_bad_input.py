"""What users get wrong: templates, functions, signatures. Each gets its status and reason and leaves nothing behind."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from nearpoint.signing import EMPTY_SHA256, Credentials, Message, presign_v4, sign_v4, sign_v4a

HERE = "us-east-1"

ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
    },
}


def template(**resources: Any) -> str:
    return json.dumps({"Resources": resources})


def bucket(name: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}}


# ── templates ──

INVALID = {
    "not a template": ("hello", "Template"),
    "no resources": ("Parameters: {}", "Resources"),
    "broken yaml": ("Resources:\n  A: [", "YAML"),
    "unknown type": (template(A={"Type": "AWS::Nothing::Here"}), "AWS::Nothing::Here"),
    "circular": (
        template(A=bucket({"Fn::Sub": "${B}-x"}), B=bucket({"Fn::Sub": "${A}-x"})),
        "[Cc]ircular",
    ),
    "unknown reference": (template(A=bucket({"Ref": "Nobody"})), "Nobody"),
    "unknown function": (template(A=bucket({"Fn::Nonsense": "x"})), "Fn::Nonsense"),
    "bad condition": (template(A=bucket("x") | {"Condition": "Nobody"}), "Nobody"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_template_is_refused(shared_world: Any, name: str) -> None:
    body, reason = INVALID[name]
    with pytest.raises(ClientError, match=reason) as caught:
        shared_world.aws("cloudformation").create_stack(StackName="refused", TemplateBody=body)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError, match="does not exist"):
        shared_world.aws("cloudformation").describe_stacks(StackName="refused")


FAILING = {
    "bad arguments": (bucket({"Fn::Join": "x"}), "Fn::Join object requires two parameters"),
    "missing export": (bucket({"Fn::ImportValue": "nobody-exports-this"}), "nobody-exports-this"),
    "bad value": (bucket("Not_A_Bucket_Name"), "(?i)bucket"),
    "missing package": (
        {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": "python3.13", "Handler": "index.handler", "Role": {"Fn::GetAtt": "Role.Arn"},
                "Code": {"S3Bucket": "nobody-has-this-bucket", "S3Key": "function.zip"},
            },
        },
        "nobody-has-this-bucket|NoSuchBucket|does not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_resource_rolls_the_stack_back(shared_world: Any, deploy: Any, name: str) -> None:
    resource, reason = FAILING[name]
    stack_name = "fails-" + name.replace(" ", "-")
    cloudformation = shared_world.aws("cloudformation")
    body = template(Role=ROLE, Made=bucket(f"made-then-removed-{name.replace(' ', '-')}"), Failing=resource)
    stack = deploy(shared_world, stack_name, body)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    assert any(re.search(reason, each.get("ResourceStatusReason", "")) for each in events), events
    assert [each for each in shared_world.aws("s3").list_buckets()["Buckets"] if "made-then" in each["Name"]] == []
    assert shared_world.aws("lambda").list_functions()["Functions"] == []
    resources = cloudformation.describe_stack_resources(StackName=stack_name)["StackResources"]
    assert {each["ResourceStatus"] for each in resources} <= {"DELETE_COMPLETE", "CREATE_FAILED"}
    cloudformation.delete_stack(StackName=stack_name)


# ── functions ──

PACKAGES = {
    "nohandler": ("def other(event, context): return {}", 500, "handler"),
    "nomodule": (None, 500, "index"),
    "syntax": ("def handler(event, context:", 500, "SyntaxError"),
    "raises": ("def handler(event, context): raise ValueError('on purpose')", 500, "on purpose"),
    "loops": ("def handler(event, context):\n    while True: pass", 503, "timeout|timed out"),
    "nonsense": ("def handler(event, context): return 42", 502, "malformed"),
    "forbidden": (
        "def handler(event, context):\n    r = event['Records'][0]['cf']['request']\n"
        "    r['headers']['x-amz-cf-id'] = [{'key': 'X-Amz-Cf-Id', 'value': 'x'}]\n    return r",
        502,
        "x-amz-cf-id",
    ),
    "exits": ("import os\ndef handler(event, context): os._exit(3)", 500, "exit|crash|ended"),
    "unserialisable": ("def handler(event, context): return {'status': {1, 2}}", 502, "JSON|serializ"),
}


def zipped(source: str | None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt" if source is None else "index.py", source or "nothing to run")
    return content.getvalue()


def function(name: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "FunctionName": f"bad-{name}", "Runtime": "python3.13", "Handler": "index.handler", "Timeout": 1,
            "Role": {"Fn::GetAtt": "Role.Arn"}, "Code": {"S3Bucket": "bad-packages", "S3Key": name},
        },
    }  # fmt: skip


def distribution(name: str) -> dict[str, Any]:
    behavior = {
        "TargetOriginId": "origin", "ViewerProtocolPolicy": "allow-all",
        "ForwardedValues": {"QueryString": False}, "MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 0,
        "LambdaFunctionAssociations": [
            {"EventType": "origin-request", "LambdaFunctionARN": {"Ref": f"Version{name}"}}
        ],
    }  # fmt: skip
    origin = {
        "Id": "origin", "DomainName": "bad-packages.s3.amazonaws.com",
        "CustomOriginConfig": {"OriginProtocolPolicy": "https-only"},
    }  # fmt: skip
    config = {"Enabled": True, "Origins": [origin], "DefaultCacheBehavior": behavior}
    return {"Type": "AWS::CloudFront::Distribution", "Properties": {"DistributionConfig": config}}


@pytest.fixture(scope="module")
def domains(shared_world: Any, deploy: Any) -> Any:
    """The distribution of each bad package."""
    s3 = shared_world.aws("s3")
    s3.create_bucket(Bucket="bad-packages")
    resources: dict[str, Any] = {"Role": ROLE}
    for name, (source, _, _) in PACKAGES.items():
        s3.put_object(Bucket="bad-packages", Key=name, Body=zipped(source))
        version = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": f"Function{name}"}}}
        resources |= {f"Function{name}": function(name), f"Version{name}": version, f"At{name}": distribution(name)}
    outputs = {name: {"Value": {"Fn::GetAtt": f"At{name}.DomainName"}} for name in PACKAGES}
    stack = deploy(shared_world, "bad-packages", json.dumps({"Resources": resources, "Outputs": outputs}))
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    yield {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    shared_world.aws("cloudformation").delete_stack(StackName="bad-packages")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_function_that_fails(shared_world: Any, domains: dict[str, str], name: str) -> None:
    _, status, reason = PACKAGES[name]
    for _ in range(2):  # the second time it is known to be broken; the edge and its other functions go on
        answer = shared_world.get(HERE, f"https://{domains[name]}/{name}")
        assert answer.status == status, answer.data
        assert "from cloudfront" in answer.headers["x-cache"]
        if status != 502:
            assert "on purpose" not in answer.data.decode()  # details are the log's, not the viewer's
    request_id = answer.headers["x-amz-cf-id"]
    until = time.monotonic() + 10
    while request_id not in (log := shared_world.nearpoint("logs", f"bad-{name}", check=False).stdout):
        assert time.monotonic() < until, log
        time.sleep(0.1)
    assert re.search(reason, log), log


# ── signatures ──

WRONG = {
    "nothing": (403, "AccessDenied"),
    "a wrong secret": (403, "SignatureDoesNotMatch"),
    "an unknown key": (403, "InvalidAccessKeyId"),
    "an old date": (403, "RequestTimeTooSkewed"),
    "half a header": (400, "AuthorizationHeaderMalformed"),
    "an expired link": (403, "AccessDenied"),
    "a bad token": (400, "InvalidToken"),
}


@pytest.fixture(scope="module")
def app(shared_world: Any, new_app: Any) -> Any:
    made = new_app(shared_world)
    yield made
    made.delete()


@pytest.mark.parametrize("where", ["access point", "s3"])
@pytest.mark.parametrize("name", WRONG)
def test_a_signature_that_is_not_right(app: Any, where: str, name: str) -> None:
    world = app.world
    alias = app.arn.rpartition("/")[2]
    host = f"{alias}.accesspoint.s3-global.amazonaws.com" if where == "access point" else "s3.us-east-1.amazonaws.com"
    path = "/index.html" if where == "access point" else f"/{app.buckets[HERE]}/index.html"
    status, code = WRONG[name]
    for right in (True, False):
        headers, query = signed(world, where, host, path, None if right else name)
        answer = world.get(HERE, f"https://{host}{path}{query}", headers=headers)
        if right:
            assert answer.status == 200, answer.data
        else:
            assert (answer.status, f"<Code>{code}</Code>" in answer.data.decode()) == (status, True), answer.data
            assert answer.headers["content-type"] == "application/xml"
            assert answer.headers["x-amz-request-id"]


def signed(world: Any, where: str, host: str, path: str, wrong: str | None) -> tuple[dict[str, str], str]:
    """Headers and query of a GET, with something wrong about the signature."""
    settings = world.settings
    key, secret, token = settings["access_key_id"], settings["secret_key"], None
    now = datetime.now(UTC)
    match wrong:
        case "nothing":
            return {}, ""
        case "a wrong secret":
            secret = "another"
        case "an unknown key":
            key = "AKIANOBODYNOBODYNOBO"
        case "an old date":
            now -= timedelta(minutes=20)
        case "a bad token":
            token = "bm90IGEgdG9rZW4="
    credentials = Credentials(key, secret, token)
    message = Message("GET", path, "", [("Host", host)])
    if wrong == "an expired link":
        return {}, "?" + presign_v4(
            message, credentials, region=HERE, service="s3", now=now - timedelta(minutes=5), expires_s=60
        )
    if where == "s3":
        fields = sign_v4(message, credentials, region=HERE, now=now, payload_hash=EMPTY_SHA256)
    else:
        fields = sign_v4a(message, credentials, now=now, payload_hash=EMPTY_SHA256)
    headers = dict(fields)
    if wrong == "half a header":
        headers["Authorization"] = headers["Authorization"].partition(", Signature=")[0]
    return headers, ""
