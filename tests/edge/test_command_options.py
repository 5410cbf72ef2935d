"""The stand-alone command with a cache folder, TLS and an admin address, as processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nearpoint.wire.certificates import choose, context_from_files
from nearpoint.wire.tls import Authority

BODY = bytes(range(256)) * 400


@pytest.fixture
def origin() -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=1000")
            self.send_header("X-Tags", self.path[1:])
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def running(origin: Any, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    program = "from nearpoint.cli.main import run; run()"
    command = [sys.executable, "-c", program, "edge", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--origin", f"http://127.0.0.1:{origin.server_port}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"(https?://127\.0\.0\.1:\d+) -> .*admin at (http://127\.0\.0\.1:\d+)", said)
            assert found is not None, said + process.stderr.read()
            wait_ready(found[2])
            yield process, found[1], found[2]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(10)


def wait_ready(admin: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"{admin}/-/ready", timeout=10) as response:
                assert response.read() == b"ready\n"
                return
        except urllib.error.HTTPError as error:
            if error.code != 503 or b"workers are ready" not in error.read():
                raise
            time.sleep(0.02)


def fetch(url: str, context: ssl.SSLContext | None = None) -> str:
    with urllib.request.urlopen(url, timeout=10, context=context) as response:
        assert response.read() == BODY
        result: str = response.headers["X-Cache"].partition(" ")[0]
        return result


def numbers(admin: str) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, sample.labels.get("result", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def invalidate(admin: str, *paths: str) -> None:
    data = json.dumps({"paths": paths}).encode()
    request = urllib.request.Request(f"{admin}/-/invalidate", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["paths"] == len(paths)


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_invalidated_is_gone_in_every_worker(origin: Any, tmp_path: Path, kept: bool) -> None:
    folder = ("--cache-dir", str(tmp_path / "cache"), "--cache-gb", "0.1") if kept else ()
    with running(origin, "--workers", "2", "--cache-tag-header", "X-Tags", *folder) as (_, url, admin):

        def asked(path: str) -> int:
            """How often the origin is asked while each worker comes to its turn, as good as certainly."""
            before = len(origin.asked)
            for _ in range(16):
                fetch(f"{url}{path}")
            return len(origin.asked) - before

        assert asked("/a/1") in (1, 2)
        assert asked("/red") in (1, 2)
        asked("/blue")
        assert asked("/a/1") == asked("/red") == asked("/blue") == 0
        invalidate(admin, "/a/*", "#RED")
        until = time.monotonic() + 10
        gone = {"/a/1": 0, "/red": 0}
        wanted = 1 if kept else 2  # with a folder one worker asks for both
        while min(gone.values()) < wanted and time.monotonic() < until:
            for path in gone:
                gone[path] += asked(path)
        assert min(gone.values()) >= wanted
        assert asked("/a/1") == asked("/red") == asked("/blue") == 0


def test_a_folder_is_shared_survives_a_kill_and_a_restart(origin: Any, tmp_path: Path) -> None:
    options = ("--workers", "2", "--cache-dir", str(tmp_path / "cache"), "--cache-gb", "0.1")
    with running(origin, *options) as (process, url, admin):
        assert fetch(f"{url}/a") == "Miss"
        while not numbers(admin)["nearpoint_disk_cache_records", ""]:
            time.sleep(0.02)
        assert {fetch(f"{url}/a") for _ in range(12)} == {"Hit"}
        counted = numbers(admin)
        assert counted["nearpoint_requests_total", "Hit"] + counted["nearpoint_requests_total", "Miss"] == 13
        assert counted["nearpoint_origin_seconds_count", ""] == len(origin.asked)
        assert counted["nearpoint_worker_ready", ""] == 2
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        wait_ready(admin)
        assert fetch(f"{url}/a") == "Hit"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert (tmp_path / "cache" / "state").read_text().endswith(" sealed")
    asked = len(origin.asked)
    with running(origin, *options) as (_, url, _):
        assert fetch(f"{url}/a") == "Hit"
    assert len(origin.asked) == asked


def certificate(folder: Path, authority: Authority, name: str) -> tuple[Path, Path]:
    pem = authority.mint([name])
    at = pem.index(b"-----BEGIN PRIVATE KEY-----")
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    chain.write_bytes(pem[:at])
    key.write_bytes(pem[at:])
    return chain, key


def test_https_by_name_and_http_sent_there(origin: Any, tmp_path: Path) -> None:
    authority = Authority.load_or_create(tmp_path / "ca")
    options: list[str] = []
    for name in ("localhost", "other.example"):
        chain, key = certificate(tmp_path, authority, name)
        options += ["--tls-cert", str(chain), "--tls-key", str(key)]
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    with socket.create_server(("127.0.0.1", 0)) as free:
        plain = f"127.0.0.1:{free.getsockname()[1]}"
    with running(origin, *options, "--redirect-http", plain) as (_, url, admin):
        here = url.replace("127.0.0.1", "localhost")
        assert [fetch(f"{here}/a", context) for _ in range(3)] == ["Miss", "Hit", "Hit"]
        counted = numbers(admin)
        assert counted["nearpoint_requests_total", "Hit"] == 2
        # Whoever names no port may have come through a mapping of ports, whoever names one has not.
        for host, there in (("shop.example", "shop.example"), (plain, url.removeprefix("https://"))):
            connection = http.client.HTTPConnection(plain, timeout=10)
            connection.request("GET", "/a?b", headers={"Host": host})
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Location")) == (301, f"https://{there}/a?b")
            connection.close()


def test_certificates_are_chosen_by_name(tmp_path: Path) -> None:
    by_name = {"a.example": 1, "*.example": 2}
    assert [choose(by_name, name) for name in ("a.example", "B.Example", "x.b.example", "example", None)] == [
        1, 2, None, None, None,
    ]  # fmt: skip
    authority = Authority.load_or_create(tmp_path / "ca")
    chain, key = certificate(tmp_path, authority, "a.example")
    other = certificate(tmp_path, Authority.load_or_create(tmp_path / "other"), "b.example")[1]
    context_from_files([(chain, key)])
    with pytest.raises(ValueError, match="not a certificate and its key"):
        context_from_files([(chain, other)])
    for pair in ((tmp_path / "none", key), (chain, tmp_path / "none")):
        with pytest.raises(OSError, match=r"No such file .*/none'"):
            context_from_files([pair])


@pytest.mark.parametrize(
    "options",
    [("--tls-cert", "x"), ("--redirect-http", ":0"), ("--cache-gb", "0"), ("--admin", "nowhere")],
)
def test_what_it_refuses(options: tuple[str, str]) -> None:
    program = "from nearpoint.cli.main import run; run()"
    command = [sys.executable, "-c", program, "edge", "--listen", "127.0.0.1:0", "--origin", "http://x", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nearpoint: ")
