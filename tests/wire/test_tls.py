"""The local authority, and TLS conversations under its leaves."""

from __future__ import annotations

import asyncio
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from nearpoint.wire.client import Origin, UpstreamError
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.tls import CERTIFICATE_FILE, KEY_FILE, Authority, client_context, leaf_names


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load_or_create(tmp_path_factory.mktemp("authority"))


async def whoami(request: Request) -> Response:
    size = len(await read_all(request.body, 2**30))
    return Response(200, None, f"{request.scheme} {request.client_ip} {request.host} {size}".encode())


def test_created_once_and_whole(tmp_path: Path) -> None:
    first = Authority.load_or_create(tmp_path / "deep" / "folder")
    again = Authority.load_or_create(tmp_path / "deep" / "folder")
    assert first.certificate_pem == again.certificate_pem
    key_file = tmp_path / "deep" / "folder" / KEY_FILE
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert (key_file.parent / CERTIFICATE_FILE).read_bytes() == first.certificate_pem
    assert b"PRIVATE" not in first.certificate_pem
    assert {path.name for path in key_file.parent.iterdir()} == {KEY_FILE, CERTIFICATE_FILE}


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from nearpoint.wire.tls import Authority;"
        "sys.stdout.write(Authority.load_or_create(pathlib.Path(sys.argv[1])).certificate_pem.decode())"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ca")], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({child.communicate(timeout=60)[0] for child in children}) == 1


def test_a_file_that_holds_no_authority(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("nonsense")
    with pytest.raises(ValueError):
        Authority.load_or_create(tmp_path)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("d1.cloudfront.net", ("*.cloudfront.net", "cloudfront.net")),
        ("D1.CloudFront.Net.", ("*.cloudfront.net", "cloudfront.net")),
        ("b.s3.eu-west-1.amazonaws.com", ("*.s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com")),
        ("cloudfront.net", ("cloudfront.net",)),
        ("www.example.org", ("www.example.org",)),
        ("evilcloudfront.net", ("evilcloudfront.net",)),
        ("a.evilcloudfront.net", ("a.evilcloudfront.net",)),
        (None, ("localhost", "127.0.0.1", "::1")),
        ("", ("localhost", "127.0.0.1", "::1")),
        ("a..b", ("localhost", "127.0.0.1", "::1")),
        ("*.example.org", ("localhost", "127.0.0.1", "::1")),
        ("a/b", ("localhost", "127.0.0.1", "::1")),
        ("a" * 64 + ".org", ("localhost", "127.0.0.1", "::1")),
        ("a." * 130 + "org", ("localhost", "127.0.0.1", "::1")),
    ],
)
def test_names_of_a_leaf(name: str | None, names: tuple[str, ...]) -> None:
    assert leaf_names(name) == names


def test_a_leaf(authority: Authority) -> None:
    certificates = x509.load_pem_x509_certificates(authority.mint(("*.cloudfront.net", "127.0.0.1")))
    leaf, issuer = certificates
    leaf.verify_directly_issued_by(issuer)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.cloudfront.net"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


async def test_every_name_gets_a_leaf_that_verifies(world: Any, authority: Authority) -> None:
    port = await world.serve(whoami, tls=authority.server_context())
    client = world.client(tls=client_context(authority.certificate_pem))
    for name in (
        "d111.cloudfront.net",
        "m.mrap.accesspoint.s3-global.amazonaws.com",
        "123456789012.s3-control.us-west-2.amazonaws.com",
        "www.example.org",
        "localhost",
    ):
        for _ in range(2):
            request = Request("PUT", "/", Headers([("Host", name)]), b"abc")
            response = await client.send(request, Origin(host="127.0.0.1", port=port, tls=True, server_name=name))
            assert await read_all(response.body, 100) == f"https 127.0.0.1 {name} 3".encode()
    response = await client.send(Request("GET", "/"), Origin(host="127.0.0.1", port=port, tls=True))
    assert response.status == 200


async def test_a_stranger_does_not_trust_it(world: Any, authority: Authority) -> None:
    port = await world.serve(whoami, tls=authority.server_context())
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(Request("GET", "/"), Origin(host="127.0.0.1", port=port, tls=True))
    assert (caught.value.reason, caught.value.retry_safe) == ("connect", True)


