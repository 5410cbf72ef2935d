"""The location proxy, in raw bytes: who stands where, what ends here, what passes through."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from nearpoint.world.links import Path
from nearpoint.world.links_process import Links
from nearpoint.world.outside import closing, own_proxy
from nearpoint.world.proxy import Destination, Local, Outside, ProxyConnection, Unknown


def authorization(user: str, password: str = "x") -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"


@asynccontextmanager
async def running(resolve: Callable[[str, str, bool], Destination]) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ProxyConnection(resolve), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def recorder(answer: bytes) -> AsyncIterator[tuple[tuple[str, int], list[bytes]]]:
    """A server that keeps the first thing it reads and answers with `answer`."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2], seen
    server.close()


async def talk(port: int, data: bytes) -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        answer = await reader.read(-1)
        writer.close()
        return answer


async def test_connect_tunnels_to_where_the_name_leads() -> None:
    async with recorder(b"HTTP/1.1 204 No Content\r\n\r\n") as (address, seen):
        asked: list[tuple[str, str, bool]] = []

        def resolve(location: str, host: str, tls: bool) -> Destination:
            asked.append((location, host, tls))
            return Local(address=address, path=Path(1.0))

        async with running(resolve) as port:
            head = b"CONNECT D1.CloudFront.net:443 HTTP/1.1\r\nHost: d1.cloudfront.net:443\r\n" + authorization("FRA")
            answer = await talk(port, head + b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked == [("FRA", "d1.cloudfront.net", True)]
        assert answer == b"HTTP/1.1 200 Connection Established\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        assert seen == [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]


async def test_a_plain_request_goes_on_in_origin_form_without_proxy_fields() -> None:
    async with recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (address, seen):
        async with running(lambda *_: Local(address=address, path=Path(1.0))) as port:
            await talk(
                port,
                b"GET http://d1.cloudfront.net/a%20b?c=d HTTP/1.1\r\nHost: d1.cloudfront.net\r\n"
                b"Proxy-Connection: keep-alive\r\n" + authorization("eu-west-1") + b"Accept: */*\r\n\r\n",
            )
        assert seen == [
            b"GET /a%20b?c=d HTTP/1.1\r\nHost: d1.cloudfront.net\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT d1.cloudfront.net:443 HTTP/1.1\r\n\r\n", b"407"),
        (b"CONNECT d1.cloudfront.net:443 HTTP/1.1\r\nProxy-Authorization: Basic ???\r\n\r\n", b"407"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"CONNECT d1.cloudfront.net:99999 HTTP/1.1\r\n" + authorization("FRA") + b"\r\n", b"400"),
        (b"X" * 70_000, b"431"),
    ],
)
async def test_bad_requests_are_answered_and_closed(head: bytes, status: bytes) -> None:
    async with running(lambda *_: Unknown(message="never asked")) as port:
        assert (await talk(port, head)).split(b" ")[1] == status


