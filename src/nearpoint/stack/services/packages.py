"""Function packages: checked before they are kept, then kept once under their digest, crash-safe.

Limits from the Lambda quotas: 50 MB zipped, 250 MB unzipped.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

from nearpoint.awsproto.errors import AwsError

ZIPPED_BYTES_MAX = 50 * 1024 * 1024
UNZIPPED_BYTES_MAX = 262144000
ENTRIES_MAX = 50_000


def _refuse(text: str) -> AwsError:
    return AwsError("InvalidParameterValueException", text, status=400)


def check_package(data: bytes) -> None:
    """Refuses what would not unpack into a folder of at most 250 MB: no zip, entries that claim to unpack to more,
    that lie on each other, or that point outside. Raises InvalidParameterValueException."""
    if len(data) > ZIPPED_BYTES_MAX:
        raise _refuse(f"Unzipped size must be smaller than {UNZIPPED_BYTES_MAX} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, UnicodeDecodeError):
        raise _refuse("Could not unzip uploaded file. Please check your file, then try to upload again.") from None
    if len(entries) > ENTRIES_MAX:
        raise _refuse(f"The package has more than {ENTRIES_MAX} entries")
    if sum(entry.file_size for entry in entries) > UNZIPPED_BYTES_MAX:
        raise _refuse(f"Unzipped size must be smaller than {UNZIPPED_BYTES_MAX} bytes")
    # The central directory's sizes bound what is read out of each entry; what is stored must fit into the file, so
    # that thousands of entries can't share one compressed block.
    if sum(entry.compress_size for entry in entries) > len(data):
        raise _refuse("The package's entries overlap")
    for entry in entries:
        _check_entry(entry)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\x00" in entry.orig_filename or ":" in parts[0]:
        raise _refuse(f"The package has an entry outside its folder: {name[:200]!r}")
    if entry.flag_bits & 0x1:
        raise _refuse(f"The package has an encrypted entry: {name[:200]!r}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refuse(f"The package has an entry that is neither stored nor deflated: {name[:200]!r}")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise _refuse(f"The package has an entry that is no file: {name[:200]!r}")


def digest(data: bytes) -> str:
    """The name a package is kept under: its SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def path_of(packages_dir: Path, code_sha256: str) -> Path:
    """Where the package of that digest lies."""
    return packages_dir / f"{code_sha256}.zip"


def write_package(packages_dir: Path, data: bytes, unique: str) -> Path:
    """Write to a temporary file beside the final one and sync it; `keep_package` gives it its name. `unique` keeps two
    writers apart."""
    packages_dir.mkdir(parents=True, exist_ok=True)
    path = packages_dir / f"{digest(data)}.{unique}.part"
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


def keep_package(written: Path, packages_dir: Path, code_sha256: str) -> None:
    """Give a written package its final name, durably."""
    written.replace(path_of(packages_dir, code_sha256))
    folder = os.open(packages_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(packages_dir: Path, in_use: set[str]) -> list[str]:
    """Remove half-written packages and those that no function has; answers their names. For the start of the control
    process, when nothing is being written."""
    removed = []
    for path in sorted(packages_dir.glob("*")) if packages_dir.is_dir() else []:
        if path.suffix == ".part" or (path.suffix == ".zip" and path.stem not in in_use):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed
