"""A world in memory: state, a context with its own clock and chance, a package, documents."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearpoint.stack.services.context import Context
from nearpoint.state.resources import Bucket
from nearpoint.state.store import MemoryState

ACCOUNT = "123456789012"


class Clock:
    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0

    def __call__(self) -> float:
        self.time_s += 0.001
        return self.time_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def context(state: MemoryState, clock: Clock, tmp_path: Path) -> Context:
    return Context(
        state=state,
        account_id=ACCOUNT,
        now=clock,
        random_bytes=random.Random(7).randbytes,
        packages_dir=tmp_path / "packages",
    )


@pytest.fixture
async def buckets(context: Context) -> None:
    for name, region in (("data-us", "us-east-1"), ("data-eu", "eu-west-1"), ("code", "us-east-1")):
        await context.state.put(Bucket(name=name, region=region, created_at=0.0))


@pytest.fixture
def zipped() -> Callable[[dict[str, str]], bytes]:
    def build(files: dict[str, str]) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return data.getvalue()

    return build


@pytest.fixture
def package(zipped: Callable[[dict[str, str]], bytes]) -> bytes:
    return zipped({"index.py": "def handler(event, context):\n    return event['Records'][0]['cf']['request']\n"})


@pytest.fixture
def trust() -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
                "Action": "sts:AssumeRole",
            }
        ],
    }
