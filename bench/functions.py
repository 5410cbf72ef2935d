"""What a function adds to a miss: a warm call by itself, and with event, validation and log around it; a cold start.

    python -m bench.functions [--calls 5000] [--json]

The sandbox and its workers share whatever cores the process has: pin it (`taskset -c 0,1`) for figures that repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from nearpoint.functions.event import EventConfig
from nearpoint.functions.logs import FileLog
from nearpoint.functions.origin import CustomOrigin
from nearpoint.functions.outcome import Continue
from nearpoint.functions.runner import Runner
from nearpoint.functions.sandbox import Sandbox
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function
from nearpoint.wire.message import Headers, Request

HANDLER = """
def handler(event, context):
    request = event["Records"][0]["cf"]["request"]
    request["headers"]["x-added"] = [{"key": "X-Added", "value": "1"}]
    return request
"""
ROLE = Credentials(access_key_id="ASIABENCH", secret_key="secret", session_token="token")
CONFIG = EventConfig(distribution_domain="d1.cloudfront.net", distribution_id="E1", request_id="bench==")
ORIGIN = CustomOrigin(domain_name="m.mrap.accesspoint.s3-global.amazonaws.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `target` says what issue 2 asks of it, and `met` whether it was met."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool = True


def _package(folder: Path) -> Function:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("app.py", HANDLER)
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / f"{sha256}.zip").write_bytes(content)
    return Function(
        name="bench",
        version="1",
        account_id="123456789012",
        region="us-east-1",
        role_arn="arn:aws:iam::123456789012:role/bench",
        runtime=f"python3.{sys.version_info.minor}",
        handler="app.handler",
        code_sha256=sha256,
        code_size_bytes=len(content),
        last_modified=0,
    )


async def _times_us(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    for _ in range(min(count, 200)):
        await call()
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - start) * 1e6)
    return sorted(taken)


async def measure(calls: int = 5000) -> list[Row]:
    """Every figure of this room."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        function = _package(folder)
        log = FileLog(folder / "logs")
        sandbox = Sandbox(cache_dir=folder / "cache", packages_dir=folder, log=log)
        request = Request(
            "GET", "/index.html?x=1", Headers([("Host", "d1.cloudfront.net"), ("Via", "1.1 x"), ("Accept", "*/*")])
        )
        runner = Runner(sandbox.invoke, lambda function: ROLE)

        async def through_the_runner() -> None:
            outcome = await runner.run_origin_request(function, CONFIG, request, ORIGIN)
            assert isinstance(outcome, Continue), outcome

        start = time.perf_counter()
        await through_the_runner()
        cold_ms = (time.perf_counter() - start) * 1e3
        event = {"Records": [{"cf": {"request": {"uri": "/", "headers": {}}}}]}
        bare = await _times_us(
            lambda: sandbox.invoke(function, event, request_id="bench==", credentials=ROLE, deadline_s=5), calls
        )
        whole = await _times_us(through_the_runner, calls)
        start = time.perf_counter()
        await asyncio.gather(*(through_the_runner() for _ in range(100)))
        each_us = (time.perf_counter() - start) / 100 * 1e6
        await sandbox.close()
    p50 = statistics.median(whole)
    return [
        Row(name="cold: unpack, start, import, call", value=cold_ms, unit="ms"),
        Row(name="warm call alone, p50", value=statistics.median(bare), unit="µs"),
        Row(name="warm call alone, p99", value=bare[len(bare) * 99 // 100], unit="µs"),
        Row(name="warm origin-request, p50", value=p50, unit="µs", target="at most 300 µs", met=p50 <= 300),
        Row(name="warm origin-request, p99", value=whole[len(whole) * 99 // 100], unit="µs"),
        Row(name="100 at once, each, forks included", value=each_us, unit="µs"),
    ]


def rows(calls: int = 5000) -> list[Row]:
    """Every figure of this room, on uvloop as the node runs."""
    return uvloop.run(measure(calls))


def main() -> int:
    """Prints the figures; 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.functions")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = rows(options.calls)
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in measured]) + "\n")
    else:
        for row in measured:
            verdict = f"  {'met' if row.met else 'MISSED'}: {row.target}" if row.target else ""
            sys.stdout.write(f"{row.name:36} {row.value:8.2f} {row.unit}{verdict}\n")
    return 0 if all(row.met for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
