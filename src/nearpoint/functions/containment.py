"""Takes away from this process what a function has no use for. Loaded by `bootstrap.py`; standard library only.

Landlock (Linux 5.13 and later) limits files, TCP (ABI 4, Linux 6.7) and signals (ABI 6, Linux 6.12); a kernel that
lacks a part of it does without that part and says so. `/tmp` becomes the function's own where a mount namespace may be
made. This contains one's own functions, not hostile tenants.
"""

# ruff: noqa: PTH103, PTH110, PTH112, PTH120, PTH123 (importing pathlib takes 3 ms)
from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 1 << 5, 1 << 12, 1 << 14, 1 << 18
_MNT_DETACH = 2
_TMP = "/tmp"  # noqa: S108 - the function's own

# The same numbers on every architecture (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2

# include/uapi/linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FS_BITS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1

_READ = _READ_FILE | _READ_DIR
_RUN = _READ | _EXECUTE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, and end at once if it already has."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl(PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(0)


def outlive_parent() -> None:
    """Take back `die_with_parent`."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(0), 0, 0, 0), "prctl(PDEATHSIG)")


def landlock_abi() -> int:
    """The version of Landlock that the kernel speaks; 0 when it has none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def contain(wanted: dict[str, Any]) -> dict[str, Any]:
    """Applies all of it, for good and for every child.

    `wanted`: `run` and `read` (folders or files), `scratch` (the folder that becomes `/tmp`), `connect_ports` (TCP
    ports, None for all), `memory_bytes`, `files_max`, `file_bytes_max`. Returns what the kernel granted; `scratch` is
    where the scratch folder is now. Undoes `die_with_parent`.
    """
    private_tmp = _private_tmp(wanted["scratch"], [*wanted["run"], *wanted["read"]])
    scratch = _TMP if private_tmp else wanted["scratch"]
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, wanted["files_max"])
    _limit(resource.RLIMIT_FSIZE, wanted["file_bytes_max"])
    _limit(resource.RLIMIT_DATA, wanted["memory_bytes"])
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(NO_NEW_PRIVS)")
    _drop_capabilities()
    abi = landlock_abi()
    if abi:
        _landlock(abi, wanted, scratch)
    return {
        "landlock_abi": abi,
        "files": abi >= 1,
        "tcp": abi >= 4,
        "signals": abi >= 6,
        "private_tmp": private_tmp,
        "scratch": scratch,
    }


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def _drop_capabilities() -> None:
    """A process of root keeps root's files and nothing else of root's powers; nor does one with its own namespace."""
    number = 0
    while _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)), "capset")


def _private_tmp(scratch: str, needed: list[str]) -> bool:
    """Puts the scratch folder in the place of `/tmp`, for this process alone; False where that is not allowed.

    Functions write to `/tmp` by name (Lambda has nothing else to write to). Needs root or user namespaces.
    """
    uid, gid = os.geteuid(), os.getegid()
    covered = False
    try:
        if _libc.unshare(_CLONE_NEWNS) < 0:
            _checked(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
            for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        _mount(None, "/", _MS_REC | _MS_PRIVATE)
        kept = [(path, os.open(path, os.O_PATH)) for path in needed if _is_below_tmp(path)]
        _mount(scratch, _TMP, _MS_BIND)
        covered = True
        for path, fd in kept:
            _keep_visible(path, fd)
    except OSError:
        if covered:
            _libc.umount2(_TMP.encode(), _MNT_DETACH)
        return False
    return True


def _keep_visible(path: str, fd: int) -> None:
    """What lies below the old `/tmp` and is needed shows at its place in the new one, read-only."""
    source = f"/proc/self/fd/{fd}"
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(source, path, _MS_BIND)
    locked = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)  # the bits of MS_ of that name
    _mount(None, path, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | locked)
    os.close(fd)


def _is_below_tmp(path: str) -> bool:
    return os.path.realpath(path).startswith(f"{_TMP}/") and os.path.exists(path)


def _mount(source: str | None, target: str, flags: int) -> None:
    result = _libc.mount(source and source.encode(), target.encode(), None, ctypes.c_ulong(flags), None)
    _checked(result, f"mount {target}")


def _landlock(abi: int, wanted: dict[str, Any], scratch: str) -> None:
    handled = (1 << _FS_BITS_BY_ABI.get(abi, 16)) - 1
    ports = wanted["connect_ports"]
    net = 0 if abi < 4 else _BIND_TCP | (0 if ports is None else _CONNECT_TCP)
    scoped = _SCOPE_ABSTRACT_SOCKET | _SCOPE_SIGNAL if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, net, scoped)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _checked(
        _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)),
        "landlock_create_ruleset",
    )
    try:
        for paths, rights in ((wanted["run"], _RUN), (wanted["read"], _READ), ([scratch], handled & ~_EXECUTE)):
            for path in paths:
                _allow_beneath(ruleset, path, rights & handled)
        for path, rights in (("/dev/null", _READ_FILE | _WRITE_FILE), ("/dev/zero", _READ_FILE | _WRITE_FILE)):
            _allow_beneath(ruleset, path, rights)
        for port in (ports or ()) if abi >= 4 else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _checked(
                _libc.syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, rule, ctypes.c_uint32(0)), "landlock_add_rule(port)"
            )
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, fd)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, ctypes.c_uint32(0)), f"landlock: {path}")
    finally:
        os.close(fd)
