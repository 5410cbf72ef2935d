"""`nearpoint members`: adds a region to a running access point, drains one, removes one; no write is lost on the way.

Every step looks at what is there and does what is missing, so a command that was interrupted goes on when it is given
again. What is copied meanwhile, and when it has arrived, the replication's own status says; that nothing is left behind
a comparison of the buckets shows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError
from rich.live import Live
from rich.text import Text

from nearpoint.cli.console import CommandError, Exit, counted, notes, print_json, results, table
from nearpoint.cli.reconcile import Watched, peers_of, regions_answer
from nearpoint.cli.replication import SOCKET, configuration_of, keep_versions, with_rules
from nearpoint.cli.target import clients_at
from nearpoint.cli.world_client import WorldClient
from nearpoint.replication.sweep import Memory, SweepBusyError, only_one, sweep
from nearpoint.wire.client import Client

CONTROL = "control.http"
LOOK_S = 0.5
LINE_EVERY_S = 5.0
UPLOADS_SHOWN_MAX = 5
_BUCKET_ARN = "arn:aws:s3:::"


class Members:
    """One access point's members, and the means to change them."""

    def __init__(self, data: Path, access_point: str, *, timeout_s: float) -> None:
        self.client = WorldClient(data)
        self._path = f"/-/members/{quote(access_point.rpartition('/')[2], safe='')}"
        self._clients = clients_at(self.client, self.client.world.regions[0])
        self._until_s = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._ask("GET")

    def _ask(self, method: str, more: str = "", body: Any = None) -> None:
        """Have the access point shown or changed. Raises CommandError."""
        answer = self.client.ask(method, self._path + more, body, port=CONTROL)
        self.name: str = answer["name"]
        self.by_region: dict[str, dict[str, Any]] = {each["region"]: each for each in answer["members"]}

    def s3(self, region: str) -> Any:
        """S3 at a region."""
        return self._clients.client("s3", region)

    def dial(self, bucket: str, percent: int) -> None:
        """Add the bucket, or turn its dial; every node runs by it then."""
        self._ask("PUT", body={"bucket": bucket, "dial_percent": percent})

    def take_out(self, region: str) -> None:
        """End a membership; every node runs by it then."""
        self._ask("DELETE", f"/{quote(region, safe='')}")

    def member(self, region: str) -> dict[str, Any]:
        """The member in a region. Raises CommandError when there is none."""
        if region not in self.by_region:
            there = ", ".join(self.by_region)
            raise CommandError(f"{self.name} has no member in {region}. It has: {there}.", Exit.REFUSED)
        return self.by_region[region]

    def others(self, region: str) -> dict[str, str]:
        """The other members' buckets, by region."""
        return {each["region"]: each["bucket"] for each in self.by_region.values() if each["region"] != region}

    # --- what takes its time

    def wait(self, what: str, left: Callable[[], str | None]) -> None:
        """Until `left` says None; what it says else is shown. Raises CommandError when that takes too long."""
        said_s = time.monotonic()
        with (
            Live(Text(what), console=notes, transient=True, refresh_per_second=8)
            if notes.is_terminal
            else nullcontext() as on
        ):
            while (found := left()) is not None:
                line = f"{what}: {found}"
                if on is not None:
                    on.update(Text(line))
                elif time.monotonic() - said_s > LINE_EVERY_S:
                    said_s = time.monotonic()
                    notes.print(line, markup=False, soft_wrap=True)
                if time.monotonic() > self._until_s:
                    raise CommandError(
                        f"Not done after {self._timeout_s:.0f} s; {line}. The same command goes on from here.",
                        Exit.TIMED_OUT,
                    )
                time.sleep(LOOK_S)

    def owed(self, *, by: str | None = None, to: str | None = None, before: float | None = None) -> str | None:
        """What is on its way from or to a bucket (of what was written `before` that time), or None when nothing is.

        Raises CommandError for what was given up: waiting does not help there.
        """
        try:
            answer = self.client.ask("GET", "/status", port=SOCKET)
        except CommandError as error:  # its process is being started again
            return str(error)
        if answer["unreachable"]:
            return f"{', '.join(answer['unreachable'])} cannot be reached"
        pairs = [pair for pair in answer["pairs"] if by in (None, pair["bucket"]) and to in (None, pair["destination"])]
        if any(pair["failed"] for pair in pairs):
            raise CommandError(
                "Some writes were given up; `nearpoint replication status` says why."
                " Remove the cause, then `nearpoint replication retry`, then the same command again.",
                Exit.REFUSED,
            )
        if before is not None:
            now = time.time()
            pairs = [pair for pair in pairs if pair["oldest_s"] is not None and now - pair["oldest_s"] <= before]
        pending = sum(pair["pending"] or 0 for pair in pairs)
        return f"{pending} writes are on their way" if pending else None

    def compare(self, bucket: str, name: str) -> dict[str, int]:
        """Compare the bucket with all others and repair; what was found. Raises CommandError for what was refused."""
        folder = self.client.layout.replication
        memory = Memory(folder, repair=True, name=name)

        async def run(shown: Watched) -> dict[str, int]:
            client = Client()
            try:
                done = await sweep(
                    peers_of(self.client.world, client), memory, repair=True, cause=name, about=[bucket],
                    on_progress=shown.note,
                )  # fmt: skip
            finally:
                await client.close()
            counts = ("keys", "versions", "repaired", "refused")
            return {each: sum(getattr(report, each) for _, _, report in done.reports) for each in counts}

        def busy() -> str | None:
            try:
                with only_one(folder):
                    return None
            except SweepBusyError:
                return "another comparison is under way"

        while True:
            self.wait("Comparing", busy)
            try:
                with regions_answer(), only_one(folder), Watched() as shown:
                    found = asyncio.run(run(shown))
                break
            except SweepBusyError:
                continue
        if found["refused"]:
            raise CommandError(
                f"Refused: {counted(found['refused'], 'version')}; `nearpoint reconcile` says which and why.",
                Exit.FAILED,
            )
        return found


