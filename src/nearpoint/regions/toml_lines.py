"""Where in a TOML text a value stands, so that a mistake can be shown with its line."""

from __future__ import annotations

import re
from collections.abc import Sequence

TomlPath = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(?P<open>\[\[?)\s*(?P<name>[^\]]+?)\s*\]\]?")
_KEY = re.compile(r"\s*(?P<name>[A-Za-z0-9_\-.\"' ]+?)\s*=")
_NAMES = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
_PATH = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]|\[\.\.\.\]")


def parse_path(text: str) -> TomlPath:
    """msgspec's `$.regions[1].endpoint` as `("regions", 1, "endpoint")`."""
    return tuple(int(at) if at else name for name, at in _PATH.findall(text) if at or name)


def show_path(path: TomlPath) -> str:
    """`regions[1].endpoint`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class Lines:
    """The lines of tables and keys of a TOML text that parses, numbered from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[TomlPath, int] = {}
        self._counts: dict[TomlPath, int] = {}
        prefix: TomlPath = ()
        for number, line in enumerate(text.splitlines(), 1):
            header = _HEADER.match(line)
            if header is not None:
                prefix = self._table(_names(header["name"]), is_array=header["open"] == "[[")
                self._lines.setdefault(prefix, number)
                continue
            key = _KEY.match(line)
            if key is not None:
                self._lines.setdefault((*prefix, *_names(key["name"])), number)

    def _table(self, names: Sequence[str], *, is_array: bool) -> TomlPath:
        prefix: TomlPath = ()
        for at, name in enumerate(names):
            prefix = (*prefix, name)
            if is_array and at == len(names) - 1:
                self._counts[prefix] = self._counts.get(prefix, 0) + 1
            if prefix in self._counts:
                prefix = (*prefix, self._counts[prefix] - 1)
        return prefix

    def find(self, path: TomlPath) -> int | None:
        """The line of a value, or of the nearest thing around it that has one."""
        for end in range(len(path), 0, -1):
            line = self._lines.get(path[:end])
            if line is not None:
                return line
        return None


def _names(text: str) -> list[str]:
    return [double or single or bare for double, single, bare in _NAMES.findall(text)]
