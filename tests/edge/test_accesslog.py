"""The standard log: its fields, and the file that is put away while workers write to it."""

from __future__ import annotations

import gzip
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from nearpoint.edge.accesslog import AccessLog, Logged
from nearpoint.edge.logfile import LOOK_S, LogFile, Rotation, compress
from nearpoint.edge.logline import FIELDS, HEAD, clean, detailed_result
from nearpoint.edge.visit import Answer
from nearpoint.wire.client import Origin
from nearpoint.wire.message import Headers, Request, StreamBody

from .conftest import DOMAIN


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.text = ""
        self.closed = False

    def write(self, distribution_id: str, now: float, lines: bytes) -> None:
        assert distribution_id == "E1"
        self.text += lines.decode()

    def close(self) -> None:
        self.closed = True

    @property
    def rows(self) -> list[dict[str, str]]:
        names = FIELDS.split()
        assert len(names) == 33
        return [dict(zip(names, line.split("\t"), strict=True)) for line in self.text.splitlines()]


async def logged(stage: Any, config: Any = None, **how: Any) -> tuple[AccessLog, Kept]:
    kept = Kept()
    log = AccessLog(kept, "TST50-P1", {"E1": Logged(domain=DOMAIN, **how)}, clock=stage.clock)
    await stage.open(config or stage.distribution(DefaultTTL=60), access_log=log)
    return log, kept


