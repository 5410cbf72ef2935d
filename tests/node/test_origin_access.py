"""The edge of a location asks a bucket and an access point as the service it is."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nearpoint.awsapi.call import Context
from nearpoint.awsapi.front import Front
from nearpoint.bucket.server import StoreServer
from nearpoint.bucket.store import Store as EmbeddedStore
from nearpoint.edge.viewer import Whereabouts
from nearpoint.node.location import Location, load, references
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import Credentials
from nearpoint.stack.services import distributions, edge_settings
from nearpoint.stack.services.buckets import Buckets
from nearpoint.stack.services.context import Context as Domain
from nearpoint.stack.services.edge_settings import KEY_GROUP, ORIGIN_ACCESS_CONTROL, PUBLIC_KEY
from nearpoint.state.planner import build
from nearpoint.state.resources import AccessPoint, Bucket, Distribution, Member, Snapshot
from nearpoint.state.store import MemoryState
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.message import Headers, Request, read_all
from nearpoint.wire.server import Server

ACCOUNT = "123456789012"
REGION = "eu-west-1"
ALIAS = "mabcdefghijkl.mrap"


def utc_now() -> datetime:
    return datetime.now(UTC)


class World:
    """One region with one object, an AWS front, and a location."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = MemoryState()
        self.client = Client()
        self.servers: list[Server] = []
        self.domain = Domain(
            state=self.state, account_id=ACCOUNT, now=time.time, random_bytes=os.urandom, packages_dir=folder
        )

    def snapshot(self) -> Snapshot:
        return build(self.state, generation=1, account_id=ACCOUNT, session_secret="secret")

    async def serve(self, handler: Any) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(handler)
        await server.start(sock)
        self.servers.append(server)
        return int(sock.getsockname()[1])

    async def start(self) -> None:
        self.embedded = EmbeddedStore(self.folder / "store", REGION)
        keys = Credentials("AKIASTORE", "store-secret")
        port = await self.serve(StoreServer(self.embedded, keys, clock=utc_now).handle)
        spec = StoreSpec(
            region=REGION,
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id=keys.access_key_id,
            secret_key=keys.secret_key,
            signing_region=REGION,
            kind="embedded",
        )
        self.store = Store(spec, self.client, clock=utc_now)
        stores = {REGION: self.store}
        await Buckets(self.domain, stores).create("data-eu", REGION)
        assert (await self.store.send("PUT", "data-eu", "a b.txt", body=b"from the bucket")).status == 200

        async def published(timeout_s: float) -> bool:
            return True

        self.front = Front(Context(domain=self.domain, snapshot=self.snapshot, stores=stores, published=published))
        front = await self.serve(self.front.handle)
        self.location = Location(
            "FRA",
            pop="FRA50-P1",
            snapshot=self.snapshot,
            stores=stores,
            functions=None,  # type: ignore[arg-type]
            client=self.client,
            aws_api=Origin(host="127.0.0.1", port=front),
            where=Whereabouts(country="DE"),
        )

    async def distribution(self, domain: str, protocol: str, **behavior: Any) -> Distribution:
        config = {
            "Name": f"c-{protocol}",
            "OriginAccessControlOriginType": "s3",
            "SigningBehavior": "always",
            "SigningProtocol": protocol,
        }
        control = await edge_settings.create(self.domain, ORIGIN_ACCESS_CONTROL, config=config)
        origin = {"Id": "o", "DomainName": domain, "S3OriginConfig": {}, "OriginAccessControlId": control.id}
        return await distributions.create_distribution(
            self.domain,
            config={
                "Enabled": True,
                "Origins": [origin],
                "DefaultCacheBehavior": {
                    "TargetOriginId": "o",
                    "ViewerProtocolPolicy": "allow-all",
                    "CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",
                    **behavior,
                },
            },
        )

    async def get(self, distribution: Distribution, target: str) -> tuple[int, bytes]:
        def refused(id: str, error: Exception) -> None:
            raise error

        load([self.location], self.snapshot(), refused)
        headers = Headers([("Host", distribution.domain)])
        request = Request("GET", target, headers, scheme="https", client_ip="192.0.2.1")
        response = await self.location.handle(request)
        return response.status, await read_all(response.body, 100_000)

    async def stop(self) -> None:
        await self.location.edge.close()
        await self.front.close()
        for server in self.servers:
            await server.drain(0)
        await self.client.close()
        await self.embedded.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


def allowing(resource: str, distribution: Distribution) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": "s3:GetObject",
                "Resource": resource,
                "Condition": {"StringEquals": {"aws:SourceArn": distribution.arn}},
            }
        ],
    }


async def put_policy(world: World, policy: dict[str, Any]) -> None:
    """As PutBucketPolicy leaves it: in the store, and a copy for the nodes."""
    response = await world.store.send("PUT", "data-eu", query="policy", body=msgspec.json.encode(policy))
    assert response.status in (200, 204)
    bucket = world.state.get(Bucket, "data-eu")
    assert bucket is not None
    await world.state.put(msgspec.structs.replace(bucket, policy=policy))


async def test_a_bucket(world: World) -> None:
    distribution = await world.distribution(f"data-eu.s3.{REGION}.amazonaws.com", "sigv4")
    assert (await world.get(distribution, "/a%20b.txt"))[0] == 403
    await put_policy(world, allowing("arn:aws:s3:::data-eu/*", distribution))
    assert await world.get(distribution, "/a%20b.txt") == (200, b"from the bucket")
    other = await world.distribution(f"data-eu.s3.{REGION}.amazonaws.com", "sigv4a")
    assert (await world.get(other, "/a%20b.txt"))[0] == 403


async def test_an_access_point(world: World) -> None:
    point = AccessPoint(
        alias=ALIAS,
        name="global",
        account_id=ACCOUNT,
        created_at=0.0,
        members=(Member(bucket="data-eu", region=REGION),),
    )
    await world.state.put(point)
    probing = asyncio.ensure_future(world.location.access_point.run())
    try:
        distribution = await world.distribution(f"{ALIAS}.accesspoint.s3-global.amazonaws.com", "sigv4a")
        assert (await world.get(distribution, "/a%20b.txt"))[0] == 403
        policy = allowing(f"{point.arn}/object/*", distribution)
        await world.state.put(msgspec.structs.replace(point, policy=policy))
        assert (await world.get(distribution, "/a%20b.txt"))[0] == 403  # the bucket has not let it in
        await put_policy(world, allowing("arn:aws:s3:::data-eu/*", distribution))
        assert await world.get(distribution, "/a%20b.txt") == (200, b"from the bucket")
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


async def test_what_a_snapshot_says_is_what_the_edge_knows(world: World) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = rsa.generate_private_key(65537, 2048).public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    config = {"Name": "key", "CallerReference": "one", "EncodedKey": pem}
    key = await edge_settings.create(world.domain, PUBLIC_KEY, config=config)
    group = await edge_settings.create(world.domain, KEY_GROUP, config={"Name": "group", "Items": [key.id]})
    known = references(world.snapshot())
    assert list(known.key_groups[group.id]) == [key.id]
    domain = f"data-eu.s3.{REGION}.amazonaws.com"
    distribution = await world.distribution(domain, "sigv4", TrustedKeyGroups=[group.id])
    status, body = await world.get(distribution, "/a%20b.txt")
    assert (status, b"MissingKey" in body) == (403, True)
