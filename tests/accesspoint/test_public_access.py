"""Block Public Access: every way to make an object public, by header, by query and by document."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nearpoint.state.resources import Bucket

EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


def _policy(grantee: str) -> bytes:
    return (
        '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>o</ID></Owner>'
        '<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:type="Group">{grantee}</Grantee><Permission>READ</Permission></Grant></AccessControlList>'
        "</AccessControlPolicy>"
    ).encode()


PUBLIC = [
    ("/k", [("x-amz-acl", "public-read")], b"x"),
    ("/k", [("X-Amz-ACL", "Public-Read-Write")], b"x"),
    ("/k", [("x-amz-grant-read", f'uri="{EVERYBODY}"')], b"x"),
    ("/k?x-amz-acl=public-read", [], b"x"),
    ("/k?x-amz-grant-full-control=uri%3D%22http%3A%2F%2Facs.amazonaws.com%2Fgroups%2Fglobal%2FAllUsers%22", [], b"x"),
    ("/k?acl", [("x-amz-acl", "authenticated-read")], b""),
    ("/k?acl", [], _policy(f"<URI>{EVERYBODY}</URI>")),
    ("/k?acl&versionId=v", [], _policy(f"<URI>{EVERYBODY.replace('AllUsers', 'AuthenticatedUsers')}</URI>")),
]


@pytest.mark.parametrize("of", ["access point", "bucket"])
@pytest.mark.parametrize(("target", "fields", "body"), PUBLIC)
async def test_what_would_make_an_object_public(
    world: Any, target: str, fields: list[tuple[str, str]], body: bytes, of: str
) -> None:
    blocked = {"BlockPublicAcls": True}
    if of == "bucket":
        bucket = Bucket(name="near-bucket", region="near", created_at=0.0, public_access_block=blocked)
        world.publish(world.access_point(), buckets=(bucket,))
    else:
        world.publish(msgspec.structs.replace(world.access_point(), public_access_block=blocked))
    status, _, answer = await world.ask("PUT", target, headers=fields, body=body)
    assert (status, b"<Code>AccessDenied</Code>" in answer) == (403, True)
    assert not world.stores["near"].requests


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_policy("<ID>someone</ID>"), 200),
        (b"", 200),
        (b"<not xml", 400),
        (b'<!DOCTYPE d [<!ENTITY a "b">]><AccessControlPolicy>&a;</AccessControlPolicy>', 400),
        (b"<a>" + b" " * 70_000 + b"</a>", 400),
    ],
)
async def test_other_acls_are_the_stores_affair(world: Any, body: bytes, expected: int) -> None:
    world.publish(msgspec.structs.replace(world.access_point(), public_access_block={"BlockPublicAcls": True}))
    assert (await world.ask("PUT", "/k?acl", body=body))[0] == expected
    assert len(world.stores["near"].requests) == (1 if expected == 200 else 0)


async def test_public_acls_pass_where_nothing_blocks_them(world: Any) -> None:
    assert (await world.ask("PUT", "/k?acl", body=_policy(f"<URI>{EVERYBODY}</URI>")))[0] == 200
    assert (await world.ask("PUT", "/k", headers=[("x-amz-acl", "public-read")], body=b"x"))[0] == 200
