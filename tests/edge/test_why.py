"""Every reason for not keeping an answer shows in Cache-Status, in the log and in a metric."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from nearpoint.edge.invalidation import compile_invalidation
from nearpoint.edge.managed import ALL_VIEWER, CACHING_DISABLED, CACHING_OPTIMIZED
from nearpoint.edge.storable import Why
from nearpoint.edge.unkept import EVERY_S
from nearpoint.telemetry.metrics import Registry, read
from nearpoint.wire.message import StreamBody

BIG = b"x" * 200_000
# The reason, how the origin answers, what the viewer adds, bounds of the edge.
CASES: list[tuple[Why, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (Why.METHOD, {}, {"method": "POST"}, {}),
    (Why.REQUEST_BODY, {}, {"method": "OPTIONS", "body": b"1"}, {}),
    (Why.STATUS, {"status": 418}, {}, {}),
    (
        Why.PARTIAL,
        {"status": 206, "Content_Range": "bytes 0-4/5", "Cache_Control": "max-age=9"},
        {"range": "bytes=0-4"},
        {},
    ),
    (Why.NO_STORE, {"Cache_Control": "no-store"}, {}, {}),
    (Why.NO_CACHE, {"Cache_Control": "no-cache"}, {}, {}),
    (Why.PRIVATE, {"Cache_Control": "private"}, {}, {}),
    (Why.AUTHORIZATION, {"Cache_Control": "max-age=60"}, {"authorization": "Basic x"}, {}),
    (Why.SET_COOKIE, {"Cache_Control": "max-age=60", "Set_Cookie": "a=b"}, {}, {}),
    (Why.VARY, {"Cache_Control": "max-age=60", "Vary": "*"}, {}, {}),
    (Why.NO_VALIDATOR, {"Cache_Control": "max-age=0"}, {}, {}),
    (Why.TOO_LARGE, {"body": BIG, "Cache_Control": "max-age=60"}, {}, {"object_bytes_max": 100_000}),
    (Why.BODY_LIMIT, {"body": BIG, "Cache_Control": "max-age=60"}, {}, {"fill_bytes_max": 100_000}),
    (Why.CACHING_DISABLED, {}, {}, {}),
    (Why.NO_FRESHNESS, {}, {}, {}),
    (Why.INCOMPLETE, {"body": "broken", "Cache_Control": "max-age=60"}, {}, {}),
    (Why.DECEPTION, {"Content_Type": "text/html; charset=utf-8"}, {"target": "/a/x.css", "cookie": "id=1"}, {}),
    (Why.INVALIDATED, {"Cache_Control": "max-age=60"}, {}, {}),
]
LATER = (Why.BODY_LIMIT, Why.INCOMPLETE)  # the answer has begun by then: log and metric alone


def test_there_is_a_case_for_each() -> None:
    assert {case[0] for case in CASES} == set(Why)


async def broken() -> AsyncIterator[bytes]:
    yield b"x" * 70_000
    raise ConnectionError("gone")


@pytest.mark.parametrize(("why", "origin", "viewer", "bounds"), CASES, ids=[case[0].value for case in CASES])
async def test_it_shows_everywhere(
    stage: Any, answer: Any, why: Why, origin: Any, viewer: Any, bounds: Any, tmp_path: Any
) -> None:
    if why is Why.CACHING_DISABLED:
        config = stage.config(CachePolicyId=CACHING_DISABLED)
        del config["DefaultCacheBehavior"]["ForwardedValues"]
        distributions = [stage.distribution(config)]
    elif why is Why.DECEPTION:
        config = stage.config(CachePolicyId=CACHING_OPTIMIZED, OriginRequestPolicyId=ALL_VIEWER)
        del config["DefaultCacheBehavior"]["ForwardedValues"]
        distributions = [stage.distribution(config)]
    elif why in (Why.METHOD, Why.REQUEST_BODY, Why.SET_COOKIE, Why.AUTHORIZATION):
        methods = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
        headers = ["Authorization"] if why is Why.AUTHORIZATION else []
        forwarded = {"QueryString": False, "Cookies": {"Forward": "all"}, "Headers": headers}
        distributions = [
            stage.distribution(
                AllowedMethods=methods, CachedMethods=["GET", "HEAD", "OPTIONS"], ForwardedValues=forwarded
            )
        ]
        distributions = [] if why is Why.AUTHORIZATION else distributions
    else:
        distributions = []  # the stand-alone edge
    edge = await stage.open(*distributions, **bounds)
    edge.metrics.registry = Registry(tmp_path / "a.metrics")
    body = origin.get("body", b"hello")

    async def respond(request: Any) -> Any:
        if why is Why.INVALIDATED:
            stage.clock.now += 1
            made = compile_invalidation(invalidation_id="I", at=stage.clock.now, paths=["/*"])
            edge.tiers.invalidate("standalone", [made])
        data = StreamBody(broken(), 100_000) if body == "broken" else body
        return answer(data, **{name: value for name, value in origin.items() if name != "body"})

    stage.answer = respond
    with structlog.testing.capture_logs() as logs:
        try:
            reply = await stage.get(**{"target": "/a?secret=1", **viewer})
        except Exception:
            assert why is Why.INCOMPLETE
            reply = None
        await stage.until(lambda: [line for line in logs if line["event"] == "not kept"])
    if why not in LATER:
        assert reply is not None
        assert f"detail={why.value}" in reply.note
    (line,) = [line for line in logs if line["event"] == "not kept"]
    path = "/a" if why is not Why.DECEPTION else "/a/x.css"
    assert (line["reason"], line["path"], line["behavior"]) == (why.value, path, "default")
    (counted,) = read(tmp_path)
    assert counted[f'nearpoint_not_stored_total{{reason="{why.value}"}}'] == 1


async def test_the_log_is_not_flooded(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="no-store")
    await stage.open()
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            await stage.get("/a")
        stage.clock.now += EVERY_S
        await stage.get("/a")
    assert [line["others_before"] for line in logs if line["event"] == "not kept"] == [0, 4]
    await asyncio.sleep(0)


@pytest.mark.parametrize(("forward", "words"), [("none", ["Miss", "Hit"]), ("all", ["Miss", "Miss"])])
async def test_set_cookie_that_goes_to_nobody_is_in_nobodys_way(
    stage: Any, answer: Any, forward: str, words: list[str]
) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60", Set_Cookie="id=1")
    await stage.open(stage.distribution(ForwardedValues={"QueryString": False, "Cookies": {"Forward": forward}}))
    replies = [await stage.get("/a") for _ in words]
    assert [reply.cache for reply in replies] == words
    assert [reply["set-cookie"] for reply in replies] == [None if forward == "none" else "id=1"] * 2


@pytest.mark.parametrize(
    ("target", "origin", "cookie", "word"),
    [
        ("/account/x.css", {"Content_Type": "text/html"}, "id=1", "Miss"),
        ("/account/..%2fx.JS", {"Content_Type": "application/json"}, "id=1", "Miss"),
        ("/account;x.png", {"Content_Type": "text/html"}, "id=1", "Miss"),
        ("/x.css", {"Content_Type": "text/css"}, "id=1", "Hit"),
        ("/x.css", {"Content_Type": "text/html"}, "", "Hit"),  # nobody's page
        ("/x.css", {"Content_Type": "text/html", "Cache_Control": "max-age=60"}, "id=1", "Hit"),  # the origin's word
        ("/account", {"Content_Type": "text/html"}, "id=1", "Hit"),  # as CloudFront
    ],
)
async def test_a_page_under_a_files_name(
    stage: Any, answer: Any, target: str, origin: dict[str, str], cookie: str, word: str
) -> None:
    stage.answer = lambda request: answer(b"page", **origin)
    config = stage.config(CachePolicyId=CACHING_OPTIMIZED, OriginRequestPolicyId=ALL_VIEWER)
    del config["DefaultCacheBehavior"]["ForwardedValues"]
    await stage.open(stage.distribution(config))
    fields = {"cookie": cookie} if cookie else {}
    assert (await stage.get(target, **fields)).cache == "Miss"
    assert (await stage.get(target)).cache == word
