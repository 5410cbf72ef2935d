"""Origin shield: two locations, one of which asks the origin for both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nearpoint.edge.bounds import Bounds
from nearpoint.edge.config import compile_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.invalidation import compile_invalidation
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.shield import HOST, read_hop
from nearpoint.edge.standalone import ClientFetch
from nearpoint.edge.viewer import Whereabouts
from nearpoint.wire.client import Client, Origin, UpstreamError
from nearpoint.wire.message import Headers, Request, Response

REGION = "eu-west-1"


class Way:
    """From an edge to its shield."""

    def __init__(self, client: Client, port: int) -> None:
        self._client = client
        self.port = port
        self.asked: list[Request] = []
        self.broken = False

    def stands_before(self, region: str) -> bool:
        return region == REGION

    async def ask(self, region: str, request: Request, timeout_s: float) -> Response:
        self.asked.append(request)
        if self.broken:
            raise UpstreamError("connect", "broken", retry_safe=True)
        return await self._client.send(request, Origin(host="127.0.0.1", port=self.port))


@pytest.fixture
async def two(stage: Any) -> Any:
    """The stage with a shield between the edge and the origin: `shield`, `way`, `use(distribution)`."""
    stage.shield = Edge(fetch=ClientFetch(stage.client), pop="SHD50-P1", clock=stage.clock)
    stage.way = Way(stage.client, await stage.serve(stage.shield.shield))

    async def use(**behavior: Any) -> Any:
        config = stage.config(**behavior)
        config["Origins"][0]["OriginShield"] = {"Enabled": True, "OriginShieldRegion": REGION}
        if "CachePolicyId" in behavior:
            del config["DefaultCacheBehavior"]["ForwardedValues"]
        distribution = stage.distribution(config)
        stage.shield.load([distribution])
        stage.edge = Edge(
            fetch=ClientFetch(stage.client),
            shields=stage.way,
            pop="TST50-P1",
            where=Whereabouts(country="DE"),
            bounds=Bounds(),
            clock=stage.clock,
        )
        stage.edge.load([distribution])
        stage.edge_port = await stage.serve(stage.edge.handle, instant=stage.edge.instant("http"))
        return distribution

    stage.use = use
    yield stage
    await stage.shield.close()


async def other_edge(stage: Any, distribution: Any) -> Edge:
    edge = Edge(fetch=ClientFetch(stage.client), shields=stage.way, pop="OTH50-P1", clock=stage.clock)
    edge.load([distribution])
    stage.edge_port = await stage.serve(edge.handle)
    return edge


async def test_the_origin_is_asked_once_for_all_locations(two: Any, answer: Any) -> None:
    two.answer = lambda request: answer(b"x", Cache_Control="max-age=100", ETag='"1"')
    distribution = await two.use()
    first = await two.get("/a", cookie="c=1", x_other="2")
    assert (first.cache, first["age"]) == ("Miss", None)
    two.clock.now += 10
    other = await other_edge(two, distribution)
    second = await two.get("/a")
    assert (second.cache, second["age"], second["x-amz-cf-pop"]) == ("Hit", "10", "OTH50-P1")
    assert "shield-hit" in second.note
    assert len(second.headers.get_all("cache-status")) == 1
    assert not [name for name, _ in second.headers if name.lower().startswith("x-edge")]
    third = await two.get("/a")
    assert (third.cache, third["age"]) == ("Hit", "10")
    assert len(two.seen) == 1
    seen = two.seen[0].headers
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("host") == f"127.0.0.1:{two.origin_port}"
    assert len((seen.get("via") or "").split(",")) == 2
    assert not [name for name, _ in seen if name.lower().startswith("x-edge")]
    assert seen.get("x-amz-cf-id") == first["x-amz-cf-id"]
    # Two caches in a row keep it no longer than one.
    two.clock.now += 89
    assert (await two.get("/a")).cache == "Hit"
    two.clock.now += 2
    two.answer = lambda request: answer(b"", status=304, Cache_Control="max-age=100", ETag='"1"')
    assert (await two.get("/a")).cache == "RefreshHit"
    assert len(two.seen) == 2
    await other.close()


async def test_a_shield_that_cannot_be_asked_is_passed_by(two: Any, answer: Any) -> None:
    two.answer = lambda request: answer(b"x", Cache_Control="max-age=100")
    await two.use()
    two.way.broken = True
    assert [(await two.get(f"/{n}")).cache for n in range(3)] == ["Miss"] * 3
    assert len(two.way.asked) == 1  # and then left alone for a while
    two.way.broken = False
    two.clock.now += 3
    assert (await two.get("/4")).cache == "Miss"
    assert len(two.way.asked) == 2
    assert len(two.seen) == 4


async def test_a_shield_of_another_configuration_is_passed_by(two: Any) -> None:
    await two.use()
    two.shield.load([])
    reply = await two.get("/a")
    assert (reply.status, reply.cache, len(two.seen)) == (200, "Miss", 1)


@pytest.mark.parametrize(("status", "cache"), [(404, "Error"), (200, "Hit")])
async def test_what_the_origin_does_is_seen_through(two: Any, answer: Any, status: int, cache: str) -> None:
    two.answer = lambda request: answer(b"page", status=status, Cache_Control="max-age=100")
    distribution = await two.use()
    await two.get("/a")
    other = await other_edge(two, distribution)
    reply = await two.get("/a")
    assert (reply.status, reply.cache, reply.body, len(two.seen)) == (status, cache, b"page", 1)
    await other.close()


async def test_an_origin_that_fails_is_the_edges_to_bear(two: Any, answer: Any) -> None:
    two.answer = lambda request: answer(b"x", Cache_Control="max-age=10")
    await two.use()
    await two.get("/a")
    two.clock.now += 11
    for server in two.servers[:1]:  # the origin
        await server.drain(0)
    stale = await two.get("/a")
    assert (stale.status, stale.body) == (200, b"x")
    assert "shield-hit" in stale.note  # which has it from before, too
    reply = await two.get("/b")
    assert (reply.status, reply.cache) == (502, "Error")
    assert "origin-connect" in reply.note
    assert b"Request ID" in reply.body


async def test_an_invalidation_is_not_undone_by_a_shield_that_has_not_heard_of_it(two: Any, answer: Any) -> None:
    two.answer = lambda request: answer(f"{len(two.seen)}".encode(), Cache_Control="max-age=1000")
    distribution = await two.use()
    assert (await two.get("/a")).body == b"1"
    two.clock.now += 5
    made = [compile_invalidation(invalidation_id="I1", at=two.clock.now, paths=["/*"])]
    two.edge.load([distribution], {"E1": made})
    two.clock.now += 1
    assert (await two.get("/a")).body == b"1"  # the shield's, for this moment, but not kept
    two.shield.load([distribution], {"E1": made})
    assert (await two.get("/a")).body == b"2"
    assert (await two.get("/a")).body == b"2"


async def test_ranges_and_large_objects_come_by_it_in_parts(two: Any, answer: Any) -> None:
    whole = bytes(range(256)) * 12_288  # 3 MiB

    def origin(request: Any) -> Any:
        said = request.headers.get("range")
        fields = {"ETag": '"v"', "Cache_Control": "max-age=1000", "Accept_Ranges": "bytes"}
        if said is None:
            return answer(whole, **fields)
        first, _, last = said.removeprefix("bytes=").partition("-")
        end = min(len(whole) - 1, int(last or len(whole)))
        part = whole[int(first) : end + 1]
        return answer(part, status=206, Content_Range=f"bytes {first}-{end}/{len(whole)}", **fields)

    two.answer = origin
    distribution = await two.use()
    reply = await two.get("/big", range="bytes=1500000-1500099")
    assert (reply.status, reply.body) == (206, whole[1_500_000:1_500_100])
    assert (await two.get("/big")).body == whole
    asked = len(two.seen)
    assert asked <= 3
    other = await other_edge(two, distribution)
    assert (await two.get("/big")).body == whole
    assert len(two.seen) == asked
    await other.close()


async def test_a_crowd_at_two_edges_is_one_request(two: Any, answer: Any) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Response:
        await gate.wait()
        built: Response = answer(b"x" * 300_000, Cache_Control="max-age=100")
        return built

    two.answer = slow
    distribution = await two.use()
    port = two.edge_port
    other = await other_edge(two, distribution)
    asked = []
    for n in range(60):
        two.edge_port = port if n % 2 else two.edge_port
        asked.append(asyncio.create_task(two.get("/a")))
    await two.until(lambda: two.seen)
    gate.set()
    assert {len((await each).body) for each in asked} == {300_000}
    assert len(two.seen) == 1
    await other.close()


async def test_what_may_not_be_kept_goes_straight_to_the_origin(two: Any) -> None:
    await two.use(AllowedMethods=["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"])
    assert (await two.get("/a", method="POST", body=b"1")).status == 200
    assert not two.way.asked
    assert two.seen[0].body == b"1"


def test_a_request_that_is_no_other_edges() -> None:
    assert read_hop(Request("GET", "/", Headers([("Host", HOST)]))) is None


async def test_an_outsider_is_told_to_go(two: Any) -> None:
    await two.use()
    response = await two.client.send(
        Request("GET", "/a", Headers([("Host", "x"), ("X-Edge-Distribution", "E9"), ("X-Edge-Behavior", "default")])),
        Origin(host="127.0.0.1", port=two.way.port),
    )
    assert response.status == 409


def test_a_shield_needs_a_region() -> None:
    with pytest.raises(ConfigError, match="OriginShieldRegion"):
        compile_distribution(
            distribution_id="E1",
            domain="d.cloudfront.net",
            config={
                "Origins": [
                    {"Id": "o", "DomainName": "o.example", "S3OriginConfig": {}, "OriginShield": {"Enabled": True}}
                ],
                "DefaultCacheBehavior": {
                    "TargetOriginId": "o",
                    "ViewerProtocolPolicy": "allow-all",
                    "ForwardedValues": {"QueryString": False},
                },
            },
        )


async def test_a_pattern_that_is_called_default_is_not_the_default(two: Any, answer: Any) -> None:
    two.answer = lambda request: answer(request.target.encode(), Cache_Control="max-age=60")
    config = two.config()
    config["Origins"][0]["OriginShield"] = {"Enabled": True, "OriginShieldRegion": REGION}
    config["Origins"].append({**config["Origins"][0], "Id": "other", "OriginPath": "/other"})
    config["CacheBehaviors"] = [
        {**config["DefaultCacheBehavior"], "PathPattern": "default", "TargetOriginId": "other"},
        {**config["DefaultCacheBehavior"], "PathPattern": "/x/*", "TargetOriginId": "other"},
    ]
    await two.use()
    distribution = two.distribution(config)
    two.shield.load([distribution])
    two.edge.load([distribution])
    assert [(await two.get(target)).body for target in ("/a", "/x/b", "/default")] == [
        b"/a",
        b"/other/x/b",
        b"/other/default",
    ]
    assert len(two.way.asked) == 3
