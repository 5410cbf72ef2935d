"""Opens a store's folder, and empties it when what is in it can't be trusted.

What a killed process wrote is in the kernel's page cache and safe. What a machine that went down had written may be
there or not: a folder of an earlier boot is kept only if it was sealed when the last process ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from nearpoint.edge.store.record import FORMAT

INDEX, BODIES, COUNTS = "index", "bodies", "counts"
_TRASH = "trash"
_MARK = "state"  # format, boot, and whether it has been sealed


def boot_id() -> str:
    """What tells this run of the machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else opens or seals the folder meanwhile."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def only_one(folder: Path, work: str) -> Iterator[bool]:
    """Whether this process is the one that does some work; False while another does."""
    descriptor = os.open(folder / f"{work}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def prepare(folder: Path, *, boot: str | None = None) -> bool:
    """Make the folder ready to be opened. True: what was in it is still there. Raises OSError.

    Every process that opens it calls this first.
    """
    boot = boot or boot_id()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder):
        mark = folder / _MARK
        try:
            words = mark.read_text().split()
        except FileNotFoundError:
            words = []
        kept = words[:1] == [str(FORMAT)] and (words[1:2] == [boot] or words[2:] == ["sealed"])
        if not kept:
            _discard(folder)
        if kept and words[1:] == [boot]:
            return True
        _write(mark, f"{FORMAT} {boot}")
        (folder / BODIES).mkdir(exist_ok=True, mode=0o700)
        return kept


def seal(folder: Path) -> None:
    """All of it is on the disk, and no process will write any more: it may be kept over a restart of the machine."""
    with locked(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(descriptor)
        words = (folder / _MARK).read_text().split()
        _write(folder / _MARK, f"{words[0]} {words[1]} sealed")


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _discard(folder: Path) -> None:
    """Put everything aside; it is deleted while the store is used already."""
    aside = folder / f"{_TRASH}-{os.getpid()}-{os.urandom(4).hex()}"
    aside.mkdir()
    for name in (INDEX, BODIES, COUNTS):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).rename(aside / name)
    threading.Thread(target=sweep_trash, args=(folder,), daemon=True).start()


def sweep_trash(folder: Path) -> None:
    """Delete what has been put aside."""
    for aside in folder.glob(f"{_TRASH}-*"):
        shutil.rmtree(aside, ignore_errors=True)
