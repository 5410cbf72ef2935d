"""`nearpoint replication`: two-way rules for an access point's buckets, how far copies are, retries, the schedule."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Group
from rich.live import Live
from rich.markup import escape

from nearpoint.cli.console import CommandError, Exit, counted, notes, print_json, print_line, results, table
from nearpoint.cli.target import clients_at
from nearpoint.cli.world_client import WorldClient
from nearpoint.replication.schedule import EVERY_MAX_S, EVERY_MIN_S

SOCKET = "replication"
WATCH_S = 1.0
LAG_MS_SHOWN_MAX = 10_000
PACE_LOOKS = 6  # a rate is that of the last so many looks
_BUCKET_ARN = "arn:aws:s3:::"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def enable(*, data: Path, access_point: str, as_json: bool) -> None:
    """Keep versions in every bucket of the access point, and copy every write to all others."""
    client = WorldClient(data)
    clients = clients_at(client, client.world.regions[0])
    account = client.world.account_id
    try:
        control = clients.client("s3control", "us-west-2")  # the one region that lists access points
        listed = control.list_multi_region_access_points(AccountId=account)["AccessPoints"]
        members = {each["Region"]: each["Bucket"] for each in _find(listed, access_point)["Regions"]}
        if len(members) < 2:
            raise CommandError(f"{access_point} has one bucket: there is nowhere to copy to.", Exit.REFUSED)
        for region, bucket in members.items():
            keep_versions(clients.client("s3", region), region, bucket)
        made = []
        for region, bucket in members.items():
            s3 = clients.client("s3", region)
            others = [other for other in members.values() if other != bucket]
            configuration = with_rules(configuration_of(s3, bucket), others, account)
            s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=configuration)
            made += [{"from": bucket, "region": region, "to": other} for other in others]
    except ClientError as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except BotoCoreError as error:
        raise CommandError(
            f"{error} `nearpoint status` shows what fails; then the same again.", Exit.UNREACHABLE
        ) from error
    if as_json:
        print_json({"rules": made})
        return
    for each in made:
        results.print(f"{each['from']} → {each['to']}", soft_wrap=True, markup=False)
    notes.print("Every new write is copied from now on: `nearpoint replication status --watch`.")


def keep_versions(s3: Any, region: str, bucket: str) -> bool:
    """Have a bucket keep versions; whether it did not before. Raises CommandError where it cannot; ClientError."""
    if s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled":
        return False
    try:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NotImplemented", "501"):
            raise CommandError(
                f"The store of {region} keeps no versions: nothing can be copied to {bucket} or from it.", Exit.REFUSED
            ) from error
        raise
    return True


def _find(listed: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    name = wanted.rpartition("/")[2]
    for each in listed:
        if name in (each["Name"], each.get("Alias")):
            return each
    there = ", ".join(each["Name"] for each in listed) or "none"
    raise CommandError(f"There is no access point {wanted}. There are: {there}.", Exit.REFUSED)


def configuration_of(s3: Any, bucket: str) -> dict[str, Any] | None:
    """The rules of a bucket as they are, or None."""
    try:
        found: dict[str, Any] = s3.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]
        return found
    except ClientError as error:
        if error.response["Error"]["Code"] == "ReplicationConfigurationNotFoundError":
            return None
        raise


def with_rules(before: Mapping[str, Any] | None, destinations: Sequence[str], account_id: str) -> dict[str, Any]:
    """The configuration with a rule for everything to each destination; rules that lead elsewhere stay."""
    arns = {_BUCKET_ARN + name for name in destinations}
    kept = [] if before is None else [each for each in before["Rules"] if each["Destination"]["Bucket"] not in arns]
    first = max((each.get("Priority", 0) for each in kept), default=0) + 1
    on = {"Status": "Enabled"}
    rules = [
        {
            "ID": f"nearpoint-{name}",
            "Priority": first + at,
            "Filter": {},
            "Status": "Enabled",
            "DeleteMarkerReplication": on,
            "SourceSelectionCriteria": {"ReplicaModifications": on},
            "Destination": {"Bucket": _BUCKET_ARN + name},
        }
        for at, name in enumerate(destinations)
    ]
    role = f"arn:aws:iam::{account_id}:role/nearpoint-replication" if before is None else before["Role"]
    return {"Role": role, "Rules": [*kept, *rules]}


def status(*, data: Path, watch: bool, as_json: bool) -> None:
    """What is pending between which buckets, how long copies take, what was given up and why."""
    client = WorldClient(data)
    answer = client.ask("GET", "/status", port=SOCKET)
    if not watch:
        if as_json:
            print_json(answer)
        else:
            results.print(_shown(answer))
        return
    pace = Pace()
    in_place = results.is_terminal and not as_json
    with Live(_shown(answer), console=results, auto_refresh=False) if in_place else nullcontext() as live:
        while True:
            pace.see(answer, time.monotonic())
            if as_json:
                print_line(answer)
            elif live is not None:
                live.update(_shown(answer, pace), refresh=True)
            else:  # into a pipe or a file: one look after the other
                results.print(_shown(answer, pace))
            time.sleep(WATCH_S)
            try:
                answer = client.ask("GET", "/status", port=SOCKET)
            except CommandError as error:  # its process is being started again
                notes.print(str(error), markup=False)


class Pace:
    """How many copies a second each pair makes, of late."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[tuple[float, int]]] = {}

    def see(self, answer: Mapping[str, Any], now_s: float) -> None:
        """Take down how many there have been."""
        for pair in answer["pairs"]:
            seen = self._seen.setdefault((pair["bucket"], pair["destination"]), [])
            if seen and pair["copied"] < seen[-1][1]:  # the copier began anew
                seen.clear()
            seen.append((now_s, pair["copied"]))
            del seen[:-PACE_LOOKS]

    def rate(self, pair: Mapping[str, Any]) -> float | None:
        """Copies a second; None before it has been looked at twice."""
        seen = self._seen.get((pair["bucket"], pair["destination"]), [])
        if len(seen) < 2:
            return None
        return (seen[-1][1] - seen[0][1]) / max(0.001, seen[-1][0] - seen[0][0])


