"""`nearpoint status` and `nearpoint routes`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from nearpoint.cli.console import CommandError, Exit, print_json, results, table
from nearpoint.cli.world_client import WorldClient


def status(*, data: Path, as_json: bool) -> None:
    """Show the world's processes; exit code 1 when it is not ready."""
    client = WorldClient(data)
    answer = client.ask("GET", "/status")
    if as_json:
        print_json(answer)
    else:
        rows = table("process", "state", ">pid", ">restarts", ">uptime", ">memory")
        for row in answer["processes"]:
            uptime = f"{row['uptime_s']:.0f} s" if row["uptime_s"] is not None else ""
            memory = f"{row['rss_mb']:.0f} MB" if row["rss_mb"] is not None else ""
            rows.add_row(row["name"], row["state"], str(row["pid"] or ""), str(row["restarts"]), uptime, memory)
        total = sum(row["rss_mb"] or 0 for row in answer["processes"])
        rows.add_section()
        rows.add_row("together", "", "", "", "", f"{total:.0f} MB")
        results.print(rows)
        for line in limit_lines(answer["store_limits"]):
            results.print(line)
        for line in silent_stores(client):
            results.print(f"[yellow]{line}[/]", soft_wrap=True)
        for region, how in answer["faults"].items():
            results.print(f"[yellow]{region} fails on purpose ({how}): `nearpoint heal {region}` ends it.[/]")
    if not answer["ready"]:
        raise CommandError("The world is not ready.")


def limit_lines(limits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What own stores lack, a line each: what is refused because of it, what is put right, what is just not there."""
    for one in limits:
        said = [] if one["is_known"] else ["gives no access"]
        for what, findings in (("refused here", one["refused"]), ("put right here", one["mended"])):
            if findings:
                said.append(
                    f"{what}: " + ", ".join(f"{name} ({why})" if why else name for name, why in findings.items())
                )
        others = [name for name in one["lacks"] if name not in one["refused"] and name not in one["mended"]]
        if others:
            said.append(f"not there: {', '.join(others)}")
        if said:
            yield escape(f"Store of {one['region']}, bucket {one['bucket']}: {'; '.join(said)}")


def silent_stores(client: WorldClient) -> Iterator[str]:
    """A line for each store of one's own that no location has ever had an answer from."""
    own = {region: endpoint for region in client.world.regions if (endpoint := client.world.stores[region].endpoint)}
    reports = client.ask("GET", "/routes").values() if own else ()
    for region, endpoint in own.items():
        if reports and all(report["regions"].get(region, {}).get("rtt_ms") is None for report in reports):
            yield escape(f"The store of {region} does not answer at {endpoint}.")


def routes(*, data: Path, as_json: bool) -> None:
    """For each location: the measured time to each region, its health and dial, and what is chosen."""
    client = WorldClient(data)
    reports: dict[str, Any] = client.ask("GET", "/routes")
    places = client.world.locations
    answer = dict(sorted(reports.items(), key=lambda each: places.index(each[0]) if each[0] in places else len(places)))
    if as_json:
        print_json(answer)
        return
    if not answer:
        raise CommandError("No node has reported yet. Try again in a second.", Exit.UNREACHABLE)
    results.print("[bold]Measured round trip (ms)[/]", _measured(answer), sep="\n")
    for alias in sorted({alias for report in answer.values() for alias in report.get("access_points", {})}):
        results.print(f"[bold]{escape(_title(alias, answer))}[/]", _chosen(alias, answer), sep="\n")


def _measured(answer: Mapping[str, Any]) -> Table:
    regions = sorted({region for report in answer.values() for region in report["regions"]})
    rows = table("location", *(f">{region}" for region in regions))
    for location, report in answer.items():
        rows.add_row(location, *(_measure(report["regions"].get(region)) for region in regions))
    return rows


def _chosen(alias: str, answer: Mapping[str, Any]) -> Table:
    rows = table("location", "answers", "instead of")
    for location, report in answer.items():
        point = report.get("access_points", {}).get(alias)
        if point is not None:
            others = [f"{row['region']}: {row['reason']}" for row in point["routes"] if not row["chosen"]]
            rows.add_row(location, point["chosen"] or "[red]none[/]", "; ".join(others))
    return rows


def _title(alias: str, answer: Mapping[str, Any]) -> str:
    """The access point's name and what is on of what AWS has not."""
    points = [report["access_points"][alias] for report in answer.values() if alias in report.get("access_points", {})]
    on = [name.replace("_", " ") for name, is_on in points[0]["settings"].items() if is_on]
    return f"Access point {points[0]['name']} ({alias}); beyond AWS: {', '.join(on) or 'nothing'}"


def _measure(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    text = "?" if row["rtt_ms"] is None else f"{row['rtt_ms']:.0f}"
    return text if row["health"] == "healthy" else f"[red]{text} {row['health']}[/]"