async def test_an_unknown_place_is_told_which_there_are() -> None:
    async with running(lambda *_: Unknown(message="No such place: Atlantis. Try one of: FRA.")) as port:
        answer = await talk(port, b"CONNECT a.cloudfront.net:443 HTTP/1.1\r\n" + authorization("Atlantis") + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"Try one of: FRA." in answer


async def test_other_hosts_pass_through() -> None:
    async with recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as ((host, to), seen):
        async with running(lambda *_: Outside()) as port:
            target = f"{host}:{to}".encode()
            answer = await talk(
                port, b"CONNECT " + target + b" HTTP/1.1\r\n" + authorization("FRA") + b"\r\nGET / HTTP/1.1\r\n\r\n"
            )
        assert answer.endswith(b"\r\n\r\nhi")
        assert seen == [b"GET / HTTP/1.1\r\n\r\n"]


async def test_other_hosts_pass_through_the_users_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with recorder(b"HTTP/1.1 200 OK\r\n\r\nhello from outside") as ((host, own), seen):
        monkeypatch.setenv("https_proxy", f"http://us%40er:pass@{host}:{own}")
        monkeypatch.setenv("http_proxy", f"{host}:{own}")
        monkeypatch.setenv("no_proxy", "direct.example")
        assert own_proxy("direct.example", tls=True) is None
        async with running(lambda *_: Outside()) as port:
            answer = await talk(port, b"CONNECT far.example:443 HTTP/1.1\r\n" + authorization("FRA") + b"\r\n")
            assert answer.endswith(b"hello from outside")
            head = b"GET http://far.example/a?b HTTP/1.1\r\nHost: far.example\r\n" + authorization("FRA") + b"\r\n"
            answer = await talk(port, head)
        assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello from outside"
        credentials = base64.b64encode(b"us@er:pass")
        assert seen == [
            b"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n"
            b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n",
            b"GET http://far.example/a?b HTTP/1.1\r\nHost: far.example\r\nConnection: close\r\n\r\n",
        ]


async def test_an_interim_answer_goes_before_the_real_one() -> None:
    answers = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    async with recorder(answers) as ((host, to), _), running(lambda *_: Outside()) as port:
        head = f"POST http://{host}:{to}/ HTTP/1.1\r\nHost: {host}\r\n".encode() + authorization("FRA") + b"\r\n"
        answer = await talk(port, head)
    assert answer == (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    )


def test_a_head_that_closes() -> None:
    head = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nA: b\r\nconnection: keep-alive\r\n\r\n"
    assert closing(head) == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"


async def test_a_trailing_dot_does_not_lead_outside() -> None:
    """`d1.cloudfront.net.` is the same name (RFC 1034 §3.1)."""
    asked: list[str] = []

    def resolve(location: str, host: str, tls: bool) -> Destination:
        asked.append(host)
        return Unknown(message="enough")

    async with running(resolve) as port:
        await talk(port, b"CONNECT d1.cloudfront.net.:443 HTTP/1.1\r\n" + authorization("FRA") + b"\r\n")
    assert asked == ["d1.cloudfront.net"]


async def test_a_host_that_cannot_be_reached_is_a_502() -> None:
    async with running(lambda *_: Outside()) as port:
        answer = await talk(port, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n" + authorization("FRA") + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 502 ")


def make_links() -> Links:
    locations, regions = ["us-east-1", "eu-west-1", "FRA"], ["us-east-1", "eu-west-1"]
    return Links(
        {
            "locations": locations,
            "regions": regions,
            "nodes": {name: {"https": 1000 + at, "http": 2000 + at} for at, name in enumerate(locations)},
            "control": {"https": 3000, "http": 3001},
            "stores": {"us-east-1": "http://127.0.0.1:4000", "eu-west-1": "http://127.0.0.1:4001"},
            "shields": [],
            "rtt_ms": {a: dict.fromkeys(regions, 10.0) for a in locations},
        }
    )


@pytest.mark.parametrize(
    ("location", "host", "tls", "port"),
    [
        ("FRA", "d1.cloudfront.net", True, 1002),
        ("eu-west-1", "d1.cloudfront.net", False, 2001),
        ("eu-west-1", "abc.mrap.accesspoint.s3-global.amazonaws.com", True, 1001),
        ("eu-west-1", "accesspoint.s3-global.amazonaws.com", True, 1001),
        ("GRU", "d1.cloudfront.net", True, 1000),  # no edge there: the nearest one
        ("FRA", "sts.amazonaws.com", True, 3000),
        ("FRA", "bucket.s3.eu-west-1.amazonaws.com", True, 3000),
        ("FRA", "dynamodb.us-east-1.amazonaws.com", False, 3001),
    ],
)
def test_names_of_aws_end_here(location: str, host: str, tls: bool, port: int) -> None:
    found = make_links().resolve(location, host, tls)
    assert isinstance(found, Local)
    assert found.address == ("127.0.0.1", port)


@pytest.mark.parametrize("host", ["example.com", "amazonaws.com.example.org", "notcloudfront.net.example"])
def test_other_names_are_outside(host: str) -> None:
    assert isinstance(make_links().resolve("FRA", host, True), Outside)


def test_custom_domains_lead_to_the_edge() -> None:
    links = make_links()
    assert isinstance(links.resolve("FRA", "www.shop.example", True), Outside)
    links.set_edge_names(["www.shop.example", "*.assets.shop.example"])
    for host in ("www.shop.example", "a.assets.shop.example", "a.b.assets.shop.example"):
        found = links.resolve("FRA", host, True)
        assert isinstance(found, Local)
        assert found.address == ("127.0.0.1", 1002)
    for host in ("shop.example", "assets.shop.example", "a.www.shop.example"):
        assert isinstance(links.resolve("FRA", host, True), Outside)
    links.set_edge_names([])
    assert isinstance(links.resolve("FRA", "www.shop.example", True), Outside)


def test_a_failing_region_takes_its_s3_endpoint_along() -> None:
    links = make_links()
    links.set_faults({"eu-west-1": "refuse"})
    before = links.resolve("FRA", "s3.eu-west-1.amazonaws.com", True)
    other = links.resolve("FRA", "s3.us-east-1.amazonaws.com", True)
    assert isinstance(before, Local)
    assert isinstance(other, Local)
    assert before.path.fault == "refuse"
    assert other.path.fault is None
    assert links.relays["FRA", "eu-west-1"].path.fault == "refuse"
    links.set_faults({})
    assert before.path.fault is None
