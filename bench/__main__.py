"""`make bench`: every measurement, one after the other, each in a process of its own.

    python -m bench [NAME …]

A name is a module of this folder (signing, wire, functions, store, accesspoint, edge …). Exit code 1
when a target was missed. A peer that is not installed is named with the way to install it, and its row stays without a
ratio.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ORDER = (
    "signing",
    "functions",
    "wire",
    "store",
    "accesspoint",
    "accesspoint_transfer",
    "edge",
    "edge_scale",
    "replication",
    "replication_foreign",
    "world",
    "outage",
)


def main(names: list[str]) -> int:
    known = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")}
    unknown = set(names) - known
    if unknown:
        sys.stderr.write(f"No such measurement: {', '.join(sorted(unknown))}. There are: {', '.join(ORDER)}.\n")
        return 2
    missed = []
    for name in names or [each for each in ORDER if each in known]:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0:
            missed.append(name)
    if missed:
        sys.stdout.write(f"\nA target was missed in: {', '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