async def test_every_request_has_a_line_of_33_fields(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x" * 10, Content_Type="text/plain; charset=utf-8")
    log, kept = await logged(stage, cookies=True)
    for _ in range(3):  # a miss, a hit by the ordinary path, a hit by the hook
        await stage.get("/a?q=1%20&x='", cookie="a=b c", referer="http://r/", user_agent="my agent\t")
    log.flush()
    await stage.get("/a", method="DELETE")
    await stage.get("/a?", host="elsewhere.example")  # comes to no distribution
    log.flush()
    rows = kept.rows
    assert [row["x-edge-result-type"] for row in rows] == ["Miss", "Hit", "Hit", "Error"]
    for row in rows[:3]:
        assert row | {"x-edge-request-id": "", "c-port": "", "x-edge-result-type": ""} == row | {
            "x-edge-location": "TST50-P1",
            "c-ip": "127.0.0.1",
            "cs-method": "GET",
            "cs(Host)": DOMAIN,
            "cs-uri-stem": "/a",
            "cs-uri-query": "q=1%20&x='",
            "cs(Cookie)": "a=b%20c",
            "cs(Referer)": "http://r/",
            "cs(User-Agent)": "my%20agent",
            "sc-status": "200",
            "x-host-header": DOMAIN,
            "cs-protocol": "http",
            "cs-protocol-version": "HTTP/1.1",
            "ssl-protocol": "-",
            "ssl-cipher": "-",
            "sc-content-type": "text/plain;%20charset=utf-8",
            "sc-content-len": "10",
            "x-edge-request-id": "",
            "c-port": "",
            "x-edge-result-type": "",
        }
        assert int(row["c-port"]) > 0
        assert int(row["sc-bytes"]) > 10
        assert int(row["cs-bytes"]) > 20
    assert rows[3]["x-edge-detailed-result-type"] == "InvalidRequestMethod"
    assert [row["x-edge-detailed-result-type"] for row in rows[:3]] == ["Miss", "Hit", "Hit"]
    log.close()
    assert kept.closed


async def test_cookies_are_logged_only_where_it_is_asked_for(stage: Any) -> None:
    log, kept = await logged(stage)
    for _ in range(3):
        await stage.get("/a", cookie="secret=1")
    log.flush()
    assert [row["cs(Cookie)"] for row in kept.rows] == ["-"] * 3
    log.serve({})  # from now on not logged
    await stage.get("/a")
    log.flush()
    assert len(kept.rows) == 3


async def test_ranges_and_a_viewer_that_leaves(stage: Any, answer: Any) -> None:
    gone = []

    def endless(request: Any) -> Any:
        async def chunks() -> Any:
            try:
                while True:
                    yield b"x" * 65_536
            finally:
                gone.append(True)

        if request.path == "/endless":
            return answer(StreamBody(chunks()), Cache_Control="no-store")
        return answer(b"0123456789")

    stage.answer = endless
    log, kept = await logged(stage)
    await stage.get("/a")
    await stage.get("/a", range="bytes=2-4")
    response = await stage.client.send(
        Request("GET", "/endless", Headers([("Host", DOMAIN)])), Origin(host="127.0.0.1", port=stage.edge_port)
    )
    await response.body.close()
    await stage.until(lambda: gone)
    await stage.until(lambda: log.flush() or "endless" in kept.text)
    rows = kept.rows
    assert (rows[1]["sc-status"], rows[1]["sc-range-start"], rows[1]["sc-range-end"]) == ("206", "2", "4")
    assert (rows[2]["x-edge-response-result-type"], rows[2]["x-edge-detailed-result-type"]) == (
        "Error",
        "ClientCommError",
    )


@pytest.mark.parametrize(
    ("result", "note", "detailed"),
    [
        ("Hit", "hit; ttl=5", "Hit"),
        ("Hit", "fwd=uri-miss; fwd-status=200; detail=shield-hit; stored", "OriginShieldHit"),
        ("Error", "fwd=bypass; detail=country", "ClientGeoBlocked"),
        ("Error", "fwd=uri-miss; detail=origin-connect", "OriginConnectError"),
        ("Error", "fwd=uri-miss; fwd-status=404; stored", "OriginError"),
        ("Error", "hit; ttl=5", "Error"),
        ("LambdaGeneratedResponse", "fwd=uri-miss; fwd-status=200", "MissGeneratedResponse"),
        ("LambdaGeneratedResponse", "fwd=bypass; detail=viewer-request", "LambdaGeneratedResponse"),
    ],
)
def test_what_the_result_was_in_particular(result: str, note: str, detailed: str) -> None:
    assert detailed_result(Answer(status=200, fields=[], result=result, status_note=note)) == detailed


@pytest.mark.parametrize(
    ("value", "written"), [("", "-"), ("a b\t\n", "a%20b%09%0A"), ("\xe9", "%E9"), ("100%\"'", "100%\"'")]
)
def test_a_value_never_breaks_its_line(value: str, written: str) -> None:
    assert clean(value) == written


# --- the file


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


LINE = b"2027-01-15\t08:00:00\tx\n"


def put_away(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if re.match(r"access\.log\.\d", each.name))


def test_a_large_log_is_put_away_and_compressed(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "access.log"
    log = LogFile(path, Rotation(bytes_max=1_000, kept_max=2), clock=clock)
    for _ in range(5):
        log.write("E1", clock.now, LINE * 50)
        clock.now += LOOK_S + 0.1
        log.write("E1", clock.now, LINE)  # looks, and begins a new one; by this clock the old one has been let go of
        clock.now += LOOK_S + 0.1
        if log._compressor is not None:
            log._compressor.join()
    log.close()
    names = put_away(path)
    assert len(names) == 2
    assert all(name.endswith(".gz") for name in names)
    assert gzip.decompress((tmp_path / names[0]).read_bytes()).startswith(HEAD + LINE)
    assert path.read_bytes().startswith(HEAD)


def test_an_old_log_is_put_away(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "access.log"
    log = LogFile(path, Rotation(age_s_max=3600), clock=clock)
    log.write("E1", clock.now, LINE)
    clock.now += 3599
    log.write("E1", clock.now, LINE)
    assert not put_away(path)
    log.close()
    log = LogFile(path, Rotation(age_s_max=3600), clock=clock)  # a restart does not make it young
    clock.now += 2
    log.write("E1", clock.now, LINE)
    assert [name.removesuffix(".gz") for name in put_away(path)] == ["access.log.20270115-090001"]
    assert path.read_bytes() == HEAD + LINE
    log.close()


def test_whoever_moves_the_log_away_gets_no_more_of_it(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "access.log"
    log = LogFile(path, Rotation(), clock=clock)
    log.write("E1", clock.now, LINE)
    path.rename(tmp_path / "mine")
    clock.now += LOOK_S + 0.1
    log.write("E1", clock.now, LINE)
    assert (tmp_path / "mine").read_bytes() == path.read_bytes() == HEAD + LINE
    log.close()
    pipe = LogFile(Path(os.devnull), Rotation(bytes_max=1), clock=clock)
    pipe.write("E1", clock.now, LINE)
    pipe.close()


def test_no_line_is_lost_or_torn_while_many_write_and_rotate(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    rounds, writers = 400, 4
    ticks = iter(range(1_000_000))

    def write(name: int) -> None:
        # A clock that runs: every write looks, and any of them may put the log away.
        log = LogFile(path, Rotation(bytes_max=2_000, kept_max=0), clock=lambda: 1_800_000_000.0 + next(ticks))
        log._compress = lambda now: None  # type: ignore[method-assign] - by this clock nobody has let go
        for number in range(rounds):
            log.write("E1", 0, f"2027-01-15\t08:00:00\t{name}\t{number}\n".encode())
        log.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in range(writers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    files = [tmp_path / name for name in put_away(path)]
    assert len(files) > 10
    compress(files[0])
    texts = [gzip.decompress(files[0].with_name(files[0].name + ".gz").read_bytes())]
    texts += [each.read_bytes() for each in [*files[1:], path]]
    lines = [line for text in texts for line in text.decode().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(
        f"2027-01-15\t08:00:00\t{name}\t{number}" for name in range(writers) for number in range(rounds)
    )


def test_a_log_that_cannot_be_put_away_is_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, path = Clock(), tmp_path / "access.log"
    log = LogFile(path, Rotation(bytes_max=100), clock=clock)

    def refused(*_: Any) -> None:
        raise PermissionError(13, "not allowed")

    monkeypatch.setattr(Path, "rename", refused)
    for _ in range(5):
        clock.now += LOOK_S + 0.1
        log.write("E1", clock.now, LINE * 10)
    log.close()
    assert path.read_bytes() == HEAD + LINE * 50
