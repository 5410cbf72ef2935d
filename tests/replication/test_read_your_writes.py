"""Reads through access points while copies are under way: of pending keys, and strong ones."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nearpoint.accesspoint.health import Outcome
from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.node.behind import KeysBehind
from nearpoint.signing import Credentials, Message, sign_v4a
from nearpoint.state.resources import AccessKey, AccessPoint, Member, Snapshot
from nearpoint.wire.message import Headers, Request, Response, read_all

US, EU = "us-east-1", "eu-west-1"
ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
EXAMPLE = Path(__file__).parents[2] / "examples" / "read-your-writes" / "read_your_writes.py"


class Node:
    """An access point at one place, over both regions."""

    def __init__(self, regions: Any, near: str, far: str, behind: KeysBehind) -> None:
        self.dials = {US: 100, EU: 100}
        self.read_fallback = True
        self.node = AccessPointNode(
            f"at {near}", self.snapshot, {name: regions[name].store for name in (US, EU)}, behind=behind
        )
        for region, rtt_ms in ((near, 1.0), (far, 80.0)):
            self.node.fleet.observe_probe(region, Outcome.OK, rtt_ms, 0.0)

    def snapshot(self) -> Snapshot:
        members = (
            Member(bucket="aaa", region=US, dial_percent=self.dials[US]),
            Member(bucket="bbb", region=EU, dial_percent=self.dials[EU]),
        )
        return Snapshot(
            generation=1,
            account_id="1",
            session_secret="s",
            access_keys={
                "AKIAROOT": AccessKey(
                    access_key_id="AKIAROOT", secret_key=ROOT.secret_key, principal_arn="arn:aws:iam::1:root"
                )
            },
            access_points={
                ALIAS: AccessPoint(
                    alias=ALIAS,
                    name="p",
                    account_id="1",
                    created_at=0.0,
                    members=members,
                    read_fallback=self.read_fallback,
                )
            },
        )

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[Response, bytes]:
        fields = [("Host", HOST), *((name.replace("_", "-"), value) for name, value in headers.items())]
        path, _, query = target.partition("?")
        digest = hashlib.sha256(body).hexdigest()
        extra = sign_v4a(
            Message(method, path, query, fields), ROOT, region_set="*", now=datetime.now(UTC), payload_hash=digest
        )
        length = [("Content-Length", str(len(body)))] if body else []
        response = await self.node.handle(Request(method, target, Headers([*fields, *extra, *length]), body))
        return response, await read_all(response.body, 2**20)

    async def read(self, key: str, **headers: str) -> tuple[bytes | None, str | None]:
        """What a key is, and which region said so."""
        response, body = await self.ask("GET", f"/{key}", **headers)
        assert response.status in (200, 404), body
        assert response.headers.get("x-nearpoint-logged") is None
        return body if response.status == 200 else None, response.headers.get("x-nearpoint-region")


@pytest.fixture
async def nodes(pair: Any, tmp_path: Path) -> tuple[Node, Node]:
    """At each region one, in processes of one machine that hear the logs only when `listening`."""
    names = ("node-1", "node-2")
    behinds = [
        KeysBehind((US, EU), tmp_path / "writes", name, [each for each in names if each != name]) for name in names
    ]
    us, eu = Node(pair, US, EU, behinds[0]), Node(pair, EU, US, behinds[1])
    us.behind, eu.behind = behinds  # type: ignore[attr-defined]
    return us, eu


async def listening(pair: Any, *nodes: Any) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(node.behind.run({name: pair[name].store for name in (US, EU)})) for node in nodes]
    await asyncio.sleep(0.1)
    return tasks


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_write_is_read_at_once_by_another_process_of_the_machine(pair: Any, nodes: tuple[Node, Node]) -> None:
    """Nobody hears a log here: what one process has written, the other knows before the writer is answered."""
    us, eu = nodes
    for round in range(20):
        for writer, reader, where in ((us, eu, US), (eu, us, EU)):
            response, _ = await writer.ask("PUT", "/k", f"{round} {where}".encode())
            assert response.status == 200
            assert response.headers.get("x-nearpoint-logged") is None
            assert await reader.read("k") == (f"{round} {where}".encode(), where)
    await us.ask("DELETE", "/k")
    assert await eu.read("k") == (None, US)
    assert await eu.read("other") == (None, EU)


async def test_a_write_elsewhere_is_known_by_its_log_and_copied_ones_are_read_near(
    pair: Any, nodes: tuple[Node, Node]
) -> None:
    _, eu = nodes
    tasks = await listening(pair, eu)
    await pair[EU].ask("PUT", "bbb", "k", b"old")
    await pair[US].ask("PUT", "aaa", "k", b"new")  # not through any node
    await until(lambda: eu.behind.newer_in("bbb", "k", [(US, "aaa")]) == [US])  # type: ignore[attr-defined]
    assert await eu.read("k") == (b"new", US), "each has what the other has not: the newer one is asked for"
    pair.copy()
    await pair.settled()
    await until(lambda: not eu.behind.any())  # type: ignore[attr-defined]
    assert await eu.read("k") == (b"new", EU)
    await stop(tasks)


async def test_the_last_writer_is_read_where_both_have_written(pair: Any, nodes: tuple[Node, Node]) -> None:
    us, eu = nodes
    await us.ask("PUT", "/k", b"first")
    await eu.ask("PUT", "/k", b"second")
    for reader in (us, eu):
        assert await reader.read("k") == (b"second", EU)
    await us.ask("PUT", "/k", b"third")
    for reader in (us, eu):
        assert await reader.read("k") == (b"third", US)


async def test_while_the_region_that_has_it_is_cut_off_the_other_serves_what_it_has(
    pair: Any, nodes: tuple[Node, Node]
) -> None:
    us, eu = nodes
    await eu.ask("PUT", "/k", b"old")
    pair.copy()
    await pair.settled()
    await pair.stop_copying()
    await us.ask("PUT", "/k", b"new")
    assert (await eu.read("k"))[0] == b"new"
    await pair[US].close()
    assert await eu.read("k") == (b"old", EU)
    response, body = await eu.ask("GET", "/k", x_nearpoint_consistency="strong")
    assert (response.status, body) == (200, b"old")
    assert response.headers.get("x-nearpoint-consistency") == f"strong; missing={US}"
    await pair[EU].close()
    assert (await eu.ask("GET", "/k", x_nearpoint_consistency="strong"))[0].status == 503
    for name in (US, EU):
        pair._regions.pop(name)


async def test_strong_is_the_newest_that_any_region_has(pair: Any, nodes: tuple[Node, Node]) -> None:
    us, eu = nodes
    strong = {"x_nearpoint_consistency": "strong"}
    await pair[EU].ask("PUT", "bbb", "k", b"old")
    await pair[US].ask("PUT", "aaa", "k", b"new")
    assert await eu.read("k") == (b"old", EU), "nobody has told this node"
    response, body = await eu.ask("GET", "/k", **strong)
    assert (body, response.headers.get("x-nearpoint-region")) == (b"new", US)
    assert response.headers.get("x-nearpoint-consistency") == "strong"
    response, _ = await eu.ask("HEAD", "/k", **strong)
    assert (response.status, response.headers.get("x-nearpoint-region")) == (200, US)
    response, body = await eu.ask("GET", "/k", Range="bytes=1-", **strong)
    assert (response.status, body) == (206, b"ew")
    await pair[US].ask("DELETE", "aaa", "k")
    assert await eu.read("k", **strong) == (None, US), "a delete is a version, too"
    assert await us.read("nowhere", **strong) == (None, US)
    await pair[US].ask("PUT", "aaa", "t", b"x", x_amz_tagging="a=1")
    pair.copy()
    await pair.settled()
    await pair.stop_copying()
    tagging = b"<Tagging><TagSet><Tag><Key>a</Key><Value>2</Value></Tag></TagSet></Tagging>"
    assert (await pair[US].ask("PUT", "aaa", "t", tagging, query="tagging")).status == 200
    assert b"<Value>2</Value>" in (await eu.ask("GET", "/t?tagging", **strong))[1]
    assert await eu.read("t", **strong) == (b"x", US), "what hangs on a version counts"


async def test_who_wants_it_as_on_aws_reads_what_is_near(pair: Any, nodes: tuple[Node, Node]) -> None:
    us, eu = nodes
    await pair[EU].ask("PUT", "bbb", "k", b"old")
    await us.ask("PUT", "/k", b"new")
    eu.read_fallback = False
    assert await eu.read("k") == (b"old", EU)
    assert (await eu.read("k", x_nearpoint_consistency="strong"))[0] == b"new"


async def test_a_region_that_is_dialled_down_is_asked_when_it_matters(pair: Any, nodes: tuple[Node, Node]) -> None:
    _, eu = nodes
    await pair[EU].ask("PUT", "bbb", "k", b"old")
    await pair[US].ask("PUT", "aaa", "k", b"new")
    eu.dials[US] = 0
    assert (await eu.read("k", x_nearpoint_consistency="strong"))[0] == b"new"


@pytest.mark.parametrize(
    ("method", "target", "value", "code"),
    [
        ("GET", "/k", "eventual", b"InvalidArgument"),
        ("GET", "/k", "", b"InvalidArgument"),
        ("PUT", "/k", "weak", b"InvalidArgument"),
        ("GET", "/?list-type=2", "strong", b"InvalidRequest"),
        ("GET", "/k?versionId=x", "strong", b"InvalidRequest"),
    ],
)
async def test_what_cannot_be_promised_is_refused(
    nodes: tuple[Node, Node], method: str, target: str, value: str, code: bytes
) -> None:
    response, body = await nodes[0].ask(method, target, x_nearpoint_consistency=value)
    assert (response.status, code in body) == (400, True)


async def test_a_copy_is_a_write_within_a_region_and_across(pair: Any, nodes: tuple[Node, Node]) -> None:
    us, eu = nodes
    await us.ask("PUT", "/source", b"1")
    pair.copy()
    await pair.settled()
    await pair.stop_copying()
    await us.ask("PUT", "/source", b"2")
    for source, body, writer, reader, where in (
        ("source", b"2", us, eu, US),
        ("source", b"2", eu, us, EU),  # the region that it goes to is behind
        ("copy", b"2", us, eu, US),
    ):
        response, answer = await writer.ask("PUT", "/copy", x_amz_copy_source=f"{ALIAS}/{source}")
        assert response.status == 200, answer
        assert response.headers.get("x-nearpoint-logged") is None
        assert await reader.read("copy") == (body, where)


async def test_a_write_may_be_strong_and_bulk_deletes_are_known(pair: Any, nodes: tuple[Node, Node]) -> None:
    us, eu = nodes
    assert (await us.ask("PUT", "/k", b"1", x_nearpoint_consistency="strong"))[0].status == 200
    assert (await us.ask("PUT", "/k2", b"1"))[0].status == 200
    pair.copy()
    await pair.settled()
    await pair.stop_copying()
    body = b"<Delete><Object><Key>k</Key></Object><Object><Key>k2</Key></Object></Delete>"
    import base64

    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    response, answer = await us.ask("POST", "/?delete", body, Content_MD5=digest)
    assert response.status == 200, answer
    assert response.headers.get("x-nearpoint-logged") is None
    assert await eu.read("k") == await eu.read("k2") == (None, US)


def test_two_clients_read_each_others_writes_at_once(live: Any) -> None:
    """The example, in a world with distances: keys that are new, overwritten and deleted, in turn."""
    arn = live.make_access_point("own", {"us-east-1": "own-us", "eu-west-1": "own-eu"})
    shell = ("shell", "us-east-1", "--", sys.executable, str(EXAMPLE), arn, "us-east-1", "eu-west-1")
    for more in (("--rounds", "40"), ("--rounds", "10", "--strong")):
        ran: subprocess.CompletedProcess[str] = subprocess.run(
            [sys.executable, "-m", "nearpoint", *shell[:2], "--data", str(live.data), *shell[2:], *more],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert " 0 stale" in ran.stdout
