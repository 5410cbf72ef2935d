"""Holds a body against the checksums that its request states, where the store would not.

Content-MD5 and `x-amz-checksum-*` (S3 API Reference, PutObject; User Guide, "Checking object integrity"), stated in the
head or in a trailer. A checksum of checksums (`…-N`) says nothing of the bytes of one request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping

from nearpoint.awsproto.errors import AwsError

_PREFIX = "x-amz-checksum-"


class _Running:
    """One checksum, taken over a body piece by piece."""

    def __init__(self, kind: str) -> None:
        from awscrt import checksums  # not everybody who imports this has it

        crcs: dict[str, tuple[Callable[[bytes, int], int], int]] = {
            "crc32": (checksums.crc32, 4),
            "crc32c": (checksums.crc32c, 4),
            "crc64nvme": (checksums.crc64nvme, 8),
        }
        self._crc = crcs.get(kind)
        self._value = 0
        self._hash = None if self._crc is not None else hashlib.new(kind, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        if self._crc is not None:
            self._value = self._crc[0](data, self._value)
        elif self._hash is not None:
            self._hash.update(data)

    def base64(self) -> str:
        """What S3 writes of it."""
        if self._crc is not None:
            octets = self._value.to_bytes(self._crc[1], "big")
        else:
            assert self._hash is not None
            octets = self._hash.digest()
        return base64.b64encode(octets).decode()


_KINDS = frozenset({"crc32", "crc32c", "crc64nvme", "sha1", "sha256"})


class Integrity:
    """The checksums of one body. `update` it with every piece, then ask `check`."""

    def __init__(self, headers: Iterable[tuple[str, str]], trailers: Iterable[str] = ()) -> None:
        """`headers` are the request's, `trailers` the names of the trailers it announces."""
        self._stated: dict[str, str] = {}
        self._running: dict[str, _Running] = {}
        for name, value in headers:
            lowered = name.lower()
            if self._take(lowered) and "-" not in value:
                self._stated[lowered] = value.strip()
        for name in trailers:
            self._take(name)

    def _take(self, name: str) -> bool:
        kind = "md5" if name == "content-md5" else name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""
        if kind != "md5" and kind not in _KINDS:
            return False
        if name not in self._running:
            self._running[name] = _Running(kind)
        return True

    @property
    def matters(self) -> bool:
        """False when nothing is stated."""
        return bool(self._running)

    def update(self, data: bytes) -> None:
        """Take in a piece."""
        for each in self._running.values():
            each.update(data)

    def check(self, trailers: Mapping[str, str]) -> None:
        """Raises AwsError(BadDigest) unless the body is what was stated; `trailers` came behind it."""
        for name, stated in {**self._stated, **trailers}.items():
            running = self._running.get(name.lower())
            if running is not None and not hmac.compare_digest(stated.encode("latin-1"), running.base64().encode()):
                what = "Content-MD5" if name == "content-md5" else name.removeprefix(_PREFIX).upper()
                raise AwsError("BadDigest", f"The {what} you specified did not match the calculated checksum.")
