"""A disk that is full: refused with a status that may be retried, nothing damaged, nothing left behind."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nearpoint.bucket import disk as disk_module
from nearpoint.bucket import intake
from nearpoint.bucket.server import StoreServer
from nearpoint.bucket.store import Store
from nearpoint.signing import Credentials, Message, sign_v4
from nearpoint.wire.message import BytesBody, Headers, Request, Response, read_all

CREDENTIALS = Credentials("AKIATEST", "secret")
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def _signed(method: str, path: str, body: bytes = b"") -> Request:
    plain = [("Host", "store"), ("Content-Length", str(len(body)))]
    digest = hashlib.sha256(body).hexdigest()
    added = sign_v4(
        Message(method, path, "", plain), CREDENTIALS, region="us-east-1", service="s3", now=NOW, payload_hash=digest
    )
    return Request(method, path, Headers([*plain, *added]), BytesBody(body))


def _no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["create", "write", "seal"])
async def test_content_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store = Store(tmp_path, "us-east-1")
    server = StoreServer(store, CREDENTIALS, clock=lambda: NOW)
    send: Callable[[Request], Any] = server.handle
    assert (await send(_signed("PUT", "/full-bucket"))).status == 200
    assert (await send(_signed("PUT", "/full-bucket/k", b"old" * 10_000))).status == 200
    with monkeypatch.context() as broken:
        if step == "write":
            broken.setattr(intake, "write_all", _no_space)
        else:
            broken.setattr(disk_module.Disk, step, _no_space)
        refused: Response = await send(_signed("PUT", "/full-bucket/k", b"new" * 10_000))
        assert refused.status == 503
        assert b"<Code>ServiceUnavailable</Code>" in await read_all(refused.body, 10_000)
    kept = await send(_signed("GET", "/full-bucket/k"))
    assert await read_all(kept.body, 100_000) == b"old" * 10_000
    assert (await send(_signed("PUT", "/full-bucket/k", b"new" * 10_000))).status == 200
    await store.close()
    assert len([path for path in (tmp_path / "content").rglob("*") if path.is_file()]) == 1