def schedule(*, data: Path, every: str | None, as_json: bool) -> None:
    """Show, or set, how often the regions are compared by themselves."""
    client = WorldClient(data)
    if every is None:
        answer = client.ask("GET", "/status", port=SOCKET)["reconcile"]
    else:
        answer = client.ask("POST", "/schedule", {"every_s": seconds_of(every)}, port=SOCKET)
    if as_json:
        print_json(answer)
    else:
        results.print("\n".join(_of_sweeps(answer)))


def seconds_of(text: str) -> float | None:
    """`90s`, `10m`, `6h`, `1d` in seconds; None for `off`. Raises CommandError."""
    if text == "off":
        return None
    unit = _UNITS_S.get(text[-1:])
    try:
        seconds = float(text[:-1]) * unit if unit is not None else float(text)
    except ValueError:
        raise CommandError(f"{text} is no span of time: 90s, 10m, 6h, 1d, or off.", Exit.USAGE) from None
    if not EVERY_MIN_S <= seconds <= EVERY_MAX_S:
        raise CommandError(f"{text} is not between {_span(EVERY_MIN_S)} and {_span(EVERY_MAX_S)}.", Exit.USAGE)
    return seconds


def _of_sweeps(answer: Mapping[str, Any]) -> list[str]:
    """The comparisons in sentences."""
    lines = []
    running, last = answer["running"], answer["last"]
    if running:
        where = f" ({' and '.join(running['pair'])}, at {running['last_key'][:60]})" if running["pair"] else ""
        lines.append(f"Comparing all buckets now ({running['cause']}): {_of_sweep(running)}{where}")
    elif last and last["ended_at"]:
        lines.append(f"Compared all buckets {_ago(last['ended_at'])} ({last['cause']}): {_of_sweep(last)}")
    elif last:
        lines.append(f"A comparison was interrupted: {_of_sweep(last)}")
    lines += [f"Not compared: {each}" for each in ((running or last or {}).get("left_out") or ())]
    if answer["obstacle"]:
        lines.append(f"The comparison waits: {answer['obstacle']}")
    if answer["every_s"] is None:
        lines.append("Comparing by the clock is off.")
    else:
        left_s = max(0.0, answer["next_at"] - time.time())
        lines.append(f"Compared by itself every {_span(answer['every_s'])}; next in {_span(left_s)}.")
    return [escape(line) for line in lines]


