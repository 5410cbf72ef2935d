"""Which distribution a Host leads to."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge.config import Distribution
from nearpoint.edge.hosts import Hosts


def named(id: str, *hosts: str) -> Distribution:
    return Distribution(id=id, domain=f"{id}.cloudfront.net", hosts=hosts, behaviors=(), errors={})


HOSTS = Hosts(
    [
        named("all", "*.example.com"),
        named("shop", "*.shop.example.com", "d1.cloudfront.net"),
        named("one", "www.shop.example.com"),
    ]
)


@pytest.mark.parametrize(
    ("host", "id"),
    [
        ("www.example.com", "all"),
        ("a.b.c.example.com", "all"),
        ("shop.example.com", "all"),
        ("a.shop.example.com", "shop"),
        ("a.www.shop.example.com", "shop"),
        ("www.shop.example.com", "one"),
        ("d1.cloudfront.net", "shop"),
        ("example.com", None),
        ("wwwexample.com", None),
        ("*.example.com", "all"),
        (".example.com", "all"),
        ("", None),
        (".", None),
        ("a." * 5_000 + "example.com", None),
    ],
)
def test_the_most_specific_name_wins(host: str, id: str | None) -> None:
    found = HOSTS.find(host)
    assert (found.id if found else None) == id


def test_the_default_answers_for_every_other() -> None:
    default = named("standalone")
    assert Hosts([named("one", "a.example")], default).find("b.example") is default
    assert Hosts([named("one", "a.example")]) != Hosts([named("one", "b.example")])
    assert Hosts() == Hosts()


async def test_a_wildcard_alias_serves_any_name_below(stage: Any) -> None:
    config = {**stage.config(DefaultTTL=60), "Aliases": ["*.Shop.example"]}
    await stage.open(stage.distribution(config))
    words = [
        (await stage.get("/a", host=host)).status for host in ("A.shop.example:80", "a.b.shop.example", "shop.example")
    ]
    assert words == [200, 200, 403]
    assert len(stage.seen) == 1  # the alias is not in the key


async def test_trusted_signers_without_key_pairs_admit_nobody(stage: Any) -> None:
    await stage.open(stage.distribution(TrustedSigners=["self"]))
    for target in ("/a", "/a?Expires=9999999999&Signature=x&Key-Pair-Id=K1"):
        reply = await stage.get(target)
        assert (reply.status, reply.cache, stage.seen) == (403, "Error", [])
