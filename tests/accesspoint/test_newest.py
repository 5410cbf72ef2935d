"""Which region has the newest version: of stores that keep no stamps, and what the answer says of silent ones."""

from __future__ import annotations

import pytest

from nearpoint.accesspoint.newest import NOTHING, Order, Rank, may_be_newer, rank_of_head
from nearpoint.accesspoint.routes import Route
from nearpoint.wire.message import Headers, Response

MODIFIED = ("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
AT_US = 1_795_420_800_000_000


@pytest.mark.parametrize(
    ("status", "fields", "rank"),
    [
        (200, [MODIFIED, ("ETag", '"abc"'), ("x-amz-version-id", "v")], (AT_US, "r", "abc", "v", 0, "")),
        (200, [MODIFIED, ("ETag", '"abc"')], (AT_US, "r", "abc", "", 0, "")),
        (404, [], NOTHING),
        (404, [("x-amz-delete-marker", "true"), MODIFIED], (AT_US, "r", "", "", 0, "")),
        (404, [("x-amz-delete-marker", "true")], None),
        (200, [("ETag", '"abc"')], None),
        (200, [("Last-Modified", "yesterday")], None),
        (400, [], None),
        (403, [MODIFIED], None),
        (503, [], None),
    ],
)
def test_what_a_store_without_stamps_has(status: int, fields: list[tuple[str, str]], rank: object) -> None:
    assert rank_of_head(Response(status, Headers(fields)), "r") == rank


def test_the_answer_names_who_could_have_something_newer() -> None:
    near, far, further = (Route(region=name, bucket="b") for name in ("near", "far", "further"))
    order = Order(routes=(near, far), missing=())
    assert order.said("near") == "strong"
    assert order.said("far") == "strong; missing=near"
    assert Order(routes=(near, far), missing=("further",)).said("far") == "strong; missing=further,near"
    assert Order(routes=(further,), missing=("near", "far")).said("further") == "strong; missing=near,far"


def test_the_answer_names_who_wrote_in_the_same_second() -> None:
    near, far = (Route(region=name, bucket="b") for name in ("near", "far"))
    order = Order(routes=(near, far), missing=("further",), unsure=("far",))
    assert order.said("near") == "strong; missing=further,far"
    assert order.said("far") == "strong; missing=further,near"


@pytest.mark.parametrize(
    ("rank", "may_be"),
    [
        ((AT_US, "a", "old", "", 0, ""), True),
        ((AT_US, "a", "", "", 0, ""), True),  # a delete
        ((AT_US, "a", "new", "", 0, ""), False),  # the same content
        ((AT_US - 1_000_000, "a", "old", "", 0, ""), False),
        ((AT_US - 1, "a", "old", "", 0, ""), False),
        (NOTHING, False),
    ],
)
def test_of_one_second_nobody_knows_which_came_first(rank: Rank, may_be: bool) -> None:
    assert may_be_newer(rank, (AT_US + 700_000, "b", "new", "", 0, "")) == may_be


async def test_a_read_of_the_same_second_is_not_called_the_newest(world: object) -> None:
    stores = world.stores  # type: ignore[attr-defined]
    strong = [("x-nearpoint-consistency", "strong")]
    for store in stores.values():
        store.modified = MODIFIED[1]
    _, headers, body = await world.ask("GET", "/hello.txt", headers=strong)  # type: ignore[attr-defined]
    assert (headers.get("x-nearpoint-consistency"), body) == ("strong; missing=far", b"hello from near")
    stores["far"].modified = "Mon, 23 Nov 2026 08:00:01 GMT"
    _, headers, body = await world.ask("GET", "/hello.txt", headers=strong)  # type: ignore[attr-defined]
    assert (headers.get("x-nearpoint-consistency"), body) == ("strong", b"hello from far")


async def test_strong_over_stores_without_stamps(world: object) -> None:
    """They are asked for their Last-Modified, and one that does not say it is named."""
    status, headers, _ = await world.ask("GET", "/nowhere", headers=[("x-nearpoint-consistency", "strong")])  # type: ignore[attr-defined]
    assert (status, headers.get("x-nearpoint-consistency")) == (404, "strong")
    assert headers.get("x-nearpoint-region") == "near"
    status, _, _ = await world.ask("GET", "/hello.txt", headers=[("x-nearpoint-consistency", "strong")])  # type: ignore[attr-defined]
    assert status == 503
