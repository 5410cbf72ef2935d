"""A Lambda package as bytes that depend on its files alone: sorted, at one time, with one owner's permissions.

Lambda quotas: 50 MB zipped, 250 MB unzipped; Lambda@Edge quotas: 1 MB for viewer events, 50 MB for origin events.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

EVENTS = ("viewer-request", "viewer-response", "origin-request", "origin-response")
VIEWER_ZIPPED_BYTES_MAX = 1_048_576
ORIGIN_ZIPPED_BYTES_MAX = 52_428_800
UNZIPPED_BYTES_MAX = 262_144_000
# The earliest time a zip can tell.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file's content; `executable` for shared objects and programs."""

    data: bytes
    executable: bool = False


def build(files: Mapping[str, File]) -> bytes:
    """The zip. The same files give the same bytes, wherever and whenever, with the same zlib."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            # Lambda runs the code as somebody else: everybody may read.
            entry.external_attr = (0o100755 if files[name].executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].data, compresslevel=9)
    return packed.getvalue()


def check_sizes(zipped_bytes: int, unzipped_bytes: int, event: str) -> list[str]:
    """What is too large for a function of that event type."""
    zipped_max = VIEWER_ZIPPED_BYTES_MAX if event.startswith("viewer") else ORIGIN_ZIPPED_BYTES_MAX
    problems = []
    if zipped_bytes > zipped_max:
        problems.append(
            f"The package has {zipped_bytes:,} bytes; a function for {event} may have {zipped_max:,} "
            f"({zipped_max // 1_048_576} MB, Lambda@Edge quotas)."
        )
    if unzipped_bytes > UNZIPPED_BYTES_MAX:
        problems.append(
            f"The package unpacks to {unzipped_bytes:,} bytes; {UNZIPPED_BYTES_MAX:,} are allowed (Lambda quotas)."
        )
    return problems
