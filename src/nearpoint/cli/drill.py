"""`nearpoint fail` and `nearpoint heal`: outages on purpose."""

from __future__ import annotations

from pathlib import Path

from nearpoint.cli.console import CommandError, Exit, notes, print_json
from nearpoint.cli.world_client import WorldClient

EFFECTS = {
    "refuse": "links cut, connections reset",
    "blackhole": "nothing answers, nothing is refused",
    "slow": "2 s more each round trip",
    "errors": "503 to everything",
    "stop": "store stopped",
}


def fail(*, data: Path, region: str, how: str, as_json: bool) -> None:
    """Break a region until `heal`."""
    if how not in EFFECTS:
        raise CommandError(f"A region can fail by one of: {', '.join(EFFECTS)}.", Exit.USAGE)
    answer = WorldClient(data).ask("PUT", f"/faults/{region}", {"how": how})
    if as_json:
        print_json(answer)
    else:
        notes.print(f"{region} fails now: {EFFECTS[how]}.\n`nearpoint heal {region}` ends it.", soft_wrap=True)


def heal(*, data: Path, region: str, as_json: bool) -> None:
    """End a region's outage."""
    answer = WorldClient(data).ask("DELETE", f"/faults/{region}")
    if as_json:
        print_json(answer)
    else:
        notes.print(f"{region} is whole again.")
