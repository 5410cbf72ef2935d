"""The process a function lives in: imports its package once, then forks a worker whenever the sandbox asks for one.

Run as `python -I -S bootstrap.py CONTROL_FD PARENT_PID`; standard library only, so that the package's modules meet
nothing of Nearpoint's and a worker stays small. The other ends are `zygote.py`
and `worker.py`.

Control socket (AF_UNIX SEQPACKET, one JSON object a message): in comes the configuration, then `fork` with a channel
and a log pipe attached; out go `ready` or `failed`, `forked` with the worker's pidfd attached or `refused`, and
`exited`.
Channel (AF_UNIX STREAM, 4 bytes of length and JSON): in comes a call, out goes its result.
"""

# ruff: noqa: PTH100, PTH109, PTH110, PTH118, PTH120, PTH208 (importing pathlib takes 3 ms)
from __future__ import annotations

import array
import contextlib
import gc
import importlib.machinery
import importlib.util
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

MESSAGE_BYTES_MAX = 128 * 1024
TRACE_CHARS_MAX = 16 * 1024
READ_BYTES = 128 * 1024
LENGTH = struct.Struct(">I")


class RuntimeLibraries:
    """Finds the libraries that Lambda's Python runtime brings, after the package and the standard library.

    Everything else that is installed beside them stays hidden: what a package forgot to include has to be missing.
    """

    def __init__(self, folder: str, names: list[str]) -> None:
        self._folder = folder
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if path is not None or name not in self._names:
            return None
        # By name, without listing the folder, which is out of bounds.
        base = os.path.join(self._folder, name)
        for origin, places in ((f"{base}/__init__.py", [base]), (f"{base}.py", None)):
            if os.path.exists(origin):
                return importlib.util.spec_from_file_location(name, origin, submodule_search_locations=places)
        return None


class Context:
    """The second argument of a handler (Lambda Developer Guide, "Python context object")."""

    def __init__(self, request_id: str, deadline: float, fixed: dict[str, Any]) -> None:
        self.aws_request_id = request_id
        self.function_name = fixed["function_name"]
        self.function_version = fixed["function_version"]
        self.invoked_function_arn = fixed["function_arn"]
        self.memory_limit_in_mb = fixed["memory_mb"]
        self.log_group_name = fixed["log_group_name"]
        self.log_stream_name = fixed["log_stream_name"]
        self.identity = None
        self.client_context = None
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: str) -> None:
        sys.stdout.write(str(message))


class CallLogHandler(logging.Handler):
    """The root logger's handler, with the format of Lambda's: level, UTC time, request id, message."""

    request_id = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            text = self.format(record)
            level = record.levelname
            sys.stderr.write(f"[{level}]\t{at}.{int(record.msecs):03d}Z\t{self.request_id}\t{text}\n")
        except Exception:
            self.handleError(record)


class HandlerNotUsableError(Exception):
    """The package has no such handler. The text says why in the words of Lambda."""


def load_handler(spec: str) -> Any:
    """Imports `module.function`, where the module may be `a.b` or `a/b`."""
    module_name, dot, function_name = spec.rpartition(".")
    if not dot or not module_name:
        raise HandlerNotUsableError(f"Runtime.MalformedHandlerName: '{spec}' is not MODULE.FUNCTION")
    module_name = module_name.replace("/", ".")
    try:
        module = importlib.import_module(module_name)
    except SyntaxError as error:
        raise HandlerNotUsableError(
            f"Runtime.UserCodeSyntaxError: Syntax error in module '{module_name}': {error}"
        ) from error
    except ImportError as error:
        raise HandlerNotUsableError(
            f"Runtime.ImportModuleError: Unable to import module '{module_name}': {error}{_wheel_hint(error)}"
        ) from error
    handler = getattr(module, function_name, None)
    if not callable(handler):
        raise HandlerNotUsableError(
            f"Runtime.HandlerNotFound: Handler '{function_name}' missing on module '{module_name}'"
        )
    return handler


def _wheel_hint(error: ImportError) -> str:
    """The usual cause when a module is missing though its package is there: native code for another Python."""
    *parents, stem = (error.name or "").split(".")
    try:
        entries = os.listdir(os.path.join(os.getcwd(), *parents))
    except OSError:
        return ""
    usable = {stem + suffix for suffix in importlib.machinery.EXTENSION_SUFFIXES}
    for entry in entries:
        if entry.startswith(f"{stem}.") and entry.endswith(".so") and entry not in usable:
            here = f"Python {sys.version_info.major}.{sys.version_info.minor} on {os.uname().machine}"
            return f" (the package has {entry}, built for another Python or machine; this is {here})"
    return ""


def receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message of the control socket with its file descriptors; None when the other end is gone."""
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(4 * fds.itemsize))
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    return (json.loads(data) if data else None), list(fds)


def send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """One message to the control socket."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    control.sendmsg([json.dumps(message).encode()], rights)


def read_call(channel: socket.socket) -> bytearray | None:
    """The next call's JSON, or None when the other end is gone. Nothing follows a call before it is answered."""
    data = bytearray()
    while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        more = channel.recv(READ_BYTES)
        if not more:
            return None
        data += more
    return data[LENGTH.size :]


def set_credentials(credentials: list[str | None]) -> None:
    """Puts the role's credentials where every SDK looks for them."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, value in zip(names, credentials, strict=True):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def describe(error: BaseException) -> str:
    """Type, message and trace of what a handler raised, without the frames of this file."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frames))
    return lines.strip()[-TRACE_CHARS_MAX:]


def call(handler: Any, request: dict[str, Any], fixed: dict[str, Any], log: CallLogHandler) -> tuple[bytes, bool]:
    """Runs one call. Returns the encoded answer, and whether this worker may take another call."""
    if request.get("credentials") is not None:
        set_credentials(request["credentials"])
    log.request_id = request["id"]
    context = Context(request["id"], time.monotonic() + request["remaining_s"], fixed)
    goes_on = True
    try:
        value = handler(request["event"], context)
    except MemoryError as error:
        answer, goes_on = {"memory": describe(error)}, False
    except SystemExit as error:
        answer, goes_on = {"crashed": f"the handler ended its process by sys.exit({error.code!r})"}, False
    except BaseException as error:
        text = describe(error)
        sys.stderr.write(f"[ERROR] {text}\n")
        answer = {"raised": f"{type(error).__name__}: {error}"[:TRACE_CHARS_MAX]}
    else:
        try:
            answer = {"value": value}
            encoded = _encode(answer)
            if len(encoded) > fixed["result_bytes_max"]:
                answer = {"too-large": f"the result has {len(encoded)} bytes, {fixed['result_bytes_max']} allowed"}
                encoded = _encode(answer)
            return encoded, goes_on
        except MemoryError as error:
            answer, goes_on = {"memory": describe(error)}, False
        except Exception as error:
            answer = {"malformed": f"the result is not JSON: {type(error).__name__}: {error}"[:TRACE_CHARS_MAX]}
    return _encode(answer), goes_on