def _of_sweep(sweep: Mapping[str, Any]) -> str:
    differ = sweep["missing"] + sweep["amended"]
    refused = f", {sweep['refused']} refused" if sweep["refused"] else ""
    return f"{counted(sweep['keys'], 'key')}, {differ:,} differed, {sweep['repaired']:,} repaired{refused}"


def _ago(at: float) -> str:
    return f"{_span(max(0.0, time.time() - at))} ago"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def _shown(answer: Mapping[str, Any], pace: Pace | None = None) -> Group:
    shown: list[Any] = []
    for pair in answer["pairs"]:
        shown.append(f"[bold]{_place(pair['bucket'], pair['from'])} → {_place(pair['destination'], pair['to'])}[/]")
        shown.append(f"  {_figures(pair, pace.rate(pair) if pace is not None else None)}")
        if remark := _remark(pair):
            shown.append(f"  [yellow]{escape(remark)}[/]")
    if not answer["pairs"] and not answer["unreachable"]:
        shown = ["No bucket has replication rules. (`nearpoint replication enable ACCESS-POINT` makes them.)"]
    if answer["parked"]:
        given_up = table("given up", "version", "to", "why", title="`nearpoint replication retry` tries again")
        for each in answer["parked"]:
            given_up.add_row(f"{each['bucket']}/{each['key']}", each["version"], each["destination"], each["reason"])
        shown.append(given_up)
    shown += [
        f"[yellow]{each['bucket']} ({each['region']}) lacks {each['lacks']}: {each['so']}.[/]"
        for each in answer.get("lacks", ())
    ]
    shown += [f"[yellow]The log of {region} cannot be read: {why}[/]" for region, why in answer["unreachable"].items()]
    shown += [f"[dim]{line}[/]" for line in _of_sweeps(answer["reconcile"])]
    return Group(*shown)


def _place(bucket: str, region: str | None) -> str:
    """The bucket, and its region where its name doesn't say it."""
    return bucket if region and region in bucket else f"{bucket} ({region or '?'})"


def _remark(pair: Mapping[str, Any]) -> str:
    if pair["obstacle"]:
        return str(pair["obstacle"])
    if pair["clock_ahead_s"]:
        return f"the clock of {pair['from']} is {pair['clock_ahead_s']:.0f} s ahead: set it"
    return ""


def retry(*, data: Path, as_json: bool) -> None:
    """Take up what was given up."""
    answer = WorldClient(data).ask("POST", "/retry", port=SOCKET)
    if as_json:
        print_json(answer)
    else:
        notes.print(
            f"{counted(answer['retried'], 'write')} taken up again." if answer["retried"] else "Nothing to retry."
        )
    if answer["unreachable"]:
        there = "; ".join(f"{region}: {why}" for region, why in answer["unreachable"].items())
        raise CommandError(f"Not everywhere: {there}", Exit.UNREACHABLE)


def _figures(pair: Mapping[str, Any], rate: float | None) -> str:
    """What is pending, what was copied and how long that took, what was given up; `rate` is in copies a second."""
    if pair["pending"] is None:
        said = ["? pending"]
    elif pair["pending"] == 0:
        said = ["0 pending"]
    else:
        oldest = "" if pair["oldest_s"] is None else f", oldest {pair['oldest_s']:.1f} s"
        said = [f"{pair['pending']:,} pending ({_bytes(pair['pending_bytes'])}{oldest})"]
    took = "" if pair["lag_ms_p50"] is None else f" (p50 {_lag(pair['lag_ms_p50'])}, p99 {_lag(pair['lag_ms_p99'])})"
    said.append(f"{pair['copied']:,} copied{took}")
    if rate is not None:
        said.append(f"{rate:,.0f}/s" + (f", {_span(pair['pending'] / rate)} left" if rate and pair["pending"] else ""))
    if pair["failed"]:
        said.append(f"[red]{pair['failed']:,} failed[/]")
    return ", ".join(said)


def _lag(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < LAG_MS_SHOWN_MAX else _span(ms / 1000)


def _bytes(value: int | None) -> str:
    if value is None:
        return "?"
    size = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
