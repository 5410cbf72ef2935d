"""Runs Lambda functions of Python on this machine: unpacks, starts, contains, calls, and writes their log.

A call's way: `Sandbox` finds the function's `Pool`; the pool has a `Zygote` fork a `Worker`; the worker's process is
`bootstrap.py`, confined by `containment.py`.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nearpoint.functions.logs import LogSink
from nearpoint.functions.packages import PackageError, PackageLimits, boot_root, own_folder, unpack
from nearpoint.functions.pool import CredentialsLike, Invocation, Pool, PoolLimits
from nearpoint.functions.zygote import Spec, StartError
from nearpoint.state.resources import Function

__all__ = ["CredentialsLike", "Invocation", "Sandbox", "SandboxLimits"]

# What Lambda's Python runtime brings along (Lambda Developer Guide, "Runtime-included libraries").
RUNTIME_LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
_SYSTEM_RUN = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt/lib")
_SYSTEM_READ = (
    *(f"/etc/{name}" for name in ("ssl", "ca-certificates", "pki", "alternatives", "ld.so.cache", "localtime")),
    *(f"/etc/{name}" for name in ("resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services")),
    *(f"/etc/{name}" for name in ("protocols", "mime.types", "passwd", "group", "os-release", "timezone")),
    *("/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"),
)
# Beyond its memory a worker may have this much mapped: what the loader and the C library reserve and never touch.
_MEMORY_HEADROOM_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """`result_bytes_max` is Lambda's 6 MB; `connect_ports` are the TCP ports a function may connect to, None for all.

    `scratch_file_bytes_max` is the largest file it may write, Lambda's default `/tmp` size.
    """

    pool: PoolLimits = field(default_factory=PoolLimits)
    package: PackageLimits = field(default_factory=PackageLimits)
    result_bytes_max: int = 6 * 1024 * 1024
    connect_ports: tuple[int, ...] | None = ()
    files_max: int = 1024
    scratch_file_bytes_max: int = 512 << 20


class Sandbox:
    """Every function of one node. Make, use and close it in one event loop, in the main thread.

    `packages_dir` has the packages as `<sha256>.zip`; `cache_dir` is for what is unpacked and may be shared by nodes.
    """

    def __init__(
        self, *, cache_dir: Path, packages_dir: Path, log: LogSink, limits: SandboxLimits | None = None
    ) -> None:
        self._packages_dir = packages_dir.resolve()
        self._cache_dir = cache_dir.resolve()
        self._log = log
        self._limits = limits or SandboxLimits()
        self._root: Path | None = None
        self._scratch: Path | None = None
        self._closed = False
        self._pools: dict[tuple[str, str, float, str, int], Pool] = {}
        self._unpacking: dict[str, asyncio.Task[Path]] = {}
        self._libraries = _libraries_folder()

    async def invoke(
        self,
        function: Function,
        event: Any,
        *,
        request_id: str,
        credentials: CredentialsLike,
        deadline_s: float,
    ) -> Invocation:
        """Call a function with an event and wait for what it gives back.

        `deadline_s` is the time that the handler has; waiting for a worker is bounded too. Never raises for what a
        function does: `Invocation.kind` says how it failed. A cancelled call ends the worker that ran it.
        """
        if self._closed:
            return Invocation(kind="throttled", text="the sandbox is closed")
        self._log(function, request_id, f"START RequestId: {request_id} Version: {function.version}")
        ran = await self._pool(function, credentials).invoke(event, request_id, credentials, deadline_s)
        if ran.kind is not None:
            self._log(function, request_id, f"ERROR RequestId: {request_id} {ran.kind}: {ran.text}"[:4096])
        self._log(function, request_id, f"END RequestId: {request_id}")
        self._log(function, request_id, report_line(request_id, function.memory_mb, ran))
        return ran

    async def close(self) -> None:
        """End every process and remove what functions wrote."""
        self._closed = True
        pools, self._pools = list(self._pools.values()), {}
        await asyncio.gather(*(pool.close() for pool in pools))
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _pool(self, function: Function, credentials: CredentialsLike) -> Pool:
        key = (function.arn, function.code_sha256, function.last_modified, function.handler, function.memory_mb)
        pool = self._pools.get(key)
        if pool is None:
            for old in [key for key, pool in self._pools.items() if pool.idle]:
                self._pools.pop(old).stop()
            pool = self._pools[key] = Pool(
                lambda credentials: self._spec(function, credentials),
                lambda request_id, line: self._log(function, request_id, line),
                self._limits.pool,
                credentials,
            )
        return pool

    async def _unpacked(self, function: Function) -> Path:
        task = self._unpacking.get(function.code_sha256)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._unpack, function.code_sha256))
            self._unpacking[function.code_sha256] = task
            task.add_done_callback(lambda _: self._unpacking.pop(function.code_sha256, None))
        try:
            return await asyncio.shield(task)
        except PackageError as error:
            raise StartError("import-error", str(error)) from error

    def _unpack(self, sha256: str) -> Path:
        if self._root is None:
            self._root = boot_root(self._cache_dir)
        return unpack(self._packages_dir / f"{sha256}.zip", sha256, self._root, self._limits.package)

    async def _spec(self, function: Function, credentials: CredentialsLike) -> Spec:
        folder = await self._unpacked(function)
        assert self._root is not None
        if self._scratch is None:
            self._scratch = own_folder(self._root, "scratch")
        scratch = self._scratch / re.sub(r"[^A-Za-z0-9_-]", "_", f"{function.name}-{function.version}")[:120]
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._warn_of_runtime(function)
        environment = _environment(function, folder, scratch)
        memory_bytes = function.memory_mb << 20
        config = {
            "package": str(folder),
            "handler": function.handler,
            "environment": environment,
            "credentials": [credentials.access_key_id, credentials.secret_key, credentials.session_token],
            "libraries": str(self._libraries),
            "library_names": list(RUNTIME_LIBRARIES),
            "fixed": {
                "function_name": function.name,
                "function_version": function.version,
                "function_arn": function.arn,
                "memory_mb": str(function.memory_mb),
                "log_group_name": environment["AWS_LAMBDA_LOG_GROUP_NAME"],
                "log_stream_name": environment["AWS_LAMBDA_LOG_STREAM_NAME"],
                "result_bytes_max": self._limits.result_bytes_max,
            },
            "containment": {
                "run": [str(folder), sys.base_prefix, *_SYSTEM_RUN],
                "read": [*_SYSTEM_READ, *_library_paths(self._libraries)],
                "scratch": str(scratch),
                "connect_ports": self._limits.connect_ports,
                "memory_bytes": memory_bytes + _MEMORY_HEADROOM_BYTES,
                "files_max": self._limits.files_max,
                "file_bytes_max": self._limits.scratch_file_bytes_max,
            },
        }
        return Spec(
            config=config,
            environment={name: environment[name] for name in ("PATH", "LANG", "TZ", "HOME", "TMPDIR")},
            folder=folder,
            memory_bytes_max=memory_bytes,
            # The answer is the result and a little around it.
            answer_bytes_max=self._limits.result_bytes_max + 64 * 1024,
        )

    def _warn_of_runtime(self, function: Function) -> None:
        here = f"python{sys.version_info.major}.{sys.version_info.minor}"
        if function.runtime != here:
            self._log(function, "init", f"WARNING the function asks for {function.runtime} and runs on {here}")


def report_line(request_id: str, memory_mb: int, ran: Invocation) -> str:
    """The REPORT line that Lambda writes after a call."""
    init = "" if ran.init_ms is None else f"\tInit Duration: {ran.init_ms:.2f} ms"
    return (
        f"REPORT RequestId: {request_id}\tDuration: {ran.duration_ms:.2f} ms"
        f"\tBilled Duration: {math.ceil(ran.duration_ms)} ms\tMemory Size: {memory_mb} MB"
        f"\tMax Memory Used: {ran.peak_memory_mb} MB{init}"
    )


def _environment(function: Function, folder: Path, scratch: Path) -> dict[str, str]:
    """All that a function's environment holds, credentials apart (Lambda, "Defined runtime environment variables")."""
    group = f"/aws/lambda/us-east-1.{function.name}"
    return {
        **function.environment,
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": group,
        "AWS_LAMBDA_LOG_STREAM_NAME": f"[{function.version}]{secrets.token_hex(16)}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": function.handler,
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
    }


def _libraries_folder() -> Path:
    spec = find_spec("botocore")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def _library_paths(folder: Path) -> Sequence[str]:
    return [str(folder / name) for name in RUNTIME_LIBRARIES] + [str(folder / "six.py")]
