"""A world in memory: state, a context with its own clock and chance, packages, and an engine that can be killed."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import random
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.engine import Engine
from nearpoint.stack.records import Stack
from nearpoint.stack.requests import StackRequest
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Bucket, Distribution, Function, Resource, Role
from nearpoint.state.store import MemoryState

ACCOUNT = "123456789012"


class Clock:
    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0

    def __call__(self) -> float:
        self.time_s += 0.001
        return self.time_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def context(state: MemoryState, clock: Clock, tmp_path: Path) -> Context:
    return Context(
        state=state,
        account_id=ACCOUNT,
        now=clock,
        random_bytes=random.Random(7).randbytes,
        packages_dir=tmp_path / "packages",
    )


@pytest.fixture
async def buckets(context: Context) -> None:
    for name, region in (("data-us", "us-east-1"), ("data-eu", "eu-west-1"), ("code", "us-east-1")):
        await context.state.put(Bucket(name=name, region=region, created_at=0.0))


@pytest.fixture
def zipped() -> Callable[[dict[str, str]], bytes]:
    def build(files: dict[str, str]) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return data.getvalue()

    return build


@pytest.fixture
def package(zipped: Callable[[dict[str, str]], bytes]) -> bytes:
    return zipped({"index.py": "def handler(event, context):\n    return event['Records'][0]['cf']['request']\n"})


@pytest.fixture
def trust() -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
                "Action": "sts:AssumeRole",
            }
        ],
    }


IAM = ("CAPABILITY_IAM",)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}
ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}}


class Objects:
    """The objects that functions are made from."""

    def __init__(self) -> None:
        self.content: dict[tuple[str, str], bytes] = {}

    async def get(self, bucket: str, key: str, version_id: str | None, limit_bytes: int) -> bytes:
        try:
            return self.content[bucket, key]
        except KeyError:
            raise AwsError("NoSuchKey", status=404) from None


class Buckets:
    """Buckets in the registry alone; some refuse to go, as if they held objects."""

    def __init__(self, state: MemoryState) -> None:
        self.state = state
        self.full: set[str] = set()
        self.settings: list[tuple[str, str, Any]] = []

    async def put_setting(self, name: str, kind: str, value: Any) -> None:
        self.settings.append((name, kind, value))

    async def create(self, name: str, region: str) -> bool:
        await self.state.put(Bucket(name=name, region=region, created_at=0.0))
        return True

    async def delete(self, name: str, region: str) -> None:
        if name in self.full:
            raise AwsError("BucketNotEmpty", status=409)
        bucket = self.state.get(Bucket, name)
        assert bucket is not None
        await self.state.delete(bucket)

    async def put_policy(self, name: str, policy: Any) -> None:
        bucket = self.state.get(Bucket, name)
        if bucket is None:
            raise AwsError("NoSuchBucket", status=404)
        await self.state.put(replace(bucket, policy=policy))

    async def delete_policy(self, name: str) -> None:
        bucket = self.state.get(Bucket, name)
        assert bucket is not None
        await self.state.put(replace(bucket, policy=None))


class World:
    """An engine, and what it stands on. `nodes` says whether the nodes acknowledge."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.objects = Objects()
        self.buckets = Buckets(context.state)  # type: ignore[arg-type]
        self.nodes = asyncio.Event()
        self.nodes.set()
        self.engines: list[Engine] = []
        self.engine = self.new_engine()

    async def published(self, timeout_s: float) -> bool:
        await self.nodes.wait()
        return True

    def new_engine(self) -> Engine:
        engine = Engine(self.context, reader=self.objects, buckets=self.buckets, published=self.published)
        self.engines.append(engine)
        return engine

    async def create(self, template: dict[str, Any] | str, name: str = "app", **changes: Any) -> Stack:
        text = template if isinstance(template, str) else json.dumps(template)
        given: dict[str, Any] = {"name": name, "region": "us-east-1", "template": text, "capabilities": IAM}
        stack = await self.engine.create(StackRequest(**(given | changes)))
        return await self.engine.settled(stack.uuid)

    async def update(self, template: dict[str, Any], name: str = "app", **changes: Any) -> Stack:
        given: dict[str, Any] = {"name": name, "region": "us-east-1", "template": json.dumps(template)}
        stack = await self.engine.update(StackRequest(**(given | {"capabilities": IAM} | changes)))
        return await self.engine.settled(stack.uuid)

    async def delete(self, stack: Stack, **changes: Any) -> Stack:
        await self.engine.delete(stack.region, stack.arn, **changes)
        return await self.engine.settled(stack.uuid)

    def events(self, stack: Stack) -> list[tuple[str, str, str | None]]:
        """Oldest first: logical id, status, reason."""
        return [
            (event.logical_id, event.status, event.status_reason)
            for event in reversed(self.engine.ledger.events(stack.uuid))
        ]

    def statuses(self, stack: Stack) -> list[tuple[str, str]]:
        return [(name, status) for name, status, _ in self.events(stack)]

    def reason(self, stack: Stack, logical_id: str, status: str) -> str:
        reasons = [each[2] for each in self.events(stack) if each[:2] == (logical_id, status)]
        return reasons[-1] or ""

    def left(self) -> list[Resource]:
        state = self.context.state
        kinds: tuple[type[Resource], ...] = (AccessPoint, Distribution, Function, Role)
        return [resource for kind in kinds for resource in state.list(kind)]


