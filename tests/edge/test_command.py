"""The stand-alone command as a process: workers, drain, the log, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nearpoint.edge.logline import FIELDS
from nearpoint.edge.standalone import OriginUrl
from nearpoint.wire.listen import parse_listen


def command(listen: str, origin: str, workers: int = 1, log: str = "") -> list[str]:
    made = [
        sys.executable,
        "-m",
        "nearpoint",
        "edge",
        "--listen",
        listen,
        "--origin",
        origin,
        "--workers",
        str(workers),
    ]
    return [*made, "--access-log", log] if log else made


@contextmanager
def running(origin: str, workers: int = 1, log: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(command("127.0.0.1:0", origin, workers, log), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert found is not None, said
            yield process, found.group()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(10)


@pytest.fixture
def origin_url() -> Iterator[str]:
    """An origin that is not ours: Python's own server."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        count = 0

        def do_GET(self) -> None:
            Handler.count += 1
            body = f"{self.path} {Handler.count}".encode()
            self.send_response(200)
            if self.path.startswith("/kept"):
                self.send_header("Cache-Control", "max-age=100")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode(), response.headers["X-Cache"]


def test_it_serves_logs_and_ends_when_asked(origin_url: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with running(origin_url, log=str(log)) as (process, url):
        answers = [fetch(f"{url}/kept?a=1") for _ in range(3)]
        assert answers == [("/kept?a=1 1", f"{word} from cloudfront") for word in ("Miss", "Hit", "Hit")]
        assert fetch(f"{url}/passed")[0] != fetch(f"{url}/passed")[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    lines = log.read_text().splitlines()
    assert lines[:2] == ["#Version: 1.0", f"#Fields: {FIELDS}"]
    rows = [dict(zip(FIELDS.split(), line.split("\t"), strict=True)) for line in lines[2:]]
    assert [row["x-edge-result-type"] for row in rows].count("Hit") == 2
    kept = [row for row in rows if row["cs-uri-stem"] == "/kept"]
    assert all(row["cs-uri-query"] == "a=1" and row["sc-status"] == "200" for row in kept)
    assert len({row["x-edge-request-id"] for row in rows}) == 5


def test_workers_share_a_port_and_are_replaced(origin_url: str) -> None:
    with running(origin_url, workers=2) as (process, url):
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children := listed.read_text().split()) < 2:
            time.sleep(0.01)
        assert fetch(f"{url}/kept")[0].startswith("/kept")
        os.kill(int(children[0]), signal.SIGKILL)
        assert process.stderr is not None
        while "a new one begins" not in process.stderr.readline():
            pass
        for _ in range(8):
            assert fetch(f"{url}/kept")[0].startswith("/kept")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    for child in children:
        assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(
    ("listen", "origin", "code"),
    [
        ("nowhere", "http://x", 2),
        ("127.0.0.1:99999", "http://x", 2),
        ("127.0.0.1:0", "ftp://x", 2),
        ("127.0.0.1:0", "http://", 2),
        ("127.0.0.1:0", "http://x/?q", 2),
        ("taken", "http://x", 1),
    ],
)
def test_what_it_refuses_it_says_in_one_line(listen: str, origin: str, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if listen == "taken":
            listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(command(listen, origin), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_listen("[::1]:80") == ("::1", 80)
    assert parse_listen(":80") == ("0.0.0.0", 80)
    made = OriginUrl.parse("https://example.com/base/")
    assert (made.tls, made.host, made.port, made.path) == (True, "example.com", 443, "/base")
