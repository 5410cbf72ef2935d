"""The function of `examples/active-active`, packed as its README says and run where nothing else is installed."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from awscrt.crypto import EC

from nearpoint.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Message, Verified, keys, read_claim, verify
from nearpoint.signing.ec import _PUBLIC_HEAD

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = Path("examples/active-active")
ORIGIN = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
REQUEST_ID = "MPMbeuXJb_yfBGSZ8oVbk2W1lU4pGaUTUmJkYBzX3yRcSfDd9SMgTg=="
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret/key+",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEP//token==",
}

RUNNER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from index import handler
print(json.dumps([handler(event, None) for event in json.load(sys.stdin)]))
assert not {"awscrt", "botocore", "boto3", "msgspec"} & set(sys.modules)
"""


def event(method: str = "GET", uri: str = "/index.html", query: str = "", **parts: Any) -> dict[str, Any]:
    """An origin request as CloudFront hands it over (CloudFront Developer Guide, Lambda@Edge event structure)."""
    headers = {
        "x-forwarded-for": "203.0.113.178",
        "user-agent": "Amazon CloudFront",
        "via": "2.0 2afae0d44e2540f472c0635ab62c232b.cloudfront.net (CloudFront)",
        "accept-encoding": "gzip",
        "host": ORIGIN,
        "cache-control": "no-cache",
        **parts.pop("headers", {}),
    }
    request = {
        "clientIp": "203.0.113.178",
        "method": method,
        "uri": uri,
        "querystring": query,
        "headers": {name: [{"key": name.title(), "value": value}] for name, value in headers.items()},
        "origin": {
            "custom": {
                "customHeaders": {},
                "domainName": ORIGIN,
                "keepaliveTimeout": 5,
                "path": parts.pop("path", ""),
                "port": 443,
                "protocol": "https",
                "readTimeout": 30,
                "sslProtocols": ["TLSv1.2"],
            }
        },
        **parts,
    }
    config = {
        "distributionDomainName": "d111111abcdef8.cloudfront.net",
        "distributionId": "EDFDVBD6EXAMPLE",
        "eventType": "origin-request",
        "requestId": REQUEST_ID,
    }
    return {"Records": [{"cf": {"config": config, "request": request}}]}


def body(data: bytes, *, truncated: bool = False, encoding: str = "base64") -> dict[str, Any]:
    text = base64.b64encode(data).decode() if encoding == "base64" else data.decode()
    return {"inputTruncated": truncated, "action": "read-only", "encoding": encoding, "data": text}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked zip that the README's own commands make."""
    root = tmp_path_factory.mktemp("checkout")
    for part in (EXAMPLE, Path("src/nearpoint/signing")):
        shutil.copytree(CHECKOUT / part, root / part, ignore=shutil.ignore_patterns("build", "function.zip"))
    shutil.copy(CHECKOUT / "src/nearpoint/__init__.py", root / "src/nearpoint/__init__.py")
    blocks = re.findall(r"```sh\n(.*?)```", (CHECKOUT / EXAMPLE / "README.md").read_text(), re.DOTALL)
    (recipe,) = [block for block in blocks if "zipfile" in block]
    subprocess.run(["sh", "-eu", "-c", recipe], cwd=root / EXAMPLE, check=True, timeout=30)
    zipped = root / EXAMPLE / "function.zip"
    assert zipped.stat().st_size < 100_000
    unpacked = root / "task"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(unpacked)
    return unpacked