def step(text: str) -> None:
    """What is done now, for whoever watches."""
    notes.print(text, markup=False, soft_wrap=True)


@contextmanager
def words() -> Iterator[None]:
    """What AWS's client says as a line for the user, and how an interrupted command goes on."""
    try:
        yield
    except ClientError as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except BotoCoreError as error:
        raise CommandError(f"{error} The same command goes on from here.", Exit.UNREACHABLE) from error
    except KeyboardInterrupt:
        notes.print("Stopped. The same command goes on from here.")
        raise


def show(*, data: Path, access_point: str, as_json: bool) -> None:
    """The members, their dials, and what is on its way from and to each."""
    members = Members(data, access_point, timeout_s=0)
    pairs = members.client.ask("GET", "/status", port=SOCKET)["pairs"]
    rows = [
        each
        | {
            "pending_from": sum(pair["pending"] or 0 for pair in pairs if pair["bucket"] == each["bucket"]),
            "pending_to": sum(pair["pending"] or 0 for pair in pairs if pair["destination"] == each["bucket"]),
        }
        for each in members.by_region.values()
    ]
    if as_json:
        print_json({"access_point": members.name, "members": rows})
        return
    shown = table("region", "bucket", ">dial", ">pending\nfrom, to")
    for row in rows:
        shown.add_row(
            row["region"], row["bucket"], f"{row['dial_percent']} %", f"{row['pending_from']}, {row['pending_to']}"
        )
    results.print(shown)


def add(
    *, data: Path, access_point: str, region: str, bucket: str, create: bool, dial: int, timeout_s: float, as_json: bool
) -> None:
    """Add a bucket: rules both ways, what the others hold copied over, then its dial is turned up."""
    members = Members(data, access_point, timeout_s=timeout_s)
    if region not in members.client.world.regions:
        raise CommandError(
            f"This world has no region {region}: `nearpoint down`, then `nearpoint up --regions {region}`.",
            Exit.REFUSED,
        )
    present = members.by_region.get(region)
    if present is not None and present["bucket"] != bucket:
        raise CommandError(f"{members.name} has a member in {region} already: {present['bucket']}.", Exit.REFUSED)
    with words():
        if present is None or not present["dial_percent"]:
            _make_ready(members, region, bucket, create=create)
            members.dial(bucket, 0)
            begun = time.time()
            _rules_both_ways(members, region, bucket)
            step(f"{bucket} is a member at dial 0, and takes part in every write. Copying what the others hold …")
            found = members.compare(bucket, f"add-{bucket}")
            step(f"{counted(found['keys'], 'key')} compared, {counted(found['repaired'], 'version')} copied.")
            members.wait("Waiting for earlier writes", lambda: members.owed(to=bucket, before=begun))
        members.dial(bucket, dial)
    if as_json:
        print_json({"access_point": members.name, "members": list(members.by_region.values())})
    else:
        step(f"{region} is a member of {members.name}, at dial {dial}.")


