"""`nearpoint settings`: what an access point of the world does beyond AWS, shown and changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from nearpoint.cli.console import notes, print_json, results, table
from nearpoint.cli.world_client import WorldClient

CONTROL = "control.http"
WORDS = {
    "read_fallback": "what the nearest region has not (a key, a newer version) is read in the one that has it",
    "hedge_reads": "a second region is asked when the first is slower than it usually is",
    "affinity": "x-nearpoint-prefer-region keeps a client at the region it names",
}


def command(*, data: Path, access_point: str, changes: dict[str, bool], as_json: bool) -> None:
    """Change what is named, then show all; a change is in force on every node then."""
    client = WorldClient(data)
    path = f"/-/settings/{quote(access_point.rpartition('/')[2], safe='')}"
    answer: dict[str, Any] = (
        client.ask("PUT", path, changes, port=CONTROL) if changes else client.ask("GET", path, port=CONTROL)
    )
    if as_json:
        print_json(answer)
        return
    rows = table("setting", "", "what it does", title=f"{answer['name']} ({answer['alias']})")
    for name, is_on in answer["settings"].items():
        rows.add_row(name.replace("_", "-"), "[green]on[/]" if is_on else "off", WORDS[name])
    results.print(rows)
    if changes:
        notes.print("In force on every node.")
