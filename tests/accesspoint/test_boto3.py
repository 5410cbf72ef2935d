"""boto3 against an access point over two embedded stores: every call S3 has on objects, signed every way."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.bucket.server import StoreServer
from nearpoint.bucket.store import Store as EmbeddedStore
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import Credentials
from nearpoint.state.resources import AccessKey, AccessPoint, Member, Snapshot
from nearpoint.wire.client import Client
from nearpoint.wire.server import Server
from nearpoint.wire.tls import Authority

ACCOUNT = "123456789012"
ALIAS = "mfzwi23gnjvgw.mrap"
ARN = f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}"
REGIONS = ("eu-west-1", "us-east-1")


@pytest.fixture
async def endpoints(tmp_path: Path, loopback_socket: socket.socket) -> AsyncIterator[dict[str, str]]:
    """An access point over embedded stores: its URL by scheme, and `ca`, the bundle that https is verified with."""
    client = Client()
    stores: dict[str, Store] = {}
    closing: list[Any] = []
    for region in REGIONS:
        embedded = EmbeddedStore(tmp_path / region, region)
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()[1]
        server = Server(StoreServer(embedded, Credentials("K", "S"), clock=lambda: datetime.now(UTC)).handle)
        await server.start(sock)
        spec = StoreSpec(
            region=region,
            endpoint=f"http://127.0.0.1:{address}",
            access_key_id="K",
            secret_key="S",
            signing_region=region,
            kind="embedded",
        )
        stores[region] = Store(spec, client, clock=lambda: datetime.now(UTC))
        made = await stores[region].send("PUT", f"data-{region}", body=_constraint(region))
        assert made.status == 200
        await made.body.close()
        closing.append((server, embedded))
    snapshot = Snapshot(
        generation=1,
        account_id=ACCOUNT,
        session_secret="x",
        access_keys={
            "AK": AccessKey(access_key_id="AK", secret_key="SK", principal_arn=f"arn:aws:iam::{ACCOUNT}:root")
        },
        access_points={
            ALIAS: AccessPoint(
                alias=ALIAS,
                name="mine",
                account_id=ACCOUNT,
                created_at=0.0,
                members=tuple(Member(bucket=f"data-{region}", region=region) for region in REGIONS),
            )
        },
    )
    front = Server(AccessPointNode("here", lambda: snapshot, stores).handle)
    await front.start(loopback_socket)
    authority = Authority.load_or_create(tmp_path / "ca")
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.certificate_pem)
    secure = Server(front.handler, tls=authority.server_context())
    secure_sock = socket.create_server(("127.0.0.1", 0))
    await secure.start(secure_sock)
    yield {
        "http": f"http://localhost:{loopback_socket.getsockname()[1]}",
        "https": f"https://localhost:{secure_sock.getsockname()[1]}",
        "ca": str(bundle),
    }
    await front.drain(1.0)
    await secure.drain(1.0)
    await client.close()
    for server, embedded in closing:
        await server.drain(1.0)
        await embedded.close()


def _constraint(region: str) -> bytes:
    if region == "us-east-1":
        return b""
    inner = f"<LocationConstraint>{region}</LocationConstraint>"
    return f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>".encode()


def _client(endpoints: dict[str, str], scheme: str, signature: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoints[scheme],
        verify=endpoints["ca"],
        region_name="us-west-2" if signature == "s3v4" else "eu-west-1",
        aws_access_key_id="AK",
        aws_secret_access_key="SK",
        config=Config(signature_version=signature, s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


def _story(s3: Any) -> None:
    put = s3.put_object(
        Bucket=ALIAS,
        Key="a/../b//é %2F+.txt",
        Body=b"hello",
        Metadata={"who": "me"},
        ContentType="text/x",
        Tagging="a=1",
    )
    assert put["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"] == "eu-west-1"
    got = s3.get_object(Bucket=ALIAS, Key="a/../b//é %2F+.txt")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"hello", {"who": "me"}, "text/x")
    part = s3.get_object(Bucket=ALIAS, Key="a/../b//é %2F+.txt", Range="bytes=1-2", ResponseContentType="x/y")
    assert (part["Body"].read(), part["ContentType"]) == (b"el", "x/y")
    assert s3.head_object(Bucket=ALIAS, Key="a/../b//é %2F+.txt")["ContentLength"] == 5
    with pytest.raises(ClientError, match="304"):
        s3.get_object(Bucket=ALIAS, Key="a/../b//é %2F+.txt", IfNoneMatch=put["ETag"])
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=ALIAS, Key="a/../b//é %2F+.txt", Body=b"x", IfNoneMatch="*")
    assert s3.get_object_tagging(Bucket=ALIAS, Key="a/../b//é %2F+.txt")["TagSet"] == [{"Key": "a", "Value": "1"}]
    s3.put_object_tagging(Bucket=ALIAS, Key="a/../b//é %2F+.txt", Tagging={"TagSet": [{"Key": "b", "Value": "2"}]})
    s3.delete_object_tagging(Bucket=ALIAS, Key="a/../b//é %2F+.txt")
    sizes = s3.get_object_attributes(Bucket=ALIAS, Key="a/../b//é %2F+.txt", ObjectAttributes=["ObjectSize"])
    assert sizes["ObjectSize"] == 5
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        answer = s3.put_object(Bucket=ALIAS, Key=f"sums/{algorithm}", Body=b"z" * 100_000, ChecksumAlgorithm=algorithm)
        assert answer[f"Checksum{algorithm}"]
    listed = s3.list_objects_v2(Bucket=ALIAS, Prefix="sums/", Delimiter="|", MaxKeys=2)
    assert (listed["KeyCount"], listed["IsTruncated"]) == (2, True)
    assert len(s3.list_objects(Bucket=ALIAS)["Contents"]) == 6
    s3.head_bucket(Bucket=ALIAS)
    assert s3.get_bucket_location(Bucket=ALIAS)["LocationConstraint"] == "eu-west-1"
    s3.copy_object(Bucket=ALIAS, Key="copied", CopySource={"Bucket": ARN, "Key": "sums/CRC32"})
    assert s3.get_object(Bucket=ALIAS, Key="copied")["ContentLength"] == 100_000
    s3.delete_object(Bucket=ALIAS, Key="copied")
    gone = s3.delete_objects(Bucket=ALIAS, Delete={"Objects": [{"Key": "sums/SHA1"}, {"Key": "sums/SHA256"}]})
    assert len(gone["Deleted"]) == 2
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=ALIAS, Key="copied")


def _multipart(s3: Any) -> None:
    parts = [b"a" * (5 << 20), b"b" * 1000]
    made = s3.create_multipart_upload(Bucket=ALIAS, Key="big")
    upload_id = made["UploadId"]
    assert upload_id.startswith("eu-west-1.")
    etags = [
        s3.upload_part(Bucket=ALIAS, Key="big", UploadId=upload_id, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(parts, 1)
    ]
    listed = s3.list_parts(Bucket=ALIAS, Key="big", UploadId=upload_id)
    assert (listed["UploadId"], len(listed["Parts"])) == (upload_id, 2)
    uploads = s3.list_multipart_uploads(Bucket=ALIAS)["Uploads"]
    assert [upload["UploadId"] for upload in uploads] == [upload_id]
    done = s3.complete_multipart_upload(
        Bucket=ALIAS,
        Key="big",
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": at, "ETag": etag} for at, etag in enumerate(etags, 1)]},
    )
    assert done["Location"] == f"{s3.meta.endpoint_url}/{ALIAS}/big"
    assert s3.get_object(Bucket=ALIAS, Key="big")["Body"].read() == b"".join(parts)
    assert s3.get_object(Bucket=ALIAS, Key="big", PartNumber=2)["Body"].read() == parts[1]
    other = s3.create_multipart_upload(Bucket=ALIAS, Key="never")["UploadId"]
    copied = s3.upload_part_copy(
        Bucket=ALIAS, Key="never", UploadId=other, PartNumber=1, CopySource={"Bucket": ARN, "Key": "big"}
    )
    assert copied["CopyPartResult"]["ETag"]
    s3.abort_multipart_upload(Bucket=ALIAS, Key="never", UploadId=other)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.list_parts(Bucket=ALIAS, Key="never", UploadId=other)
    stream = io.BytesIO()
    s3.upload_fileobj(io.BytesIO(b"c" * (9 << 20)), ALIAS, "transferred")
    s3.download_fileobj(ALIAS, "transferred", stream)
    assert stream.getvalue() == b"c" * (9 << 20)


def _presigned(s3: Any) -> None:
    import urllib.request

    s3.put_object(Bucket=ALIAS, Key="p q", Body=b"presigned")
    url = s3.generate_presigned_url("get_object", {"Bucket": ALIAS, "Key": "p q", "ResponseContentType": "a/b"})
    with urllib.request.urlopen(url) as answer:
        assert (answer.read(), answer.headers["content-type"]) == (b"presigned", "a/b")
    url = s3.generate_presigned_url("put_object", {"Bucket": ALIAS, "Key": "by url"})
    with urllib.request.urlopen(urllib.request.Request(url, b"put", method="PUT", headers={"Content-Type": ""})):
        assert s3.get_object(Bucket=ALIAS, Key="by url")["Body"].read() == b"put"


@pytest.mark.parametrize("signature", ["s3v4a", "s3v4"])
@pytest.mark.parametrize(
    ("scheme", "story"),
    [("http", _story), ("https", _story), ("http", _multipart), ("https", _multipart), ("http", _presigned)],
)
async def test_boto3_does_what_it_does_on_s3(
    endpoints: dict[str, str], scheme: str, signature: str, story: Callable[[Any], None]
) -> None:
    await asyncio.to_thread(lambda: story(_client(endpoints, scheme, signature)))