def run(package: Path, *events: dict[str, Any], environment: dict[str, str] = ENVIRONMENT) -> list[dict[str, Any]]:
    # The interpreter below the virtual environment, without site-packages.
    python = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run(
        [python, "-I", "-S", "-c", RUNNER, str(package)],
        input=json.dumps(events), capture_output=True, text=True, timeout=30, check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def as_sent(request: dict[str, Any]) -> Message:
    """What the access point gets: CloudFront puts the origin's path first and adds its own id."""
    headers = [(field["key"], field["value"]) for fields in request["headers"].values() for field in fields]
    path = request["origin"]["custom"]["path"] + request["uri"]
    return Message(
        request["method"],
        path.encode().decode("latin-1"),
        request["querystring"].encode().decode("latin-1"),
        [*headers, ("X-Amz-Cf-Id", REQUEST_ID)],
    )


def prove(request: dict[str, Any], environment: dict[str, str] = ENVIRONMENT) -> Verified:
    message = as_sent(request)
    claim = read_claim(message)
    assert claim is not None
    assert claim.algorithm == "v4a"
    assert claim.access_key_id == environment["AWS_ACCESS_KEY_ID"]
    assert claim.session_token == environment.get("AWS_SESSION_TOKEN")
    proved = verify(
        claim, message, environment["AWS_SECRET_ACCESS_KEY"], now=datetime.now(UTC), region="eu-west-1", service="s3"
    )
    # AWS-LC's opinion of the pure signature, apart from our verifier.
    point = keys.v4a_key(claim.access_key_id, environment["AWS_SECRET_ACCESS_KEY"]).public.point
    native = EC.new_key_from_der_data(_PUBLIC_HEAD + b"".join(part.to_bytes(32, "big") for part in point))
    digest = hashlib.sha256(proved.string_to_sign.encode("latin-1")).digest()
    assert native.verify(digest, bytes.fromhex(claim.signature))
    return proved


@pytest.mark.parametrize(
    ("method", "uri", "query"),
    [
        ("GET", "/index.html", ""),
        ("HEAD", "/a%20b/%C3%A9.txt", ""),
        ("GET", "/wire!*'(),;:@$+/escapes", "prefix=a+b&x=(1)"),
        ("GET", "/", "list-type=2&prefix=a%2F&delimiter=%7C"),
        ("GET", "/dots/../and//slashes/", "versionId=null"),
        ("GET", "/ünescaped", "q=ü"),
        ("DELETE", "/old", ""),
    ],
)
def test_the_signature_holds(package: Path, method: str, uri: str, query: str) -> None:
    (request,) = run(package, event(method, uri, query))
    proved = prove(request)
    assert proved.payload_hash == (UNSIGNED_PAYLOAD if method == "DELETE" else EMPTY_SHA256)
    assert (request["method"], request["uri"], request["querystring"]) == (method, uri, query)


def test_what_the_network_may_change_is_kept_and_unsigned(package: Path) -> None:
    headers = {
        "range": "bytes=0-9", "if-none-match": '"abc"', "x-amz-checksum-mode": "ENABLED", "content-md5": "x",
        "x-amz-meta-a": "b",
    }  # fmt: skip
    given = event(headers=headers)
    (request,) = run(package, copy.deepcopy(given))
    before = given["Records"][0]["cf"]["request"]["headers"]
    for name in ("range", "if-none-match", "via", "accept-encoding", "user-agent", "cache-control", "x-forwarded-for"):
        assert request["headers"].pop(name) == before[name]
    request["headers"]["via"] = [{"key": "Via", "value": "1.1 someone.else"}]
    signed = prove(request).claim.signed_headers
    assert set(signed) == {
        "host", "content-md5", "x-amz-cf-id", "x-amz-checksum-mode", "x-amz-content-sha256", "x-amz-date",
        "x-amz-meta-a", "x-amz-region-set", "x-amz-security-token",
    }  # fmt: skip


def test_the_header_rules_of_the_edge_are_kept(package: Path) -> None:
    given = event("PUT", "/k", headers={"content-length": "5", "x-forwarded-proto": "https"}, body=body(b"five!"))
    (request,) = run(package, copy.deepcopy(given))
    before = given["Records"][0]["cf"]["request"]
    assert {name for name in request["headers"] if request["headers"][name] != before["headers"].get(name)} == {
        "authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-region-set", "x-amz-security-token",
    }  # fmt: skip
    assert set(before["headers"]) <= set(request["headers"])
    assert request["headers"]["host"] == [{"key": "Host", "value": ORIGIN}]
    assert request["body"] == before["body"]
    assert request["origin"] == before["origin"]


def test_the_path_of_the_origin_is_signed(package: Path) -> None:
    (request,) = run(package, event(path="/site", uri="/index.html"))
    assert prove(request).canonical_request.split("\n")[1] == "/site/index.html"


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_a_body_is_signed_where_all_of_it_is_known(package: Path, method: str) -> None:
    data = bytes(range(256)) * 10
    whole, text, cut, absent, empty = run(
        package,
        event(method, body=body(data)),
        event(method, body=body(b"text", encoding="text")),
        event(method, body=body(data, truncated=True)),
        event(method),
        event(method, body=body(b"")),
    )
    assert prove(whole).payload_hash == hashlib.sha256(data).hexdigest()
    assert prove(text).payload_hash == hashlib.sha256(b"text").hexdigest()
    assert prove(cut).payload_hash == UNSIGNED_PAYLOAD
    assert prove(absent).payload_hash == UNSIGNED_PAYLOAD
    assert prove(empty).payload_hash == EMPTY_SHA256


def test_a_viewer_cannot_bring_credentials_of_its_own(package: Path) -> None:
    theirs = {
        "authorization": "AWS4-HMAC-SHA256 x", "x-amz-date": "20200101T000000Z", "x-amz-security-token": "theirs",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-region-set": "us-*",
    }  # fmt: skip
    user = {name: value for name, value in ENVIRONMENT.items() if name != "AWS_SESSION_TOKEN"}
    (request,) = run(package, event(headers=theirs), environment=user)
    assert "x-amz-security-token" not in request["headers"]
    prove(request, user)


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long ones."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    else:
        value = loader.construct_sequence(node, deep=True)  # type: ignore[arg-type]
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


def test_the_template_is_what_the_walk_through_needs() -> None:
    template = yaml.load((CHECKOUT / EXAMPLE / "template.yaml").read_text(), Loader=_Loader)
    resources = template["Resources"]
    here = {resource["Type"] for resource in resources.values() if "Condition" not in resource}
    assert here == {
        "AWS::CloudFront::CachePolicy",
        "AWS::CloudFront::Distribution",
        "AWS::IAM::Role",
        "AWS::Lambda::Function",
        "AWS::Lambda::Version",
        "AWS::S3::MultiRegionAccessPoint",
        "AWS::S3::MultiRegionAccessPointPolicy",
    }
    assert template["Parameters"]["Monitoring"]["Default"] == "no"
    names = set(resources) | set(template["Parameters"])
    assert set(re.findall(r"!Ref (\w+)$", (CHECKOUT / EXAMPLE / "template.yaml").read_text(), re.MULTILINE)) <= names
    config = resources["Distribution"]["Properties"]["DistributionConfig"]
    behavior = config["DefaultCacheBehavior"]
    assert behavior["TargetOriginId"] == config["Origins"][0]["Id"]
    assert behavior["CachePolicyId"] == {"Ref": "CachePolicy"}
    # What says nothing of its own is not kept: each answer of the walk-through shows where it comes from.
    policy = resources["CachePolicy"]["Properties"]["CachePolicyConfig"]
    assert (policy["MinTTL"], policy["DefaultTTL"]) == (0, 0)
    assert config["DefaultRootObject"] == "index.html"
    module, function = resources["Signer"]["Properties"]["Handler"].split(".")
    assert f"def {function}(" in (CHECKOUT / EXAMPLE / "function" / f"{module}.py").read_text()
