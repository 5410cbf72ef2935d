"""`nearpoint logs`: what the processes and the functions wrote, and go on writing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nearpoint.cli.console import CommandError
from nearpoint.world.layout import Layout

TAIL_BYTES_MAX = 4 * 1024 * 1024
POLL_S = 0.2


def _files(layout: Layout, names: list[str]) -> dict[str, Path]:
    """Log files by name: a function's as `functions/NAME`, a process's as its name. All functions without names."""
    found = {f"functions/{path.stem}": path for path in sorted(layout.function_logs.glob("*.log"))}
    if names:
        found |= {path.stem: path for path in sorted(layout.logs.glob("*.log"))}
        found |= {path.stem: path for path in sorted(layout.function_logs.glob("*.log"))}
        missing = [name for name in names if name not in found]
        if missing:
            known = ", ".join(sorted(found)) or "none yet"
            raise CommandError(f"No log named {', '.join(missing)}. There are: {known}.")
        return {name: found[name] for name in names}
    return found


def _tail(path: Path, lines: int) -> tuple[list[bytes], int]:
    """The last lines and the offset behind them."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES_MAX))
        content = file.read(size - file.tell())
    return (content.splitlines()[-lines:] if lines else []), size


def _follow(layout: Layout, names: list[str], offsets: dict[Path, int]) -> Iterator[tuple[str, bytes]]:
    while True:
        for name, path in _files(layout, names).items():
            at = offsets.get(path, 0)
            size = path.stat().st_size
            if size < at:
                at = 0  # rotated
            if size > at:
                with path.open("rb") as file:
                    file.seek(at)
                    content = file.read(TAIL_BYTES_MAX)
                whole, newline, _ = content.rpartition(b"\n")
                offsets[path] = at + len(whole) + len(newline)
                for line in whole.splitlines():
                    yield name, line
        time.sleep(POLL_S)


def logs(*, data: Path, names: list[str], lines: int, follow: bool, as_json: bool) -> None:
    """Print the last lines of the named logs (all functions' without a name), then go on with `follow`.

    With `as_json` an object a line, as it was kept, with the name of its log; otherwise functions' lines as printed.
    """
    layout = Layout(data)
    files = _files(layout, names)
    offsets: dict[Path, int] = {}
    several = len(files) != 1

    def show(name: str, line: bytes) -> None:
        readable = _readable(line)
        text = _object(name, line) if as_json else f"{name}: {readable}" if several else readable
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    for name, path in files.items():
        tail, offsets[path] = _tail(path, lines)
        for line in tail:
            show(name, line)
    if not files and not follow:
        raise CommandError("No function has run yet. Process logs have names: see `nearpoint status`.")
    if follow:
        for name, line in _follow(layout, names, offsets):
            show(name, line)


def _readable(line: bytes) -> str:
    """A function's line with its time; any other line as it is."""
    try:
        record = json.loads(line)
        return f"{record['at']} {record['line']}"
    except (ValueError, KeyError, TypeError):
        return line.decode("utf-8", "replace")


def _object(name: str, line: bytes) -> str:
    """A line for scripts; one that is no JSON object itself becomes the `line` of one."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        record = {"line": line.decode("utf-8", "replace")}
    return json.dumps({"log": name} | record)
