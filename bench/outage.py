"""A whole world while a region falls silent: what readers everywhere see, and how soon a dial is in force.

    python -m bench.outage [--seconds 4] [--json]

The default world, one access point over its three regions. At each edge a reader asks for one object again and again,
by a presigned URL over a kept connection. Then the region that most of them use answers nothing any more (nothing is
refused either: `nearpoint fail --how blackhole`), and after it has been healed its dial is set to 0. Figures: reads
that failed; the slowest read; the median before the outage and from one second after it on; the time from the answer
to `submit-multi-region-access-point-routes` to the last answer from that region at any edge. Exit code 1 when a target
was missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import urllib3
from botocore.config import Config

from nearpoint.signing import Credentials, Message, presign_v4a

HERE = "us-east-1"
PAUSE_S = 0.02
SLOWEST_S_TARGET, DIAL_S_TARGET = 2.0, 1.0
# Later reads go to the next region, which is farther away: as slow as that makes them, and no slower.
LATER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One read: when it began (monotonic seconds), how long it took, its status and the region that answered."""

    at_s: float
    took_s: float
    status: int
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure with its unit. `target` says what issue 3 asks of it, `met` whether it was met."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool = True


class World:
    """A running world."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "world"
        self.nearpoint("up", "--detach")
        self.settings: dict[str, Any] = json.loads((self.data / "world.json").read_bytes())

    def nearpoint(self, command: str, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "nearpoint", command, "--data", str(self.data), *arguments],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return ran.stdout

    def aws(self, service: Any, region: str) -> Any:
        proxy = f"http://{region}:x@127.0.0.1:{self.settings['ports']['proxy']}"
        return boto3.client(
            service, region_name=region, verify=str(self.data / "ca" / "bundle.pem"),
            aws_access_key_id=self.settings["access_key_id"], aws_secret_access_key=self.settings["secret_key"],
            config=Config(proxies={"http": proxy, "https": proxy}),
        )  # fmt: skip

    def viewer(self, location: str) -> urllib3.ProxyManager:
        return urllib3.ProxyManager(
            f"http://127.0.0.1:{self.settings['ports']['proxy']}",
            proxy_headers=urllib3.make_headers(proxy_basic_auth=f"{location}:x"),
            ca_certs=str(self.data / "ca" / "bundle.pem"), retries=False, timeout=30,
        )  # fmt: skip

    def make_access_point(self) -> tuple[str, str]:
        """Buckets with one object everywhere, and an access point over them: its alias and ARN."""
        regions = list(json.loads(self.nearpoint("status", "--json"))["regions"])
        for region in regions:
            s3 = self.aws("s3", region)
            where = {} if region == HERE else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            s3.create_bucket(Bucket=f"bench-{region}", **where)
            s3.put_object(Bucket=f"bench-{region}", Key="object", Body=b"x" * 1024)
        control, account = self.aws("s3control", "us-west-2"), self.settings["account_id"]
        members = [{"Bucket": f"bench-{region}"} for region in regions]
        control.create_multi_region_access_point(
            AccountId=account, ClientToken="bench", Details={"Name": "bench", "Regions": members}
        )
        while True:
            found = control.get_multi_region_access_point(AccountId=account, Name="bench")["AccessPoint"]
            if found["Status"] == "READY":
                return found["Alias"], f"arn:aws:s3::{account}:accesspoint/{found['Alias']}"
            time.sleep(0.1)

    def turn_dial(self, arn: str, percent: int) -> None:
        update = {"Bucket": f"bench-{HERE}", "Region": HERE, "TrafficDialPercentage": percent}
        self.aws("s3control", HERE).submit_multi_region_access_point_routes(
            AccountId=self.settings["account_id"], Mrap=arn, RouteUpdates=[update]
        )


class Readers:
    """One reader at each location, from `start` to `stop`."""

    def __init__(self, world: World, locations: list[str], url: str) -> None:
        self.reads: dict[str, list[Read]] = {location: [] for location in locations}
        self._world = world
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(location,)) for location in locations]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self, location: str) -> None:
        viewer = self._world.viewer(location)
        while not self._stop.wait(PAUSE_S):
            started_s = time.monotonic()
            try:
                answer = viewer.request("GET", self._url)
                status, region = answer.status, answer.headers.get("x-nearpoint-region", "")
            except urllib3.exceptions.HTTPError:
                status, region = 0, ""
            took_s = time.monotonic() - started_s
            self.reads[location].append(Read(at_s=started_s, took_s=took_s, status=status, region=region))

    def all(self) -> list[Read]:
        return [read for reads in self.reads.values() for read in reads]


def _median_ms(reads: list[Read]) -> float:
    return statistics.median(read.took_s for read in reads) * 1000


def outage(world: World, readers: Readers, seconds: float) -> list[Row]:
    """The region stops answering, without a word."""
    time.sleep(seconds)
    failed_at_s = time.monotonic()
    world.nearpoint("fail", HERE, "--how", "blackhole")
    time.sleep(LATER_S + seconds)
    ended_s = time.monotonic()
    world.nearpoint("heal", HERE)
    reads = [read for read in readers.all() if read.at_s < ended_s]
    used_it = [name for name, each in readers.reads.items() if each and each[-1].at_s and _used(each, failed_at_s)]
    of_them = [read for name in used_it for read in readers.reads[name]]
    during = [read for read in reads if read.at_s + read.took_s > failed_at_s]
    later = [read for read in of_them if failed_at_s + LATER_S < read.at_s < ended_s]
    slowest_s = max(read.took_s for read in during)
    failures = sum(read.status != 200 for read in reads)
    return [
        Row(name="reads", value=len(reads), unit=""),
        Row(name="… that failed", value=failures, unit="", target="none", met=not failures),
        Row(
            name="slowest read of the outage",
            value=slowest_s * 1000,
            unit="ms",
            target=f"under {SLOWEST_S_TARGET:.0f} s",
            met=slowest_s < SLOWEST_S_TARGET,
        ),
        Row(
            name=f"edges that used {HERE}: median before",
            value=_median_ms([read for read in of_them if read.at_s < failed_at_s]),
            unit="ms",
        ),
        Row(name="… from one second after it on: median", value=_median_ms(later), unit="ms"),
        Row(name="… slowest", value=max(read.took_s for read in later) * 1000, unit="ms"),
    ]


def _used(reads: list[Read], until_s: float) -> bool:
    return Counter(read.region for read in reads if read.at_s < until_s).most_common(1)[0][0] == HERE


def dial(world: World, readers: Readers, arn: str) -> Row:
    """The region comes back; then its dial is set to 0."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s and not any(each[-1].region == HERE for each in readers.reads.values()):
        time.sleep(0.05)
    time.sleep(1)
    if not any(each[-1].region == HERE for each in readers.reads.values()):
        raise SystemExit(f"{HERE} has not come back")
    world.turn_dial(arn, 0)
    turned_s = time.monotonic()
    time.sleep(2)
    late = [read.at_s - turned_s for read in readers.all() if read.at_s > turned_s and read.region == HERE]
    took_s = max(late, default=0.0)
    return Row(
        name="dial in force at every edge after",
        value=took_s * 1000,
        unit="ms",
        target=f"under {DIAL_S_TARGET:.0f} s",
        met=took_s < DIAL_S_TARGET,
    )


def run(seconds: float) -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="nearpoint-bench-") as folder:
        world = World(Path(folder))
        try:
            alias, arn = world.make_access_point()
            host = f"{alias}.accesspoint.s3-global.amazonaws.com"
            who = Credentials(world.settings["access_key_id"], world.settings["secret_key"])
            message = Message("GET", "/object", "", [("Host", host)])
            query = presign_v4a(message, who, now=datetime.now(UTC), expires_s=3600)
            locations = list(json.loads(world.nearpoint("status", "--json"))["edges"])
            with Readers(world, locations, f"https://{host}/object?{query}") as readers:
                return [*outage(world, readers, seconds), dial(world, readers, arn)]
        finally:
            world.nearpoint("down")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = run(arguments.seconds)
    if arguments.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
    else:
        for row in rows:
            verdict = f"{'met' if row.met else 'MISSED'}: {row.target}" if row.target else ""
            sys.stdout.write(f"{row.name:40} {row.value:8,.0f} {row.unit:3} {verdict}\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
