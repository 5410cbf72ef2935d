"""What the copiers' own endpoint says."""

from __future__ import annotations

import json
from typing import Any

from nearpoint.replication.repair import Repairer
from nearpoint.replication.service import Service
from nearpoint.wire.message import Headers, Request, Response, read_all

US, EU = "us-east-1", "eu-west-1"


class Asking:
    def __init__(self, pair: Any) -> None:
        peers = {name: pair[name].peer for name in pair.copiers}
        self._service = Service(pair.copiers, peers, "token", Repairer(pair.folder / "sweeps", peers))

    async def __call__(self, method: str, path: str, token: str = "token", body: bytes = b"") -> tuple[int, str]:
        request = Request(method, path, Headers([("Authorization", f"Bearer {token}")]), body)
        response = await self._service.handle(request)
        return response.status, (await read_all(response.body, 2**20)).decode()


async def test_status_metrics_and_retry(pair: Any) -> None:
    us = pair[US]
    pair.copy()
    ask = Asking(pair)
    assert (await ask("GET", "/status", "other"))[0] == 401
    assert (await ask("GET", "/other"))[0] == 404
    status = json.loads((await ask("GET", "/status"))[1])
    assert status.pop("reconcile")["every_s"] == 86_400
    pairs = status.pop("pairs")
    assert status == {"parked": [], "unreachable": {}, "lacks": []}
    assert [(pair["bucket"], pair["from"], pair["to"], pair["pending"], pair["copied"]) for pair in pairs] == [
        ("aaa", US, EU, 0, 0),
        ("bbb", EU, US, 0, 0),
    ]
    assert (await ask("POST", "/schedule", body=b'{"every_s": 1}'))[0] == 400
    assert (await ask("POST", "/schedule", body=b"x"))[0] == 400
    assert json.loads((await ask("POST", "/schedule", body=b'{"every_s": 3600}'))[1])["every_s"] == 3600
    await us.ask("PUT", "aaa", "k", b"12345")
    await pair.settled()
    found, _ = json.loads((await ask("GET", "/status"))[1])["pairs"]
    lag = found.pop("lag_ms_p50")
    assert found.pop("lag_ms_p99") >= lag > 0
    assert found == {
        "from": US, "to": EU, "bucket": "aaa", "destination": "bbb", "pending": 0, "pending_bytes": 0,
        "oldest_s": None, "failed": 0, "copied": 1, "obstacle": None, "clock_ahead_s": None,
    }  # fmt: skip
    await pair.stop_copying()
    await us.ask("PUT", "aaa", "k", b"12345")
    await us.ask("DELETE", "aaa", "k")
    found, _ = json.loads((await ask("GET", "/status"))[1])["pairs"]
    assert (found["pending"], found["pending_bytes"]) == (2, 5)
    assert found["oldest_s"] is not None
    text = (await ask("GET", "/metrics"))[1]
    labels = f'{{from="{US}",to="{EU}",bucket="aaa",destination="bbb"}}'
    assert f"nearpoint_replication_operations_pending{labels} 2" in text
    assert f"nearpoint_replication_bytes_pending{labels} 5" in text
    assert 'quantile="0.99"' in text
    assert json.loads((await ask("POST", "/retry"))[1]) == {"retried": 0, "unreachable": {}}


async def test_a_store_that_is_down_is_named(pair: Any) -> None:
    async def fault(request: Request) -> Response | None:
        return Response(503)

    pair.copy()
    pair[EU].fault = fault
    status = json.loads((await Asking(pair)("GET", "/status"))[1])
    assert list(status["unreachable"]) == [EU]
    assert [(pair["bucket"], pair["to"], pair["obstacle"]) for pair in status["pairs"]] == [("aaa", None, None)]
    assert list(json.loads((await Asking(pair)("POST", "/retry"))[1])["unreachable"]) == [EU]


async def test_pairs_are_those_that_rules_connect_and_those_that_owe_something(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    ask = Asking(pair)

    async def shown() -> list[tuple[Any, ...]]:
        pairs = json.loads((await ask("GET", "/status"))[1])["pairs"]
        return [(each["bucket"], each["to"], each["copied"], each["failed"], each["obstacle"]) for each in pairs]

    await us.ask("PUT", "aaa", "k", b"x")
    await pair.settled()
    assert await shown() == [("aaa", EU, 1, 0, None), ("bbb", US, 0, 0, None)]
    for key, id, _ in await eu.history("bbb"):
        assert (await eu.ask("DELETE", "bbb", key, query=f"versionId={id}")).status == 204
    assert (await eu.ask("DELETE", "bbb")).status == 204
    gone = "The destination bucket bbb does not exist."
    assert await shown() == [("aaa", None, 1, 0, gone)]
    await us.ask("PUT", "aaa", "k", b"y")
    await pair.settled()
    assert await shown() == [("aaa", None, 1, 1, gone)]
    for key, id, _ in await us.history("aaa"):
        assert (await us.ask("DELETE", "aaa", key, query=f"versionId={id}")).status == 204
    assert (await us.ask("DELETE", "aaa")).status == 204
    assert await shown() == []


async def test_of_a_region_that_is_away_the_pairs_are_those_it_last_named(pair: Any) -> None:
    async def fault(request: Request) -> Response | None:
        return Response(503)

    pair.copy()
    ask = Asking(pair)
    await ask("GET", "/status")
    pair[EU].fault = fault
    pairs = json.loads((await ask("GET", "/status"))[1])["pairs"]
    assert [(each["bucket"], each["pending"], each["to"]) for each in pairs] == [("aaa", 0, None), ("bbb", None, US)]
