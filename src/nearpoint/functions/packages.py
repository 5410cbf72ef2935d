"""Unpacks Lambda packages, each once, into a folder named by its digest.

The cache does not outlive a boot, so nothing in it has to be synced: its root is named by the kernel's boot id, and
other boots' roots are removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Lambda quotas: 50 MB zipped (what an origin trigger may have), 250 MB unzipped.
PACKAGE_BYTES_MAX = 50 * 1024 * 1024
UNPACKED_BYTES_MAX = 250 * 1024 * 1024
FILES_MAX = 50_000
_CHUNK_BYTES = 1 << 18
_SYMLINK_TARGET_BYTES_MAX = 4096


class PackageError(Exception):
    """A package that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLimits:
    """What an archive may hold."""

    package_bytes_max: int = PACKAGE_BYTES_MAX
    unpacked_bytes_max: int = UNPACKED_BYTES_MAX
    files_max: int = FILES_MAX


def boot_root(cache_dir: Path) -> Path:
    """The folder of this boot below `cache_dir`, made if needed.

    What earlier boots left is removed, and what processes that are gone left half done: `.SOMETHING-PID.RANDOM`.
    """
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    root = cache_dir / f"boot-{boot_id}"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for entry in cache_dir.glob("boot-*"):
        if entry.name != root.name:
            shutil.rmtree(entry, ignore_errors=True)
    for entry in root.glob(".*-*.*"):
        pid = entry.name.rpartition(".")[0].rpartition("-")[2]
        if not Path("/proc", pid).exists():
            shutil.rmtree(entry, ignore_errors=True)
    return root


def own_folder(root: Path, what: str) -> Path:
    """A new folder of this process below `root`, which `boot_root` clears away once the process is gone."""
    folder = root / f".{what}-{os.getpid()}.{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    return folder


def unpack(archive: Path, sha256: str, root: Path, limits: PackageLimits = PackageLimits()) -> Path:
    """The folder with the archive's content, unpacked now or earlier, by this process or another.

    `sha256` is the archive's digest in hex; the content is checked against it. Raises PackageError.
    """
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise PackageError(f"{sha256!r:.80} is no SHA-256")
    folder = root / sha256
    if folder.is_dir():
        return folder
    making = own_folder(root, sha256)
    try:
        with archive.open("rb") as file:
            if os.fstat(file.fileno()).st_size > limits.package_bytes_max:
                raise PackageError(f"the package has more than {limits.package_bytes_max} bytes")
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise PackageError("the package does not have the digest that the function names")
            with zipfile.ZipFile(file) as zipped:
                _extract(zipped, making, limits)
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    except FileNotFoundError as error:
        raise PackageError(f"the package {archive.name} is not there") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise PackageError(f"the package cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _extract(zipped: zipfile.ZipFile, into: Path, limits: PackageLimits) -> None:
    entries = zipped.infolist()
    if len(entries) > limits.files_max:
        raise PackageError(f"the package has {len(entries)} files, {limits.files_max} allowed")
    left = limits.unpacked_bytes_max
    links: list[tuple[Path, str]] = []
    for entry in entries:
        path = into / _safe_name(entry.filename)
        mode = entry.external_attr >> 16
        if entry.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            links.append((path, _link_target(zipped, entry)))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            left = _write(zipped, entry, path, left)
            path.chmod(0o755 if mode & 0o111 else 0o644)
        else:
            raise PackageError(f"{entry.filename!r} is neither a file, a folder nor a link")
    # Links come last, so that no file is ever written through one.
    for path, target in links:
        path.symlink_to(target)
    inside = into.resolve()
    for path, target in links:
        if not path.resolve().is_relative_to(inside):
            raise PackageError(f"the link {path.name!r} leads out of the package, to {target!r}")


def _safe_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise PackageError(f"{name!r} is no name for a file inside a package")
    return path


def _link_target(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    if entry.file_size > _SYMLINK_TARGET_BYTES_MAX:
        raise PackageError(f"the link {entry.filename!r} is too long")
    with zipped.open(entry) as source:
        return source.read(_SYMLINK_TARGET_BYTES_MAX).decode("utf-8", "surrogateescape")


def _write(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Writes one file; returns the bytes that are left. Counts what comes out, not what the archive claims."""
    with zipped.open(entry) as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise PackageError("the package is too large unpacked")
            target.write(chunk)
    return left
