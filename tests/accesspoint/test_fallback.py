"""Read fallback: a key that the nearest region has not got, and what is remembered of misses."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.accesspoint.fallback import KEYS_MAX, Missing


async def test_a_key_that_only_another_region_has_is_served_from_there(world: Any) -> None:
    world.stores["far"].objects["/far-bucket/only-far"] = b"0123456789"
    status, headers, body = await world.ask("GET", "/only-far")
    assert (status, body) == (200, b"0123456789")
    assert (headers.get("x-nearpoint-region"), headers.get("x-nearpoint-fallback")) == ("far", "1")
    status, headers, _ = await world.ask("HEAD", "/only-far")
    assert (status, headers.get("content-length")) == (200, "10")
    status, headers, body = await world.ask("GET", "/only-far", headers=[("Range", "bytes=2-4")])
    assert (status, body, headers.get("content-range")) == (206, b"234", "bytes 2-4/10")
    assert (await world.ask("GET", "/only-far", headers=[("If-Match", '"other"')]))[0] == 412
    assert (await world.ask("GET", "/hello.txt"))[1].get("x-nearpoint-fallback") is None


async def test_misses_are_cheap_until_a_write_through_this_node(world: Any) -> None:
    for _ in range(5):
        status, headers, body = await world.ask("GET", "/nowhere")
        assert (status, headers.get("x-nearpoint-region")) == (404, "near")
        assert b"NoSuchKey" in body
    assert len(world.stores["far"].requests) == 1
    world.publish(world.access_point(near=0))
    assert (await world.ask("PUT", "/nowhere", body=b"now"))[1].get("x-nearpoint-region") == "far"
    world.publish(world.access_point())
    assert (await world.ask("GET", "/nowhere"))[2] == b"now"


async def test_what_was_deleted_here_does_not_come_back_from_elsewhere(world: Any) -> None:
    for name, store in world.stores.items():
        store.objects[f"/{name}-bucket/gone"] = b"x"
    assert (await world.ask("DELETE", "/gone"))[0] in (200, 204)
    del world.stores["near"].objects["/near-bucket/gone"]
    assert (await world.ask("GET", "/gone"))[0] == 404


async def test_a_delete_marker_means_deleted(world: Any) -> None:
    world.stores["far"].objects["/far-bucket/marked"] = b"x"
    world.stores["near"].marked.add("/near-bucket/marked")
    status, headers, _ = await world.ask("GET", "/marked")
    assert (status, headers.get("x-amz-delete-marker")) == (404, "true")
    assert not world.stores["far"].requests


async def test_versions_and_lists_belong_to_one_region(world: Any) -> None:
    world.stores["far"].objects["/far-bucket/only-far"] = b"x"
    assert (await world.ask("GET", "/only-far?versionId=abc"))[0] == 404
    assert not world.stores["far"].requests


@given(st.lists(st.tuples(st.sampled_from("nf"), st.integers(0, 5), st.floats(0, 100)), max_size=50))
def test_a_miss_is_remembered_until_its_time_or_a_write(steps: list[tuple[str, int, float]]) -> None:
    missing, model = Missing(), {}
    for what, number, until_s in steps:
        name = ("alias", str(number))
        if what == "n":
            missing.note(name, until_s)
            model[name] = max(until_s, model.get(name, 0.0))
        else:
            missing.forget(name)
            model.pop(name, None)
    for number in range(6):
        name = ("alias", str(number))
        assert missing.holds(name, 50.0) == (model.get(name, 0.0) > 50.0)


def test_memory_of_misses_is_bounded() -> None:
    missing = Missing()
    for number in range(KEYS_MAX + 10):
        missing.note(("a", str(number)), 10.0)
    assert not missing.holds(("a", "0"), 1.0)
    assert missing.holds(("a", str(KEYS_MAX + 9)), 1.0)
