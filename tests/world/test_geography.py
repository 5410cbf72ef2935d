"""Distances: a metric on the map, with values near the measured ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.world.geography import (
    DEFAULT_EDGES,
    DEFAULT_REGIONS,
    PLACES,
    POPS,
    REGIONS,
    distance_km,
    find_place,
    nearest,
    rtt_ms,
)

place = st.sampled_from(sorted(PLACES)).map(PLACES.__getitem__)


@given(place, place)
def test_round_trips_are_symmetric_and_never_faster_than_light_in_glass(a: object, b: object) -> None:
    assert rtt_ms(a, b) == pytest.approx(rtt_ms(b, a))
    assert rtt_ms(a, b) > 0
    assert rtt_ms(a, b) >= 2 * distance_km(a, b) / 200 * 0.999


@pytest.mark.parametrize(
    ("a", "b", "published_ms"),
    [
        ("us-east-1", "eu-west-1", 68),
        ("us-east-1", "ap-northeast-1", 146),
        ("us-east-1", "us-west-2", 58),
        ("eu-west-1", "eu-central-1", 22),
        ("ap-southeast-1", "ap-northeast-1", 69),
        ("us-east-1", "sa-east-1", 114),
    ],
)
def test_round_trips_are_near_the_published_ones(a: str, b: str, published_ms: float) -> None:
    assert rtt_ms(REGIONS[a], REGIONS[b]) == pytest.approx(published_ms, rel=0.35)


@pytest.mark.parametrize(
    ("text", "name"),
    [("FRA", "FRA"), ("fra", "FRA"), ("EU-WEST-1", "eu-west-1"), ("frankfurt", "eu-central-1"), ("Atlanta", "ATL")],
)
def test_a_place_is_found_by_region_code_or_city(text: str, name: str) -> None:
    found = find_place(text)
    assert found is not None
    assert found.name == name


def test_unknown_places_are_none() -> None:
    assert find_place("Atlantis") is None


def test_the_nearest_is_nearest() -> None:
    assert nearest(POPS["FRA"], DEFAULT_REGIONS) == "eu-west-1"
    assert nearest(POPS["GRU"], DEFAULT_REGIONS) == "us-east-1"
    assert nearest(POPS["SYD"], DEFAULT_REGIONS) == "ap-northeast-1"
    assert set(DEFAULT_EDGES) <= set(POPS)
