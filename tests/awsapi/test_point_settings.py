"""What an access point does beyond AWS: read and changed over the control plane's private calls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nearpoint.awsapi.point_settings import PointSettings
from nearpoint.awsapi.private import PrivateApi
from nearpoint.state.resources import AccessPoint, Member
from nearpoint.wire.message import Headers, Request

TOKEN = "token-of-the-world"
DEFAULT = {"read_fallback": True, "hedge_reads": False, "affinity": True}


@pytest.fixture
async def ask(world: Any) -> Any:
    """Asks for `settings/…`: status and JSON."""
    members = (Member(bucket="b", region="us-east-1"),)
    point = AccessPoint(alias="mabc.mrap", name="my-point", account_id="123456789012", created_at=0.0, members=members)
    await world.state.put(point)
    api = PrivateApi(TOKEN, {"settings": PointSettings(world.context)})

    async def ask(method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = Headers([("Authorization", f"Bearer {token}")])
        response = await api.handle(Request(method, f"/-/{path}", headers, data))
        return response.status, json.loads(response.body.data)

    return ask


@pytest.mark.parametrize("name", ["my-point", "mabc.mrap", "arn:aws:s3::123456789012:accesspoint%2Fmabc.mrap"])
async def test_what_is_named_changes_and_the_rest_stays(world: Any, ask: Any, name: str) -> None:
    assert await ask("GET", f"settings/{name}") == (
        200, {"name": "my-point", "alias": "mabc.mrap", "settings": DEFAULT},
    )  # fmt: skip
    status, answer = await ask("PUT", f"settings/{name}", {"read_fallback": False, "hedge_reads": True})
    assert (status, answer["settings"]) == (200, {"read_fallback": False, "hedge_reads": True, "affinity": True})
    point = world.state.get(AccessPoint, "mabc.mrap")
    assert (point.read_fallback, point.hedge_reads, point.affinity) == (False, True, True)
    assert world.snapshot().access_points["mabc.mrap"] == point


async def test_it_is_answered_when_every_node_runs_by_it(world: Any, ask: Any) -> None:
    world.published.clear()
    asked = asyncio.create_task(ask("PUT", "settings/my-point", {"affinity": False}))
    await asyncio.sleep(0.05)
    assert not asked.done()
    world.published.set()
    assert (await asked)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "settings/nobody", None, 404),
        ("PUT", "settings/my-point", {"read_fallback": "yes"}, 400),
        ("PUT", "settings/my-point", {"dial": 1}, 400),
        ("PUT", "settings/my-point", b"{" * 5000, 400),
        ("DELETE", "settings/my-point", None, 405),
        ("GET", "others/my-point", None, 404),
    ],
)
async def test_what_is_refused(ask: Any, method: str, path: str, body: Any, status: int) -> None:
    got, answer = await ask(method, path, body)
    assert (got, bool(answer["error"])) == (status, True)


async def test_nobody_without_the_token(world: Any, ask: Any) -> None:
    assert (await ask("PUT", "settings/my-point", {"affinity": False}, token="x"))[0] == 401
    assert world.state.get(AccessPoint, "mabc.mrap").affinity
