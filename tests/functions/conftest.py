"""A sandbox over a temporary folder, and packages made from source text."""

# ruff: noqa: ASYNC110 - other processes set no event

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nearpoint.functions.pool import PoolLimits
from nearpoint.functions.sandbox import Invocation, Sandbox, SandboxLimits
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function

ROLE = Credentials(access_key_id="ASIAONE", secret_key="secret-one", session_token="token-one")


def zip_of(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Bench:
    """What a test of the sandbox works with: `call` runs one call, `lines` is all that was logged."""

    folder: Path
    sandbox: Sandbox
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def package(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / "packages" / f"{sha256}.zip").write_bytes(content)
        return sha256

    def function(self, source: str | dict[str, str | bytes], **changes: Any) -> Function:
        content = zip_of({"app.py": source} if isinstance(source, str) else source)
        given = {
            "name": "edge-function",
            "version": "7",
            "account_id": "123456789012",
            "region": "us-east-1",
            "role_arn": "arn:aws:iam::123456789012:role/edge",
            "runtime": "python3.11",
            "handler": "app.handler",
            "memory_mb": 128,
            "code_sha256": self.package(content),
            "code_size_bytes": len(content),
            "last_modified": 1.0,
        }
        return Function(**(given | changes))

    async def call(
        self,
        function: Function,
        event: Any = None,
        *,
        request_id: str = "request-1",
        credentials: Credentials = ROLE,
        deadline_s: float = 10,
    ) -> Invocation:
        return await self.sandbox.invoke(
            function, event, request_id=request_id, credentials=credentials, deadline_s=deadline_s
        )

    @staticmethod
    def is_running(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    async def until_gone(self, pids: list[int]) -> None:
        async with asyncio.timeout(10):
            while any(self.is_running(pid) for pid in pids):
                await asyncio.sleep(0.01)

    async def until_printed(self, request_id: str) -> str:
        async with asyncio.timeout(10):
            while not self.printed(request_id):
                await asyncio.sleep(0.01)
        return self.printed(request_id)[0]

    def printed(self, request_id: str) -> list[str]:
        """The lines of a call that the function itself wrote."""
        ours = ("START ", "END ", "REPORT ", "ERROR ", "WARNING ")
        return [line for _, of, line in self.lines if of == request_id and not line.startswith(ours)]


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(folder: Path = tmp_path, **pool: Any) -> Bench:
        lines: list[tuple[str, str, str]] = []
        (folder / "packages").mkdir(exist_ok=True)
        sandbox = Sandbox(
            cache_dir=folder / "cache",
            packages_dir=folder / "packages",
            log=lambda function, request_id, line: lines.append((function.name, request_id, line)),
            limits=SandboxLimits(pool=PoolLimits(**pool)),
        )
        made.append(Bench(folder=folder, sandbox=sandbox, lines=lines))
        return made[-1]

    yield make
    for bench in made:
        await bench.sandbox.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
