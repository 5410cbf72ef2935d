"""CloudFront's standard log: 33 tab-separated fields a request (Developer Guide, "Standard log file fields").

The hot path only puts a tuple into a list; lines are made and written in batches. Cookies are not logged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from nearpoint.edge.deliver import viewer_bytes
from nearpoint.edge.ready import Ready
from nearpoint.edge.visit import Answer
from nearpoint.wire.message import Request
from nearpoint.wire.server import Peer

FIELDS = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) "
    "cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken "
    "x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status "
    "fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len "
    "sc-range-start sc-range-end"
)
BATCH_LINES = 256
FLUSH_S = 1.0
_MEMO_MAX = 4_096
_SAFE = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~%"
_LOGGED = (b"host", b"referer", b"user-agent", b"x-forwarded-for")

_Hit = tuple[float, Peer, bytes, bytes, "list[tuple[bytes, bytes]]", Ready, bytes, int]


def clean(value: str) -> str:
    """A value as the log writes it: white space, control and non-ASCII characters percent-encoded, `-` when empty."""
    return quote(value, safe=_SAFE, encoding="latin-1") if value else "-"


def log_fields(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str, str, str, int]:
    """Host, Referer, User-Agent and X-Forwarded-For as the log writes them, and the fields' size in bytes."""
    found: dict[bytes, str] = {}
    size = 2
    for name, value in headers:
        size += len(name) + len(value) + 4
        low = name.lower()
        if low in _LOGGED:
            found[low] = value.decode("latin-1")
    host, referer, agent, forwarded = (clean(found.get(name, "")) for name in _LOGGED)
    return host, referer, agent, forwarded, size


class AccessLog:
    """Writes lines to a file, or to a device. `start` begins the timer that writes what waits."""

    def __init__(self, path: str, pop: str) -> None:
        self._pop = pop
        self._file: IO[bytes] = Path(path).open("ab", buffering=0)  # noqa: SIM115 - open as long as the edge is
        if os.fstat(self._file.fileno()).st_size == 0:
            self._file.write(f"#Version: 1.0\n#Fields: {FIELDS}\n".encode())
        self._hits: list[_Hit] = []
        self._lines: list[str] = []
        self._second = 0
        self._moment = ""
        self._memo: dict[tuple[object, ...], tuple[str, str, str, bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.failed = 0  # batches that could not be written

    def start(self) -> None:
        """Write what waits once a second, from now on."""
        self.flush()
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.start)

    def hit(self, *record: Any) -> None:
        """A request that the hot path has answered."""
        self._hits.append(record)
        if len(self._hits) >= BATCH_LINES:
            self.flush()

    def answer(self, now: float, started_at: float, request: Request, answer: Answer, request_id: str) -> None:
        """A request that the ordinary path has answered; written when the answer begins."""
        fields = log_fields([(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers])
        length = answer.body.length
        headers = {name.lower(): value for name, value in answer.fields}
        first, last = "-", "-"
        if answer.status == 206:
            first, _, last = headers.get("content-range", "").partition(" ")[2].partition("/")[0].partition("-")
        self._lines.append(
            self._line(
                now=now,
                ip=request.client_ip,
                scheme=request.scheme,
                method=request.method,
                target=request.target,
                status=answer.status,
                result=answer.result,
                request_id=request_id,
                fields=fields,
                sent_bytes=viewer_bytes(answer),
                content_type=clean(headers.get("content-type", "")),
                content_length="-" if length is None else str(length),
                taken_s=f"{max(0.0, now - started_at):.3f}",
                part=(first or "-", last or "-"),
            )
        )

    def flush(self) -> None:
        """Write what waits. A full disk costs lines, never answers."""
        hits, self._hits = self._hits, []
        lines, self._lines = self._lines, []
        memo = self._memo
        for now, peer, method, target, headers, ready, request_id, status in hits:
            key = (status, method, target, ready.result, ready.content_type, *headers)
            parts = memo.get(key)
            if parts is None:
                if len(memo) >= _MEMO_MAX:
                    memo.clear()
                parts = memo[key] = self._hit_parts(method, target, headers, ready, status)
            if int(now) != self._second:
                self._tell_time(int(now))
            sent_bytes = len(ready.head_304 if status == 304 else ready.head) + 60
            if parts[3]:
                sent_bytes += len(ready.entry.body)
            lines.append(
                f"{self._moment}\t{self._pop}\t{sent_bytes}\t{peer.ip or '-'}{parts[0]}{request_id.decode()}{parts[1]}"
                f"{peer.scheme}{parts[2]}{len(ready.entry.body) if parts[3] else '-'}\t-\t-\n"
            )
        if lines:
            try:
                self._file.write("".join(lines).encode("latin-1", "replace"))
            except OSError:
                self.failed += 1

    def close(self) -> None:
        """Write what waits and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
        self._file.close()

    def _tell_time(self, second: int) -> None:
        self._second = second
        self._moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d\t%H:%M:%S")

    @staticmethod
    def _hit_parts(
        method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], ready: Ready, status: int
    ) -> tuple[str, str, str, bool]:
        """What lines of the same hit have in common: from c-ip to the id, to the scheme, to the length of the body."""
        host, referer, agent, forwarded, size = log_fields(headers)
        stem, _, query = target.decode("latin-1").partition("?")
        verb, result = method.decode(), ready.result
        received_bytes = size + len(target) + len(method) + 11
        return (
            f"\t{verb}\t{host}\t{stem}\t{status}\t{referer}\t{agent}\t{query or '-'}\t-\t{result}\t",
            f"\t{host}\t",
            f"\t{received_bytes}\t0.000\t{forwarded}\t-\t-\t{result}\tHTTP/1.1\t-\t-\t-\t0.000\t{result}\t"
            f"{ready.content_type}\t",
            status != 304 and method == b"GET",
        )

    def _line(
        self,
        *,
        now: float,
        ip: str,
        scheme: str,
        method: str,
        target: str,
        status: int,
        result: str,
        request_id: str,
        fields: tuple[str, str, str, str, int],
        sent_bytes: int,
        content_type: str,
        content_length: str,
        taken_s: str,
        part: tuple[str, str],
    ) -> str:
        if int(now) != self._second:
            self._tell_time(int(now))
        host, referer, agent, forwarded, size = fields
        stem, _, query = target.partition("?")
        received_bytes = size + len(target) + len(method) + 11
        return (
            f"{self._moment}\t{self._pop}\t{sent_bytes}\t{ip or '-'}\t{method}\t{host}\t{stem}\t{status}\t{referer}\t"
            f"{agent}\t{query or '-'}\t-\t{result}\t{request_id}\t{host}\t{scheme}\t{received_bytes}\t{taken_s}\t"
            f"{forwarded}\t-\t-\t{result}\tHTTP/1.1\t-\t-\t-\t{taken_s}\t{result}\t{content_type}\t{content_length}\t"
            f"{part[0]}\t{part[1]}\n"
        )