@pytest.fixture
async def world(context: Context, buckets: None, package: bytes) -> AsyncIterator[World]:
    world = World(context)
    world.objects.content["code", "function.zip"] = package
    yield world
    for engine in world.engines:
        await engine.close()


def _application() -> dict[str, Any]:
    """The walk-through's template in its smallest form."""
    return {
        "Resources": {
            "Edge": {
                "Type": "AWS::CloudFront::Distribution",
                "Properties": {
                    "DistributionConfig": {
                        "Enabled": True,
                        "Origins": [
                            {
                                "Id": "mrap",
                                "DomainName": {"Fn::Sub": "${Point.Alias}.accesspoint.s3-global.amazonaws.com"},
                                "CustomOriginConfig": {"OriginProtocolPolicy": "https-only"},
                            }
                        ],
                        "DefaultCacheBehavior": {
                            "TargetOriginId": "mrap",
                            "ViewerProtocolPolicy": "allow-all",
                            "ForwardedValues": {"QueryString": False},
                            "LambdaFunctionAssociations": [
                                {"EventType": "origin-request", "LambdaFunctionARN": {"Ref": "SignVersion"}}
                            ],
                        },
                    }
                },
            },
            "SignVersion": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Sign"}}},
            "Sign": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Code": {"S3Bucket": "code", "S3Key": "function.zip"},
                    "Handler": "index.handler",
                    "Runtime": "python3.13",
                    "Timeout": "5",
                    "Role": {"Fn::GetAtt": ["SignRole", "Arn"]},
                },
            },
            "SignRole": copy.deepcopy(ROLE),
            "Point": {
                "Type": "AWS::S3::MultiRegionAccessPoint",
                "Properties": {"Regions": [{"Bucket": "data-us"}, {"Bucket": "data-eu"}]},
            },
        },
        "Outputs": {"Domain": {"Value": {"Fn::GetAtt": "Edge.DomainName"}, "Description": "where"}},
    }


@pytest.fixture
def application() -> dict[str, Any]:
    return _application()


@pytest.fixture
def role() -> Callable[..., dict[str, Any]]:
    """`role(RoleName="x")`: a role resource with these properties."""

    def build(**properties: Any) -> dict[str, Any]:
        resource = copy.deepcopy(ROLE)
        resource["Properties"] |= properties
        return resource

    return build


class Crash(BaseException):
    """The process is killed here."""


class FallibleState(MemoryState):
    """A state whose process dies at the n-th write from when `writes_left` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left = 10**9
        self.dead = asyncio.Event()

    def _count(self) -> None:
        self.writes_left -= 1
        if self.writes_left <= 0:
            self.dead.set()
            raise Crash

    async def put(self, resource: Resource) -> None:
        self._count()
        await super().put(resource)

    async def delete(self, resource: Resource) -> None:
        self._count()
        await super().delete(resource)


Act = Callable[[World], Awaitable[None]]
KillEverywhere = Callable[..., Awaitable[int]]


@pytest.fixture
def kill_everywhere(context: Context, buckets: None, package: bytes) -> KillEverywhere:
    """`await kill_everywhere(before, act, check)`: for each write that `act` makes, a world in which `before` has
    happened and the process is killed at that write of `act`; then a new process resumes and `check` looks. Answers
    how many writes there were."""
    start = context.state
    assert isinstance(start, MemoryState)

    def world_on(state: MemoryState) -> World:
        world = World(
            Context(
                state=state,
                account_id=context.account_id,
                now=context.now,
                random_bytes=context.random_bytes,
                packages_dir=context.packages_dir,
            )
        )
        world.objects.content["code", "function.zip"] = package
        return world

    async def one(before: Act, act: Act, check: Act, writes: int) -> bool:
        state = FallibleState()
        state._resources = copy.deepcopy(start._resources)
        world = world_on(state)
        await before(world)
        state.writes_left = writes

        async def run() -> None:
            try:
                await act(world)
            except Crash:
                return

        task = asyncio.ensure_future(run())
        died = asyncio.ensure_future(state.dead.wait())
        await asyncio.wait((task, died), return_when=asyncio.FIRST_COMPLETED)
        for each in asyncio.all_tasks():
            if each is not asyncio.current_task():
                each.cancel()
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        await asyncio.gather(task, died, *tasks, return_exceptions=True)
        survivor = MemoryState()
        survivor._resources = copy.deepcopy(state._resources)
        again = world_on(survivor)
        for stack in await again.engine.resume():
            await again.engine.settled(stack.uuid)
        await check(again)
        return state.dead.is_set()

    async def all_of_them(before: Act, act: Act, check: Act) -> int:
        writes = 1
        while await one(before, act, check, writes):
            writes += 1
            assert writes < 300
        return writes - 1

    return all_of_them