@pytest.mark.parametrize("name", ["a_b.c..d", "a" * 64, "*.example.org"])
async def test_a_leaf_for_another_name_is_refused_by_the_client(world: Any, authority: Authority, name: str) -> None:
    port = await world.serve(whoami, tls=authority.server_context())
    client = world.client(tls=client_context(authority.certificate_pem))
    with pytest.raises(UpstreamError):
        await client.send(Request("GET", "/"), Origin(host="127.0.0.1", port=port, tls=True, server_name=name))


async def test_bodies_of_many_records_both_ways(world: Any, authority: Authority) -> None:
    async def echo(request: Request) -> Response:
        return Response(200, None, StreamBody(aiter(request.body), request.body.length))

    port = await world.serve(echo, tls=authority.server_context())
    client = world.client(tls=client_context(authority.certificate_pem))
    data = bytes(range(256)) * 16_384
    request = Request("POST", "/", Headers([("Host", "h")]), data)
    response = await client.send(request, Origin(host="127.0.0.1", port=port, tls=True, server_name="localhost"))
    assert await read_all(response.body, len(data)) == data


async def test_a_handshake_that_does_not_come(world: Any, authority: Authority) -> None:
    limits = Limits(header_timeout_s=0.2)
    talk = await world.dial(await world.serve(whoami, tls=authority.server_context(), limits=limits))
    assert await talk.closed()


async def test_plain_text_on_a_tls_port(world: Any, authority: Authority) -> None:
    talk = await world.dial(await world.serve(whoami, tls=authority.server_context()))
    await talk.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"200" not in await talk.rest()


async def test_a_refusal_over_tls_arrives(world: Any, authority: Authority) -> None:
    port = await world.serve(whoami, tls=authority.server_context())
    talk = await world.dial(port, ssl=client_context(authority.certificate_pem), server_hostname="localhost")
    await talk.say(b"GET / HTTP/1.1\r\n\r\n")
    assert (await talk.answer()).status == 400
    assert await talk.closed()


@pytest.mark.parametrize("secured", [False, True])
async def test_what_is_answered_at_once_comes_whole_again_and_again(
    world: Any, authority: Authority, tmp_path: Path, secured: bool
) -> None:
    data = bytes(range(256)) * 400
    (tmp_path / "body").write_bytes(data)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
    with (tmp_path / "body").open("rb") as file:
        replies = {b"/file": (head, FileBody(file, 0, len(data))), b"/two": (head, data), b"/one": head + data}
        port = await world.serve(
            whoami,
            tls=authority.server_context() if secured else None,
            instant=lambda method, target, headers, peer: replies[target],
        )
        how = {"ssl": client_context(authority.certificate_pem), "server_hostname": "localhost"} if secured else {}
        talk = await world.dial(port, **how)
        for _ in range(3):  # from the second time on the head is not parsed any more
            for target in ("/file", "/two", "/one"):
                await talk.say(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                async with asyncio.timeout(10):
                    assert (await talk.answer()).body == data
        assert len(world.servers[0].known_heads) == 3


async def test_a_client_that_does_not_say_goodbye_holds_up_nothing(
    world: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearpoint.wire.connection.LINGER_S", 0.05)
    port = await world.serve(whoami, tls=authority.server_context(), limits=Limits(idle_timeout_s=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(authority.certificate_pem)
    context.check_hostname = False
    client = context.wrap_bio(received, to_send, server_hostname="localhost")

    async def step(what: Callable[[], Any]) -> Any:
        while True:
            try:
                return what()
            except ssl.SSLWantReadError:
                writer.write(to_send.read())
                received.write(await reader.read(65_536))

    await step(client.do_handshake)
    client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.write(to_send.read())
    assert (await step(lambda: client.read(65_536))).startswith(b"HTTP/1.1 200 OK")
    server = world.servers[0]
    assert server.connection_count == 1
    async with asyncio.timeout(20):
        await server.drain(60)  # the client hears the goodbye and says nothing
    assert server.connection_count == 0
    writer.close()


async def test_drain_over_tls(world: Any, authority: Authority) -> None:
    port = await world.serve(whoami, tls=authority.server_context())
    talk = await world.dial(port, ssl=client_context(authority.certificate_pem), server_hostname="localhost")
    await talk.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await talk.answer()).status == 200
    await world.servers[0].drain(1)
    assert await talk.closed()


def test_cryptography_is_not_imported_for_a_client() -> None:
    code = (
        "import sys; from nearpoint.wire import client, server, tls; tls.client_context();"
        "sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
