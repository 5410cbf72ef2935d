"""Cache tags: read from an answer, kept with it, invalidated by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.config import compile_distribution
from nearpoint.edge.entry import encode_fields
from nearpoint.edge.invalidation import IDS_MAX, ITEMS_MAX, Invalidation, Invalidations, compile_invalidation
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.tags import TAGS_MAX, read_tags, stored_tags


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (["product:tv, Brand:ACME"], {"product:tv", "brand:acme"}),
        (["a", "b,,c"], {"a", "b", "c"}),
        (["with space, ok", "ü"], {"ok"}),
        (["x" * 256 + "," + "y" * 257], {"x" * 256}),
        ([], set()),
        ([",".join(f"t{n}" for n in range(60))], {f"t{n}" for n in range(TAGS_MAX)}),
    ],
)
def test_tags_of_a_field(values: list[str], tags: set[str]) -> None:
    assert read_tags(values) == tags
    fields = encode_fields([("X-Not-Tags", "no"), *(("Cache-Tag", each) for each in values), ("Tags", "no")])
    assert stored_tags(fields, b"cache-tag") == tags


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/a", "/a/b", "/a/*", "/*", "/a?q=1", "#t", "#T2"]), st.floats(1, 100, allow_nan=False)
        ),
        max_size=20,
    ),
    st.sampled_from(["/a", "/a/b", "/a?q=1", "/c"]),
    st.floats(0, 100, allow_nan=False),
    st.sets(st.sampled_from(["t", "t2"])),
)
def test_all_at_once_are_as_each_by_itself(
    asked: list[tuple[str, float]], path: str, requested_at: float, tags: set[str]
) -> None:
    def one(item: str) -> bool:
        if item.startswith("#"):
            return item[1:].lower() in tags
        return path.startswith(item[:-1]) if item.endswith("*") else path == item

    noted = Invalidations()
    noted.add(compile_invalidation(invalidation_id=str(n), at=at, paths=[item]) for n, (item, at) in enumerate(asked))
    expected = any(at >= requested_at and one(item) for item, at in asked)
    assert noted.takes(path, requested_at, lambda: tags) is (expected or requested_at <= 0)


def test_no_end_of_invalidations_is_bounded() -> None:
    noted = Invalidations()
    for n in range(IDS_MAX + 10):
        noted.add([Invalidation(id=str(n), at=float(n), exact=frozenset({f"#t{n}"}), prefixes=())])
    assert len(noted._ids) <= IDS_MAX
    assert len(noted._exact) <= ITEMS_MAX
    assert noted.takes("/", float(n), lambda: [f"t{n}"])
    assert not noted.takes("/", float(n), lambda: ["t1"])
    assert noted.takes("/", 1.0, lambda: ["other"])  # older than what has been forgotten


def tagged(stage: Any, **config: Any) -> Any:
    return stage.distribution(
        {**stage.config(ForwardedValues={"QueryString": True}), "CacheTagConfig": {"HeaderName": "Cache-Tag"}, **config}
    )


async def test_an_invalidation_by_tag_takes_what_has_it_and_no_more(stage: Any, answer: Any) -> None:
    tags = {"/a": "Red, round", "/b": "red", "/c": "blue", "/d": None}
    stage.answer = lambda request: answer(
        b"x", Cache_Control="max-age=1000", **({"Cache_Tag": tags[request.path]} if tags[request.path] else {})
    )
    distribution = tagged(stage)
    await stage.open(distribution)
    targets = ("/a", "/a?v=2", "/b", "/c", "/d")
    for target in targets * 3:
        assert (await stage.get(target)).status == 200
    stage.clock.now += 1
    made = compile_invalidation(invalidation_id="I1", at=stage.clock.now, paths=["#RED"])
    stage.edge.load([distribution], {"E1": [made]})
    stage.clock.now += 1
    words = [(await stage.get(target)).cache for target in targets]
    assert words == ["Miss", "Miss", "Miss", "Hit", "Hit"]
    assert [(await stage.get(target)).cache for target in targets] == ["Hit"] * 5


async def test_without_the_configuration_tags_mean_nothing(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=1000", Cache_Tag="red")
    distribution = stage.distribution()
    await stage.open(distribution)
    await stage.get("/a")
    stage.edge.load([distribution], {"E1": [compile_invalidation(invalidation_id="I1", at=2e9, paths=["#red"])]})
    assert (await stage.get("/a")).cache == "Hit"


async def test_tags_survive_restarts_and_reach_other_workers(stage: Any, answer: Any, tmp_path: Path) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=1000", Cache_Tag=request.path[1:])
    distribution = tagged(stage)
    store = DiskStore(tmp_path, 64 << 20)
    one = await stage.open(distribution, store=store)
    await stage.get("/red")
    await stage.get("/blue")
    store.flush()
    await one.close()
    two = await stage.open(distribution, store=store)
    assert [(await stage.get(target)).cache for target in ("/red", "/blue")] == ["Hit", "Hit"]
    stage.clock.now += 1
    # Another worker hears of it and writes it down.
    one.tiers.invalidate("E1", [compile_invalidation(invalidation_id="I1", at=stage.clock.now, paths=["#Red"])])
    store.flush()
    two.start()
    stage.clock.now += 1
    assert [(await stage.get(target)).cache for target in ("/red", "/blue")] == ["Miss", "Hit"]
    store.flush()
    await two.close()
    three = await stage.open(distribution, store=store)  # knows it from the store
    assert [(await stage.get(target)).cache for target in ("/red", "/blue")] == ["Hit", "Hit"]
    await three.close()
    store.close()


async def test_a_304_brings_new_tags(stage: Any, answer: Any) -> None:
    def origin(request: Any) -> Any:
        again = "if-none-match" in request.headers
        tag = "new" if again else "old"
        return (
            answer(b"", status=304, ETag='"1"', Cache_Tag=tag, Cache_Control="max-age=10")
            if again
            else answer(b"x", ETag='"1"', Cache_Tag=tag, Cache_Control="max-age=10")
        )

    stage.answer = origin
    distribution = tagged(stage)
    await stage.open(distribution)
    await stage.get("/a")
    stage.clock.now += 11
    assert (await stage.get("/a")).cache == "RefreshHit"
    stage.clock.now += 1
    for id, tag, word in (("I1", "#old", "Hit"), ("I2", "#new", "Miss")):
        made = compile_invalidation(invalidation_id=id, at=stage.clock.now, paths=[tag])
        stage.edge.load([distribution], {"E1": [made]})
        stage.clock.now += 1
        assert (await stage.get("/a")).cache == word


def test_a_configuration_without_a_header_name_is_refused(stage_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="HeaderName"):
        compile_distribution(
            distribution_id="E1",
            domain="d.cloudfront.net",
            config={**stage_config, "CacheTagConfig": {"HeaderName": "a b"}},
        )


@pytest.fixture
def stage_config() -> dict[str, Any]:
    return {
        "Origins": [{"Id": "o", "DomainName": "o.example", "S3OriginConfig": {}}],
        "DefaultCacheBehavior": {
            "TargetOriginId": "o",
            "ViewerProtocolPolicy": "allow-all",
            "ForwardedValues": {"QueryString": False},
        },
    }
