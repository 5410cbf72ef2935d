"""How versions travel between stores: one after the other, each a manifest and, where it is sent, its content.

A frame is the manifest's length (4 bytes, big-endian), the CRC-32 of it (4 bytes), the manifest in JSON, then as many
bytes of content as the manifest says. The content is held against the entity tag and the checksum in the manifest.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from nearpoint.awsproto import AwsError
from nearpoint.wire.message import Body, StreamBody

MANIFEST_BYTES_MAX = 512 * 1024  # 10,000 part sizes, 2 KB of metadata, ten tags, and room
_HEAD = struct.Struct(">II")


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a version but its content: the columns of its row (`schema`), `head` as latin-1 text.

    `missing`: the store that was asked has no such version, and nothing else is said; `problem`: why it cannot give it,
    and `passing` that it may well be able to soon.
    `parts` are the sizes of its parts where it was uploaded in parts. `content`: the content follows.
    """

    key: str
    version: str
    missing: bool = False
    problem: str = ""
    passing: bool = False
    content: bool = False
    time_us: int = 0
    origin: str = ""
    marker: bool = False
    size: int = 0
    etag: str = ""
    parts: tuple[int, ...] = ()
    head: str = ""
    storage_class: str = "STANDARD"
    checksum: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    extras: dict[str, Any] = {}
    amended_us: int = 0
    amended_in: str = ""


_decoder = msgspec.json.Decoder(Manifest)


def frame(manifest: Manifest) -> bytes:
    """What goes before the content."""
    text = msgspec.json.encode(manifest)
    return _HEAD.pack(len(text), zlib.crc32(text)) + text


class Inlet:
    """Reads frames and content from a body, in order."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.__aiter__()
        self._waiting = b""
        self._left = 0  # bytes of content not yet taken

    async def manifest(self) -> Manifest | None:
        """The next manifest, or None at the end. What is left of the content before it is passed over.

        Raises AwsError for what is no frame.
        """
        async for _ in self._take(self._left):
            pass
        if not self._waiting and not await self._more():
            return None
        length, crc = _HEAD.unpack(await self._exactly(_HEAD.size))
        if length > MANIFEST_BYTES_MAX:
            raise AwsError("InvalidRequest", "A manifest is too long.")
        text = await self._exactly(length)
        if zlib.crc32(text) != crc:
            raise AwsError("BadDigest", "A manifest was damaged on its way.")
        try:
            manifest = _decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise AwsError("InvalidRequest", f"A manifest cannot be read: {error}") from None
        if manifest.size < 0 or (manifest.parts and (min(manifest.parts) < 0 or sum(manifest.parts) != manifest.size)):
            raise AwsError("InvalidRequest", "The sizes in a manifest cannot be.")
        self._left = manifest.size if manifest.content else 0
        return manifest

    def content(self, size: int) -> StreamBody:
        """The next `size` bytes of the content. Raises AwsError when they do not come."""
        return StreamBody(self._take(size), size)

    async def _take(self, size: int) -> AsyncIterator[bytes]:
        while size:
            if not self._waiting and not await self._more():
                raise AwsError("IncompleteBody")
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            size -= len(piece)
            self._left -= len(piece)
            yield piece

    async def _exactly(self, size: int) -> bytes:
        while len(self._waiting) < size:
            if not await self._more():
                raise AwsError("IncompleteBody")
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        return taken

    async def _more(self) -> bool:
        async for chunk in self._chunks:
            if chunk:
                self._waiting += bytes(chunk)
                return True
        return False
