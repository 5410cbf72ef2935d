"""`nearpoint verify`: whether a deployment answers as it should."""

from __future__ import annotations

from pathlib import Path

from nearpoint.aws.verify import verify
from nearpoint.aws.viewer import Viewer
from nearpoint.cli.console import Exit, print_json, results, table
from nearpoint.cli.progress import Progress
from nearpoint.cli.target import check_account, clients_of, interruptible, sentences
from nearpoint.cli.world_client import WorldClient

_COLOURS = {"right": "green", "wrong": "red", "unknown": "yellow"}


def command(
    *,
    stack: str,
    target: str,
    profile: str | None,
    account: str | None,
    failover: bool | None,
    data: Path,
    as_json: bool,
) -> Exit:
    """Look and report. FAILED where something was wrong."""
    with sentences():
        clients = clients_of(target, data=data, profile=profile)
        check_account(clients, account, stack)
        viewers = [Viewer("here")] if target == "aws" else _viewers(data)
        turn = target == "local" if failover is None else failover
        with interruptible("Its markers are taken away and the dials are as they were; run it again at any time."):
            report = verify(clients, stack, viewers, Progress(yes=True), failover=turn)
    if as_json:
        print_json(report.as_json)
    else:
        rows = table("", "expected", "seen")
        for check in report.checks:
            rows.add_row(f"[{_COLOURS[check.verdict]}]{check.verdict}[/]", check.name, check.seen)
        results.print(rows)
    return Exit.DONE if report.right else Exit.FAILED


def _viewers(data: Path) -> list[Viewer]:
    client = WorldClient(data)
    bundle, port = str(client.layout.trust_bundle), client.world.ports["proxy"]
    return [
        Viewer(place, proxy_url=f"http://{place}:x@127.0.0.1:{port}", ca_bundle=bundle)
        for place in client.world.locations
    ]
