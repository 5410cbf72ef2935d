"""The clients that people have: boto3, the AWS CLI and rclone, by ARN, alias and name, signed every way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

BIN = Path(sys.executable).parent
ARN = "arn:aws:s3::123456789012:accesspoint/both.mrap"


def _stay(request: Any, **_: Any) -> None:
    request.headers["x-nearpoint-prefer-region"] = "eu-west-1"


def _round_trip(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    # Two workers measure two stores at no distance, and nothing is copied between these.
    s3.meta.events.register_first("before-sign.s3", _stay)
    s3.put_object(Bucket=bucket, Key=key, Body=b"there and back", Metadata={"a": "b"})
    got = s3.get_object(Bucket=bucket, Key=key)
    assert (got["Body"].read(), got["Metadata"]) == (b"there and back", {"a": "b"})
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    headers: dict[str, Any] = got["ResponseMetadata"]["HTTPHeaders"]
    return headers


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolves names below nearpoint.test, as `curl --resolve` does."""
    resolve = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        inside = isinstance(host, str) and host.endswith("nearpoint.test")
        return resolve("127.0.0.1" if inside else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("signature", ["s3v4", "s3v4a"])
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_alias_as_a_bucket(front: Any, names: None, signature: str, style: str) -> None:
    url = front.url.replace("127.0.0.1", "s3.nearpoint.test") if style == "virtual" else front.url
    config = {"signature_version": signature, "s3": {"addressing_style": style}}
    # SigV4A is valid in a set of regions, which for an alias is the client's own.
    s3 = front.client(endpoint_url=url, config=config, region_name="eu-west-1" if signature == "s3v4a" else "any-1")
    headers = _round_trip(s3, "both.mrap", f"{style} {signature}/é")
    assert headers["x-nearpoint-region"] in ("eu-west-1", "us-east-1")


@pytest.mark.parametrize("signature", ["s3v4", "s3v4a"])
def test_a_domain_of_ones_own(front: Any, names: None, signature: str) -> None:
    url = front.url.replace("127.0.0.1", "nearpoint.test")
    config = {"signature_version": signature, "s3": {"addressing_style": "virtual"}}
    s3 = front.client(endpoint_url=url, config=config, region_name="us-east-1")
    _round_trip(s3, "photos", f"both.mrap/{signature}")


def test_a_domain_that_is_nobodys(front: Any, names: None) -> None:
    s3 = front.client(
        endpoint_url=front.url.replace("127.0.0.1", "nearpoint.test"), config={"s3": {"addressing_style": "virtual"}}
    )
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchAccessPoint"):
        s3.get_object(Bucket="pictures", Key="k")


def test_the_access_points_are_listed_as_buckets(front: Any) -> None:
    names = [each["Name"] for each in front.client().list_buckets()["Buckets"]]
    assert names == [
        "both.mrap", "clones.mrap", "embedded.mrap", "embeddedlocked.mrap", "weeds.mrap", "weedslocked.mrap",
    ]  # fmt: skip
    stranger = front.client(aws_secret_access_key="wrong")
    with pytest.raises(stranger.exceptions.ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()


@pytest.mark.parametrize("base", ["", "/"])
def test_an_arn_with_boto3(front: Any, data_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(data_path))
    s3 = boto3.Session().client(
        "s3",
        endpoint_url=front.url + base,
        region_name="eu-west-1",
        aws_access_key_id="CLIENT",
        aws_secret_access_key="client-secret",
    )
    signed: list[str] = []
    s3.meta.events.register("before-send.s3", lambda request, **_: signed.append(request.headers["Authorization"]))
    _round_trip(s3, ARN, "by arn/a/../b//c")
    assert all(str(each).startswith(("AWS4-ECDSA-P256-SHA256", "b'AWS4-ECDSA-P256-SHA256")) for each in signed)
    s3.put_object(Bucket=ARN, Key="from", Body=b"x")
    s3.copy_object(Bucket=ARN, Key="to", CopySource={"Bucket": ARN, "Key": "from"})
    s3.delete_objects(Bucket=ARN, Delete={"Objects": [{"Key": "from"}, {"Key": "to"}]})


def test_a_presigned_arn(front: Any, data_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    monkeypatch.setenv("AWS_DATA_PATH", str(data_path))
    s3 = boto3.Session().client(
        "s3",
        endpoint_url=front.url,
        region_name="eu-west-1",
        aws_access_key_id="CLIENT",
        aws_secret_access_key="client-secret",
    )
    s3.put_object(Bucket=ARN, Key="shared", Body=b"presigned")
    url = s3.generate_presigned_url("get_object", {"Bucket": ARN, "Key": "shared"})
    assert url.startswith(f"{front.url}/both.mrap/shared?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256")
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned"


def test_other_buckets_and_services_stay_as_they_are(data_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urls(endpoint: str | None) -> dict[str, str]:
        session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="eu-west-1")
        seen: list[str] = []

        def stop(request: Any, **_: Any) -> None:
            seen.append(request.url)
            raise KeyboardInterrupt

        for service, call, arguments in (
            ("s3", "head_bucket", {"Bucket": "plain"}),
            ("s3", "head_bucket", {"Bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/single"}),
            ("s3", "head_bucket", {"Bucket": ARN}),
            ("s3control", "list_multi_region_access_points", {"AccountId": "123456789012"}),
            ("sts", "get_caller_identity", {}),
        ):
            client = session.client(service, endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))
            client.meta.events.register("before-send", stop)
            with pytest.raises(KeyboardInterrupt):
                getattr(client, call)(**arguments)
        return dict(zip(("plain", "single", "multi", "control", "sts"), seen, strict=True))

    before, before_plain = urls(None), urls("http://127.0.0.1:99")
    monkeypatch.setenv("AWS_DATA_PATH", str(data_path))
    assert urls(None) == before
    after = urls("http://127.0.0.1:99")
    assert after.pop("multi") == "http://127.0.0.1:99/both.mrap"
    assert after.pop("control") == "http://127.0.0.1:99/v20180820/mrap/instances"
    assert before_plain.pop("multi").startswith("https://both.mrap.accesspoint.s3-global.amazonaws.com")
    assert before_plain.pop("control").startswith("http://123456789012.127.0.0.1:99")
    assert after == before_plain


def _environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    keys = {"AWS_ACCESS_KEY_ID": "CLIENT", "AWS_SECRET_ACCESS_KEY": "client-secret", "AWS_REGION": "us-east-1"}
    return {**kept, **keys, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **more}


def _run(*command: str, environ: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_signs_too(front: Any) -> None:
    environ = _environ()
    sign = ["curl", "-s", "--fail-with-body", "--aws-sigv4", "aws:amz:eu-west-1:s3", "--user", "CLIENT:client-secret"]
    host, port = front.url.removeprefix("http://").split(":")
    name = f"both.mrap.s3.nearpoint.test:{port}"
    resolve = ["--resolve", f"{name}:{host}"]
    empty = "x-amz-content-sha256: UNSIGNED-PAYLOAD"
    _run(*sign, *resolve, "-H", empty, "-X", "PUT", "--data-binary", "by curl", f"http://{name}/curl", environ=environ)
    assert _run(*sign, *resolve, "-H", empty, f"http://{name}/curl", environ=environ) == "by curl"
