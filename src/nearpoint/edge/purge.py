"""Invalidations of a stand-alone edge: asked for at its admin address, kept in a file that all its workers follow.

A worker reads what has been added every tenth of a second and takes note of it as a distribution's edge does; with a
cache folder it is also noted there, for after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from nearpoint.edge.invalidation import Invalidation, compile_invalidation
from nearpoint.edge.tags import is_tag
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

PATHS_MAX = 3_000
PATH_CHARACTERS_MAX = 4_000
BODY_BYTES_MAX = 1_048_576
JOURNAL_BYTES_MAX = 8_388_608


def check_paths(given: Any) -> list[str]:
    """The paths and tags of a request. Raises ValueError with a sentence that says what is wrong."""
    if not isinstance(given, list) or not given or len(given) > PATHS_MAX:
        raise ValueError(f'"paths" has to be a list of 1 to {PATHS_MAX} paths and tags.')
    for each in given:
        if not isinstance(each, str):
            raise ValueError("A path has to be a string.")
        if each.startswith("#"):
            if not is_tag(each[1:]):
                raise ValueError(f"{each[:80]!r} is no tag: visible ASCII without commas, at most 256 characters.")
        elif not each.startswith("/") or "*" in each[:-1] or len(each) > PATH_CHARACTERS_MAX or not each.isprintable():
            raise ValueError(f"{each[:80]!r} is no path: it begins with / and may end in *.")
    return given


class Journal:
    """The file. Each process has its own place in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1  # the inode that `_at` belongs to
        self._at = 0

    def add(self, id: str, at: float, paths: Sequence[str]) -> None:
        """Note an invalidation for all workers. Raises OSError."""
        line = orjson.dumps({"id": id, "at": at, "paths": list(paths)}) + b"\n"
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size + len(line) > JOURNAL_BYTES_MAX:
            # Too much is gone rather than too little: everything, and the file begins anew.
            line = orjson.dumps({"id": id, "at": at, "paths": ["/*"]}) + b"\n"
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(line)
            fresh.replace(self._path)
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def news(self) -> list[Invalidation]:
        """What has been added since the last time."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._file:
                    self._file, self._at = found.st_ino, 0
                if found.st_size <= self._at:
                    return []
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [
            compile_invalidation(invalidation_id=said["id"], at=said["at"], paths=said["paths"])
            for said in map(orjson.loads, whole.splitlines())
        ]


class Purge:
    """`POST /-/invalidate` with `{"paths": ["/a/*", "#tag"]}` as application/json."""

    def __init__(self, journal: Journal, *, clock: Callable[[], float], random_hex: Callable[[], str]) -> None:
        self._journal = journal
        self._clock = clock
        self._random_hex = random_hex

    async def handle(self, request: Request) -> Response:
        """The Exchange."""
        if request.method != "POST":
            return _json(405, {"error": "Only POST."})
        # A page in somebody's browser cannot send this type without being asked first.
        if (request.headers.get("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            return _json(415, {"error": "The Content-Type has to be application/json."})
        try:
            said = orjson.loads(await read_all(request.body, BODY_BYTES_MAX))
            paths = check_paths(said.get("paths") if isinstance(said, dict) else None)
        except BodyTooLargeError:
            return _json(413, {"error": f"More than {BODY_BYTES_MAX} bytes."})
        except orjson.JSONDecodeError as error:
            return _json(400, {"error": f"Not JSON: {error}"})
        except ValueError as error:
            return _json(400, {"error": str(error)})
        id, at = f"purge-{self._random_hex()}", self._clock()
        self._journal.add(id, at, paths)
        return _json(200, {"id": id, "paths": len(paths)})


def _json(status: int, value: Any) -> Response:
    return Response(status, Headers([("Content-Type", "application/json")]), orjson.dumps(value) + b"\n")
