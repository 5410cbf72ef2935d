"""Laws of choosing a region, of ordering by latency, and of addresses."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.accesspoint.choose import DECLINED, DIALED_DOWN, FARTHER, Chosen, NoActiveRegion, choose
from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.latency import MARGIN_MS, LatencyWindow, order_by_latency
from nearpoint.accesspoint.routes import Address, Route, address_of

REGIONS = ["ap", "eu", "sa", "us"]
routes_of = st.lists(
    st.builds(
        lambda region, dial: Route(region=region, bucket=f"b-{region}", dial_percent=dial),
        st.sampled_from(REGIONS),
        st.one_of(st.sampled_from([0, 100]), st.integers(0, 100)),
    ),
    min_size=1,
    unique_by=lambda route: route.region,
)
health_of = st.dictionaries(st.sampled_from(REGIONS), st.sampled_from(list(State)))
draws = st.floats(0, 1, exclude_max=True)


@given(routes_of, health_of, st.permutations(REGIONS), draws)
def test_an_inactive_region_is_never_tried_and_every_active_one_is(routes, health, order, draw) -> None:
    choice = choose(routes, health, order, draw)
    active = {route for route in routes if route.dial_percent > 0}
    if not active:
        assert isinstance(choice, NoActiveRegion)
        assert set(choice.rejected) == {route.region for route in routes}
        return
    assert isinstance(choice, Chosen)
    assert set(choice.order) == active
    assert len(choice.order) == len(active)
    assert set(choice.rejected) == {route.region for route in routes} - {choice.order[0].region}


@given(routes_of, health_of, st.permutations(REGIONS), draws)
def test_healthy_regions_come_before_all_others(routes, health, order, draw) -> None:
    choice = choose(routes, health, order, draw)
    if isinstance(choice, Chosen):
        ranks = [list(State).index(health.get(route.region, State.HEALTHY)) for route in choice.order]
        healthy = [rank == 0 for rank in ranks]
        assert healthy == sorted(healthy, reverse=True)


@given(routes_of, st.permutations(REGIONS), draws)
def test_with_full_dials_the_nearest_healthy_region_serves(routes, order, draw) -> None:
    full = [Route(region=route.region, bucket=route.bucket) for route in routes]
    choice = choose(full, {}, order, draw)
    assert isinstance(choice, Chosen)
    assert [route.region for route in choice.order] == [name for name in order if name in {r.region for r in full}]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 99), st.integers(1, 99))
def test_a_dial_takes_its_share(first, second) -> None:
    routes = [
        Route(region="eu", bucket="b", dial_percent=first),
        Route(region="us", bucket="b", dial_percent=second),
        Route(region="ap", bucket="b"),
    ]
    taken = [choose(routes, {}, ["eu", "us", "ap"], at / 1_000).order[0].region for at in range(1_000)]
    assert abs(taken.count("eu") / 1_000 - first / 100) < 0.01
    assert abs(taken.count("us") / 1_000 - (1 - first / 100) * second / 100) < 0.01


def test_every_rejection_says_why() -> None:
    routes = [
        Route(region="eu", bucket="b", dial_percent=10),
        Route(region="us", bucket="b"),
        Route(region="ap", bucket="b"),
        Route(region="sa", bucket="b", dial_percent=0),
        Route(region="af", bucket="b"),
    ]
    choice = choose(routes, {"af": State.EJECTED}, ["eu", "us", "ap", "sa", "af"], 0.5)
    assert isinstance(choice, Chosen)
    assert choice.order[0].region == "us"
    assert choice.rejected == {"eu": DECLINED, "ap": FARTHER, "sa": DIALED_DOWN, "af": "ejected"}


@given(
    st.permutations(REGIONS),
    st.floats(1, 300),
    st.lists(st.lists(st.floats(0, MARGIN_MS), min_size=4, max_size=4), min_size=1, max_size=20),
)
def test_regions_at_the_same_distance_never_take_turns(previous, base_ms, noise) -> None:
    order = tuple(previous)
    for step in noise:
        rtt_ms = {region: base_ms + extra for region, extra in zip(REGIONS, step, strict=True)}
        assert order_by_latency(REGIONS, rtt_ms, order) == order


@given(st.permutations(REGIONS), st.lists(st.floats(1, 400), min_size=4, max_size=4))
def test_a_region_that_is_clearly_nearer_comes_first(previous, values) -> None:
    rtt_ms = dict(zip(REGIONS, values, strict=True))
    order = order_by_latency(REGIONS, rtt_ms, previous)
    assert sorted(order) == REGIONS
    for nearer, farther in itertools.pairwise(order):
        assert rtt_ms[nearer] <= rtt_ms[farther] * 1.03 + MARGIN_MS + 1e-9


def test_unmeasured_regions_come_last() -> None:
    assert order_by_latency(["b", "a", "c"], {"c": 100.0, "a": None}, []) == ("c", "a", "b")


def test_a_single_late_answer_does_not_count() -> None:
    window = LatencyWindow()
    for value in [10.0] * 9 + [900.0]:
        window.add(value)
    assert window.rtt_ms_p50 == 10.0
    for _ in range(25):
        window.add(50.0)
    assert window.rtt_ms_p50 == 50.0


ADDRESSES = [
    ("abc.mrap.accesspoint.s3-global.amazonaws.com", "/k", Address(alias="abc.mrap", path="/k")),
    ("abc.accesspoint.s3-global.amazonaws.com", "/k", Address(alias="abc", path="/k")),
    ("abc.mrap.s3.example.net", "/a//b", Address(alias="abc.mrap", path="/a//b")),
    ("localhost", "/abc.mrap/a/../b", Address(alias="abc.mrap", path="/a/../b")),
    ("localhost", "/abc.mrap", Address(alias="abc.mrap", path="/")),
    ("localhost", "/bucket/abc.mrap", None),
    ("xabc.mrapx.example.net", "/k", None),
    ("d111.cloudfront.net", "/", None),
]


def test_addresses() -> None:
    for host, path, expected in ADDRESSES:
        assert address_of(host, path) == expected
