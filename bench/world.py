"""A whole world on two cores: how soon it is ready, what memory it takes, what it costs when nothing happens.

    python -m bench.world [--rounds 5] [--idle 10] [--json]

The default world: three regions, eight edges. Start and memory are of a new data folder each round, and of the second
start on it; memory is counted by proportional share (PSS) over all its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

READY_S_TARGET, MEMORY_MB_TARGET = 4.0, 600.0
CORES = {0, 1}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _nearpoint(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nearpoint", *arguments], capture_output=True, text=True, check=True, timeout=120
    )


def _cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def run(rounds: int, idle_s: float) -> dict[str, float]:
    """Medians: `first_start_s`, `second_start_s`, `memory_mb`, and `idle_cores`, the share of a core used at rest."""
    first: list[float] = []
    second: list[float] = []
    memory: list[float] = []
    idle: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="nearpoint-bench-") as folder:
            data = f"{folder}/world"
            for starts in (first, second):
                started = time.monotonic()
                _nearpoint("up", "--detach", "--data", data)
                starts.append(time.monotonic() - started)
                if starts is first:
                    _nearpoint("down", "--data", data)
            status: dict[str, Any] = json.loads(_nearpoint("status", "--json", "--data", data).stdout)
            pids = [row["pid"] for row in status["processes"]]
            before = _cpu_s(pids)
            time.sleep(idle_s)
            idle.append((_cpu_s(pids) - before) / idle_s)
            status = json.loads(_nearpoint("status", "--json", "--data", data).stdout)
            memory.append(sum(row["rss_mb"] or 0.0 for row in status["processes"]))
            _nearpoint("down", "--data", data)
    return {
        "first_start_s": round(statistics.median(first), 2),
        "second_start_s": round(statistics.median(second), 2),
        "memory_mb": round(statistics.median(memory), 0),
        "idle_cores": round(statistics.median(idle), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.world", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, CORES & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    found = run(options.rounds, options.idle)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(
            f"ready, new folder        {found['first_start_s']:8.2f} s     (target {READY_S_TARGET:.0f})\n"
            f"ready, folder it had     {found['second_start_s']:8.2f} s\n"
            f"memory of the world      {found['memory_mb']:8.0f} MB    (target {MEMORY_MB_TARGET:.0f})\n"
            f"at rest                  {found['idle_cores']:8.3f} cores\n"
        )
    met = found["first_start_s"] < READY_S_TARGET and found["memory_mb"] < MEMORY_MB_TARGET
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
