"""Counters that cost next to nothing to count, and one place that shows them for all workers (Prometheus's text form).

Each process counts in a file of its own that is mapped into its memory: a row of numbers, and the names they go by.
Whoever shows them reads every file of the folder and adds up what has the same name. A process that is started again
goes on with the file of the one before it, so that counters never go back.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SLOTS_MAX = 8_192  # of one process: more than a hundred behaviors have results
NAME_BYTES_MAX = 254
_HEADER_BYTES = 4_096
_NAME = struct.Struct(f"H{NAME_BYTES_MAX}s")
_SIZE = _HEADER_BYTES + SLOTS_MAX * (8 + _NAME.size)
_NAMES_AT = _HEADER_BYTES + SLOTS_MAX * 8

# From 100 µs to half a minute.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric: what it is called, what it says, and how the processes' values come to one (`largest` or their sum)."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    largest: bool = False


class Counter:
    """One number. For a gauge there is `set`."""

    __slots__ = ("at", "values")

    def __init__(self, values: memoryview[float], at: int) -> None:
        self.values = values
        self.at = at

    def add(self, amount: float = 1.0) -> None:
        """Count."""
        self.values[self.at] += amount

    def set(self, value: float) -> None:
        """Put a value in its place."""
        self.values[self.at] = value


class Histogram:
    """How often a value was how large."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, bounds: Sequence[float], buckets: Sequence[Counter], total: Counter) -> None:
        self._bounds = bounds
        self._buckets = buckets
        self._sum = total

    def observe(self, value: float) -> None:
        """Count one value."""
        self._buckets[bisect_left(self._bounds, value)].add()
        self._sum.add(value)


class Registry:
    """The numbers of one process; in `path`, or in its own memory alone. Raises OSError when the file can't be used."""

    def __init__(self, path: Path | None = None) -> None:
        self._known: dict[str, Counter] = {}
        if path is None:
            self._map = mmap.mmap(-1, _SIZE)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, _SIZE)
                os.posix_fallocate(descriptor, 0, _SIZE)  # a page without a block on a full disk would be a SIGBUS
                self._map = mmap.mmap(descriptor, _SIZE)
            finally:
                os.close(descriptor)
        view = memoryview(self._map)
        self._count = view[:8].cast("Q")
        self.values: memoryview[float] = view[_HEADER_BYTES:_NAMES_AT].cast("d")
        for at, name in enumerate(_names(self._map)):
            self._known[name] = Counter(self.values, at)

    def counter(self, family: Family, **labels: str) -> Counter:
        """The number of this name and these labels; the same one for the same."""
        return self._slot(_sample(family.name, labels))

    def histogram(self, family: Family, bounds: Sequence[float] = SECONDS, **labels: str) -> Histogram:
        """The histogram of this name and these labels. `bounds` are the buckets' upper ends."""
        names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        buckets = [self._slot(_sample(f"{family.name}_bucket", {**labels, "le": name})) for name in names]
        return Histogram(bounds, buckets, self._slot(_sample(f"{family.name}_sum", labels)))

    def _slot(self, name: str) -> Counter:
        found = self._known.get(name)
        if found is not None:
            return found
        at = self._count[0]
        encoded = name.encode("utf-8")
        if at >= SLOTS_MAX - 1 or len(encoded) > NAME_BYTES_MAX:
            # What has no room is counted together, and not under a name.
            return Counter(self.values, SLOTS_MAX - 1)
        _NAME.pack_into(self._map, _NAMES_AT + at * _NAME.size, len(encoded), encoded)
        self._count[0] = at + 1
        made = self._known[name] = Counter(self.values, at)
        return made


def _sample(name: str, labels: Mapping[str, str]) -> str:
    if not labels:
        return name
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in labels.values())
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in zip(labels, escaped, strict=True)) + "}"


def _names(data: mmap.mmap | bytes) -> list[str]:
    count = min(int.from_bytes(data[:8], "little"), SLOTS_MAX)
    names = []
    for at in range(count):
        length, encoded = _NAME.unpack_from(data, _NAMES_AT + at * _NAME.size)
        names.append(encoded[:length].decode("utf-8", "replace"))
    return names


def read(folder: Path) -> list[dict[str, float]]:
    """The numbers of every process that counts in a folder, by name."""
    found: list[dict[str, float]] = []
    for path in sorted(folder.glob("*.metrics")):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if len(data) == _SIZE:
            names = _names(data)
            values = struct.unpack_from(f"<{len(names)}d", data, _HEADER_BYTES)
            found.append(dict(zip(names, values, strict=True)))
    return found


def render(processes: Iterable[Mapping[str, float]], families: Iterable[Family]) -> bytes:
    """The text that Prometheus scrapes (text/plain; version=0.0.4). Numbers of no family are left out."""
    by_family: dict[str, dict[str, float]] = {family.name: {} for family in families}
    known = {family.name: family for family in families}
    for numbers in processes:
        for name, value in numbers.items():
            family = known.get(_family_of(name, known))
            if family is not None:
                samples = by_family[family.name]
                before = samples.get(name, 0.0)
                samples[name] = max(before, value) if family.largest else before + value
    lines: list[str] = []
    for family_name, samples in by_family.items():
        family = known[family_name]
        lines += [f"# HELP {family_name} {family.help}", f"# TYPE {family_name} {family.kind}"]
        if family.kind == "histogram":
            lines += _histogram_lines(family_name, samples)
        else:
            lines += [f"{name} {value:.17g}" for name, value in sorted(samples.items())]
    return ("\n".join(lines) + "\n").encode()


def _family_of(name: str, known: Mapping[str, Family]) -> str:
    base = name.partition("{")[0]
    if base in known:
        return base
    for suffix in ("_bucket", "_sum"):
        if base.endswith(suffix):
            return base.removesuffix(suffix)
    return ""


def _histogram_lines(family: str, samples: Mapping[str, float]) -> list[str]:
    """Buckets are kept each by itself and shown as Prometheus wants them: each with all those below."""
    series: dict[str, list[tuple[float, str, float]]] = {}
    for name, value in samples.items():
        if name.startswith(f"{family}_bucket"):
            labels, _, bound = name.partition("{")[2].removesuffix('"}').rpartition('le="')
            series.setdefault(labels.rstrip(","), []).append((float(bound), bound, value))
    lines: list[str] = []
    for labels, buckets in sorted(series.items()):
        count = 0.0
        prefix = labels + "," if labels else ""
        for _, bound, value in sorted(buckets):
            count += value
            lines.append(f'{family}_bucket{{{prefix}le="{bound}"}} {count:.17g}')
        tail = f"{{{labels}}}" if labels else ""
        lines.append(f"{family}_sum{tail} {samples.get(f'{family}_sum{tail}', 0.0):.17g}")
        lines.append(f"{family}_count{tail} {count:.17g}")
    return lines