def _make_ready(members: Members, region: str, bucket: str, *, create: bool) -> None:
    s3 = members.s3(region)
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        if not create:
            raise CommandError(
                f"There is no bucket {bucket} in {region}. Say --create to have it made.", Exit.REFUSED
            ) from None
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
        step(f"Made the bucket {bucket} in {region}.")
    everywhere = members.others(region) | {region: bucket}
    for each_region, each in everywhere.items():
        if keep_versions(members.s3(each_region), each_region, each):
            step(f"{each} keeps versions from now on.")


def _rules_both_ways(members: Members, region: str, bucket: str) -> None:
    """From the newcomer to all others first: what is written in it must never stay there alone."""
    others = members.others(region)
    _lead(members, region, bucket, list(others.values()))
    for each_region, each in others.items():
        _lead(members, each_region, each, [bucket])


def _lead(members: Members, region: str, bucket: str, destinations: list[str]) -> None:
    s3 = members.s3(region)
    before = configuration_of(s3, bucket)
    wanted = with_rules(before, destinations, members.client.world.account_id)
    if wanted != before:
        s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=wanted)


def drain(*, data: Path, access_point: str, region: str, timeout_s: float, as_json: bool) -> None:
    """Let no new request go to a member, and wait until everything that it took is in the others."""
    members = Members(data, access_point, timeout_s=timeout_s)
    bucket = members.member(region)["bucket"]
    with words():
        _drain(members, region, bucket)
    if as_json:
        print_json({"access_point": members.name, "region": region, "drained": True})
    else:
        step(f"{region} is drained: all others have what it took. `nearpoint members remove` takes it out.")


def _drain(members: Members, region: str, bucket: str) -> None:
    if members.member(region)["dial_percent"]:
        members.dial(bucket, 0)
        step(f"No new request goes to {region}.")
    members.wait("Multipart uploads under way", lambda: _uploads(members, region, bucket))
    begun = time.time()
    members.wait(f"Writes that {bucket} took", lambda: members.owed(by=bucket, before=begun))
    found = members.compare(bucket, f"drain-{bucket}")
    step(f"{counted(found['keys'], 'key')} compared, {counted(found['repaired'], 'version')} brought to where missing.")


def _uploads(members: Members, region: str, bucket: str) -> str | None:
    found = members.s3(region).list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    if not found:
        return None
    keys = ", ".join(each["Key"] for each in found[:UPLOADS_SHOWN_MAX])
    more = ", …" if len(found) > UPLOADS_SHOWN_MAX else ""
    return f"{len(found)} ({keys}{more}); complete or abort them"


def remove(*, data: Path, access_point: str, region: str, abort_uploads: bool, timeout_s: float, as_json: bool) -> None:
    """Take a drained member out: it is checked once more, then it is no member, then no rule leads to it."""
    members = Members(data, access_point, timeout_s=timeout_s)
    if region in members.client.world.regions and region not in members.by_region:
        _say_removed(members, region, as_json=as_json)  # interrupted after its last step, or done before
        return
    member = members.member(region)
    bucket, others = member["bucket"], members.others(region)
    if not others:
        raise CommandError(f"{region} is the last member: delete the access point instead.", Exit.REFUSED)
    if member["dial_percent"]:
        raise CommandError(
            f"{region} takes {member['dial_percent']} % of the traffic: `nearpoint members drain"
            f" {access_point} {region}` first.",
            Exit.REFUSED,
        )
    with words():
        if abort_uploads:
            _abort(members, region, bucket)
        _drain(members, region, bucket)
        for each_region, each in others.items():
            _lead_no_more(members, each_region, each, bucket)
        members.take_out(region)
        gone = time.time()
        members.wait(f"Writes that {bucket} took", lambda: members.owed(by=bucket, before=gone))
    _say_removed(members, region, as_json=as_json)
    step(f"{bucket} keeps its objects, and its rules to the others: what is still written to it reaches them.")


def _say_removed(members: Members, region: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"access_point": members.name, "members": list(members.by_region.values())})
    else:
        step(f"{region} is no member of {members.name}.")


def _abort(members: Members, region: str, bucket: str) -> None:
    s3 = members.s3(region)
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for each in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
            step(f"Aborted the upload of {each['Key']}.")


def _lead_no_more(members: Members, region: str, bucket: str, destination: str) -> None:
    s3 = members.s3(region)
    before = configuration_of(s3, bucket)
    if before is None:
        return
    kept = [rule for rule in before["Rules"] if rule["Destination"]["Bucket"] != _BUCKET_ARN + destination]
    if len(kept) == len(before["Rules"]):
        return
    if kept:
        s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration={"Role": before["Role"], "Rules": kept})
    else:
        s3.delete_bucket_replication(Bucket=bucket)