def _encode(answer: dict[str, Any]) -> bytes:
    answer["peak_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Lone surrogates have no UTF-8; escaped they would be accepted here and refused by the reader.
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def flush() -> None:
    """Writes out what the handler printed, whatever it did to the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a stream that the handler closed
            stream.flush()


def serve(channel: socket.socket, handler: Any, fixed: dict[str, Any], log: CallLogHandler) -> NoReturn:
    """Answers calls until the other end closes."""
    # Kept from the handler, which may replace what is in the modules.
    flush_, call_, exit_, pid_, length = flush, call, os._exit, os.getpid, LENGTH
    worker_pid = pid_()
    goes_on = True
    while goes_on:
        request = read_call(channel)
        if request is None:
            exit_(0)
        answer, goes_on = call_(handler, json.loads(request), fixed, log)
        flush_()
        if pid_() != worker_pid:
            exit_(0)  # a process that the handler forked and that came back here: the answer is not its to give
        channel.sendall(length.pack(len(answer)) + answer)
    exit_(0)


def become_worker(channel_fd: int, log_fd: int, zygote_pid: int | None, contain: Any) -> socket.socket:
    """Turns this process into a worker: its own session, its own log pipe."""
    if zygote_pid is not None:
        os.setsid()
        contain.die_with_parent(zygote_pid)
    for fd in (1, 2):
        os.dup2(log_fd, fd)
    os.close(log_fd)
    return socket.socket(fileno=channel_fd)


class Zygote:
    """The forking side: knows its workers by number, reaps them and what they leave behind."""

    def __init__(self, control: socket.socket, contain: Any, tasks_fd: int) -> None:
        self._control = control
        self._contain = contain
        self._tasks_fd = tasks_fd
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd → (number, pid)
        self._poller = select.poll()

    def threads(self) -> int:
        """Threads of this process, native ones included: what a fork would lose."""
        try:
            return max(threading.active_count(), len(os.listdir(self._tasks_fd)))
        except OSError:
            return threading.active_count()

    def run(self, handler: Any, fixed: dict[str, Any], log: CallLogHandler) -> NoReturn:
        # When the node ends the control socket says so too, and then there is time to take along what workers started.
        if self.threads() == 1:
            self._contain.outlive_parent()
        control_fd = self._control.fileno()
        self._poller.register(control_fd, select.POLLIN)
        while True:
            for fd, _ in self._poller.poll():
                if fd != control_fd:
                    self._reap(fd)
                    continue
                message, fds = receive(self._control)
                if message is None:
                    for _, pid in self._workers.values():
                        with contextlib.suppress(OSError):
                            os.killpg(pid, signal.SIGKILL)
                    os._exit(0)
                if message["do"] == "fork":
                    self._fork(message["number"], fds, handler, fixed, log)
                elif message["do"] == "serve":
                    serve(become_worker(fds[0], fds[1], None, self._contain), handler, fixed, log)

    def _fork(self, number: int, fds: list[int], handler: Any, fixed: dict[str, Any], log: CallLogHandler) -> None:
        zygote_pid = os.getpid()
        flush()
        try:
            pid = os.fork()
        except OSError as error:
            send(self._control, {"refused": number, "why": str(error)})
            pid = -1
        if pid == 0:
            try:
                # What belongs to the zygote is none of the worker's.
                for fd in (self._control.detach(), self._tasks_fd, *self._workers):
                    os.close(fd)
                serve(become_worker(fds[0], fds[1], zygote_pid, self._contain), handler, fixed, log)
            finally:
                os._exit(70)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            return
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = (number, pid)
        self._poller.register(pidfd, select.POLLIN)
        send(self._control, {"forked": number, "pid": pid}, (pidfd,))

    def _reap(self, pidfd: int) -> None:
        number, pid = self._workers.pop(pidfd)
        self._poller.unregister(pidfd)
        # While the dead leader is not reaped its number can't be another group's.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        _, status, _ = os.wait4(pid, 0)
        os.close(pidfd)
        send(self._control, {"exited": number, "status": os.waitstatus_to_exitcode(status)})


def load_containment() -> Any:
    """The sibling module, without putting its folder on the path."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "containment.py")
    spec = importlib.util.spec_from_file_location("_nearpoint_containment", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> NoReturn:
    """Be a zygote until the control socket closes."""
    started = time.monotonic()
    control = socket.socket(fileno=int(sys.argv[1]))
    contain = load_containment()
    parent_pid = int(sys.argv[2])
    contain.die_with_parent(parent_pid)
    config, _ = receive(control)
    if config is None:
        os._exit(0)
    tasks_fd = os.open("/proc/self/task", os.O_RDONLY | os.O_DIRECTORY)
    os.environ.update(config["environment"])
    set_credentials(config["credentials"])
    os.chdir(config["package"])
    sys.argv[:] = [""]
    sys.path.insert(0, config["package"])
    sys.meta_path.append(RuntimeLibraries(config["libraries"], config["library_names"]))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    log = CallLogHandler()
    logging.root.addHandler(log)
    time.tzset()
    try:
        contained = contain.contain(config["containment"])
        contain.die_with_parent(parent_pid)
        os.environ["HOME"] = os.environ["TMPDIR"] = contained["scratch"]
        handler = load_handler(config["handler"])
    except BaseException as error:
        known = isinstance(error, HandlerNotUsableError)
        sys.stderr.write((str(error) if known else describe(error)) + "\n")
        flush()
        text = str(error) if known else f"{type(error).__name__}: {error}"
        send(control, {"failed": text[:TRACE_CHARS_MAX]})
        os._exit(1)
    flush()
    gc.collect()
    gc.freeze()
    zygote = Zygote(control, contain, tasks_fd)
    send(
        control,
        {
            "ready": True,
            "threads": zygote.threads(),
            "init_ms": (time.monotonic() - started) * 1000,
            "contained": contained,
        },
    )
    zygote.run(handler, config["fixed"], log)


if __name__ == "__main__":
    main()
