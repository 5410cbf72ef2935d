"""`nearpoint demo`: the walk-through of the active-active example, with ordinary clients, checked step by step."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

import nearpoint
from nearpoint.aws.package import package
from nearpoint.cli.console import CommandError, Exit, notes, print_json, results, table
from nearpoint.cli.target import clients_at
from nearpoint.cli.world_client import WorldClient
from nearpoint.world.geography import PLACES, rtt_ms

MEMBERS = ("us-east-1", "eu-west-1")
OUTAGE_S = 3.0
TIE_RATIO = 1.25
RETURN_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a viewer got."""

    location: str
    status: int
    region: str
    body: str
    cache: str
    first_byte_ms: float

    @property
    def row(self) -> dict[str, Any]:
        return {
            "location": self.location,
            "status": self.status,
            "region": self.region,
            "body": self.body,
            "cache": self.cache,
            "first_byte_ms": round(self.first_byte_ms, 1),
        }


@dataclass(slots=True)
class Report:
    """What was seen and what of it was wrong."""

    as_json: bool
    started_at: float = field(default_factory=time.monotonic)
    answers: list[Answer] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def check(self, name: str, right: bool, seen: str) -> None:
        """Take down one check and show it."""
        self.checks.append({"name": name, "right": right, "seen": seen})
        mark = "[green]right[/]" if right else "[red]WRONG[/]"
        notes.print(f"         {mark}  {name:<35}", end=" ", soft_wrap=True)
        notes.print(seen, style="dim" if right else "bold", markup=False, soft_wrap=True)

    def step(self, text: str) -> None:
        """Say what comes next."""
        notes.print(f"[bold]{time.monotonic() - self.started_at:5.1f} s  {text}[/]", soft_wrap=True)

    @property
    def right(self) -> bool:
        return bool(self.checks) and all(check["right"] for check in self.checks)


class Place:
    """Clients that stand somewhere: the AWS SDK and an HTTPS client, through the location proxy."""

    def __init__(self, client: WorldClient, name: str) -> None:
        self.name = name
        self._clients = clients_at(client, name)
        self._https = urllib3.ProxyManager(
            f"http://127.0.0.1:{client.world.ports['proxy']}",
            proxy_headers=urllib3.make_headers(proxy_basic_auth=f"{name}:x"),
            ca_certs=str(client.layout.trust_bundle),
            timeout=urllib3.Timeout(connect=10, read=30),
            retries=False,
        )

    def aws(self, service: str, region: str) -> Any:
        """A boto3 client as a user would have in the shell."""
        return self._clients.client(service, region)

    def ask(self, url: str) -> Answer:
        """GET the address; the time is that to the first byte, on a connection that is already open."""
        started = time.monotonic()
        try:
            response = self._https.request("GET", url, preload_content=False)
            first_byte_ms = (time.monotonic() - started) * 1000
            body = response.read(4096).decode("utf-8", "replace").strip()
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            return Answer(
                location=self.name, status=0, region="", body=type(error).__name__, cache="", first_byte_ms=0.0
            )
        return Answer(
            location=self.name,
            status=response.status,
            region=response.headers.get("x-nearpoint-region", ""),
            body=body,
            cache=response.headers.get("x-cache", ""),
            first_byte_ms=first_byte_ms,
        )


def example_folder() -> Path:
    """The active-active example: in the installed package, or in the checkout."""
    package = Path(nearpoint.__file__).parent
    for folder in (package / "examples" / "active-active", package.parents[1] / "examples" / "active-active"):
        if (folder / "template.yaml").is_file():
            return folder
    raise CommandError("The example active-active is not installed with this package.")


def _nearpoint(*arguments: str) -> str | None:
    """Run a command of ours. None when it went well, else its last words. Ctrl-C reaches it through us, once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nearpoint", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # it cleans up after itself
        process.communicate()
        raise
    if process.returncode == 0:
        return None
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("nearpoint: ") if lines else f"exit code {process.returncode}"


@contextmanager
def _own_world() -> Iterator[Path]:
    """A world in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nearpoint-demo-", ignore_cleanup_errors=True) as folder:
        data = str(Path(folder) / "world")
        try:
            wrong = _nearpoint("up", "--detach", "--data", data)
            if wrong is not None:
                raise CommandError(wrong)
            yield Path(data)
        finally:
            wrong = _nearpoint("down", "--data", data)
            if wrong is not None:
                notes.print(f"[red]The demo's world could not be stopped:[/] {wrong}", soft_wrap=True)


def demo(*, data: Path | None, as_json: bool) -> int:
    """Run the walk-through; exit code 0 only if every answer was right."""
    report = Report(as_json)
    if data is not None:
        _walk(WorldClient(data), report)
    else:
        report.step("a world of its own: regions, edges, stores, control plane")
        with _own_world() as folder:
            _walk(WorldClient(folder), report)
    seconds = time.monotonic() - report.started_at
    if as_json:
        print_json(
            {
                "right": report.right,
                "seconds": round(seconds, 1),
                "answers": [answer.row for answer in report.answers],
                "checks": report.checks,
            }
        )
    else:
        rows = table("client location", "answered by", ">first byte", "cache")
        for answer in report.answers:
            rows.add_row(answer.location, answer.region, f"{answer.first_byte_ms:.0f} ms", answer.cache)
        results.print(rows)
        wrong = sum(not check["right"] for check in report.checks)
        verdict = "[green]Every answer was right[/]" if report.right else f"[red]{wrong} of the answers were wrong[/]"
        results.print(f"{verdict} ({len(report.checks)} checks in {seconds:.0f} s).")
    return Exit.DONE if report.right else Exit.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What this run makes, under names of its own."""

    code: str
    data: dict[str, str]
    stack: str


def _walk(client: WorldClient, report: Report) -> None:
    missing = [region for region in MEMBERS if region not in client.world.regions]
    if missing:
        raise CommandError(f"The demo needs the regions {', '.join(MEMBERS)}; this world lacks {', '.join(missing)}.")
    suffix = secrets.token_hex(3)
    names = _Names(
        code=f"demo-{suffix}-code",
        data={region: f"demo-{suffix}-{region}" for region in MEMBERS},
        stack=f"demo-{suffix}",
    )
    here = Place(client, MEMBERS[0])
    try:
        _steps(client, here, names, report)
    except (ClientError, BotoCoreError) as error:
        report.check("every call is answered", False, str(error))
    finally:
        try:
            _clean_up(here, names, report)
        except (ClientError, BotoCoreError) as error:
            report.check("nothing is left", False, str(error))


def _steps(client: WorldClient, here: Place, names: _Names, report: Report) -> None:
    outputs = _deploy(here, names, report)
    _ask_from_everywhere(client, names, outputs["Url"], report)
    _turn_dials(client, here, names, outputs, report)
    _outage(client, here, names, outputs["Url"], report)
    _use_as_bucket(here, outputs["AccessPointArn"], report)


def _deploy(here: Place, names: _Names, report: Report) -> dict[str, str]:
    report.step("three buckets, the function's package, the stack")
    for bucket, region in ((names.code, MEMBERS[0]), *((bucket, region) for region, bucket in names.data.items())):
        location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        here.aws("s3", region).create_bucket(Bucket=bucket, **location)
    folder = example_folder()
    here.aws("s3", MEMBERS[0]).put_object(Bucket=names.code, Key="function.zip", Body=package(folder / "function").data)
    cloudformation = here.aws("cloudformation", "us-east-1")
    parameters = {
        "CodeBucket": names.code,
        "FirstBucket": names.data[MEMBERS[0]],
        "SecondBucket": names.data[MEMBERS[1]],
    }
    cloudformation.create_stack(
        StackName=names.stack,
        TemplateBody=(folder / "template.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=names.stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    stack = cloudformation.describe_stacks(StackName=names.stack)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    report.check("stack", stack["StackStatus"] == "CREATE_COMPLETE", stack["StackStatus"])
    for region, bucket in names.data.items():
        body = f"hello from s3 bucket {bucket}\n".encode()
        here.aws("s3", region).put_object(Bucket=bucket, Key="index.html", Body=body, ContentType="text/html")
    return outputs


def nearest(location: str) -> list[str]:
    """The nearest of the demo's regions; two, where a busy machine may measure either as the nearer one."""
    distances_ms = {region: rtt_ms(PLACES[location], PLACES[region]) for region in MEMBERS}
    least_ms = min(distances_ms.values())
    return sorted(
        (each for each in MEMBERS if distances_ms[each] <= least_ms * TIE_RATIO), key=distances_ms.__getitem__
    )


def _is_from(answer: Answer, bucket: str) -> bool:
    return answer.status == 200 and answer.body == f"hello from s3 bucket {bucket}"


def _check(report: Report, name: str, answer: Answer, right: bool) -> None:
    seen = f"{answer.status} in {answer.first_byte_ms:.0f} ms"
    report.check(name, right, seen if right else f"{seen}: {answer.body[:60]}")


def _ask_from_everywhere(client: WorldClient, names: _Names, url: str, report: Report) -> None:
    report.step(f"GET {url} from {len(client.world.locations)} places")
    for location in client.world.locations:
        place = Place(client, location)
        place.ask(url)  # opens the connection, starts the function
        answer = place.ask(url)
        report.answers.append(answer)
        near = nearest(location)
        region = answer.region if answer.region in near else near[0]
        _check(report, f"{location}: {region} answers", answer, _is_from(answer, names.data[region]))


def _turn_dials(client: WorldClient, here: Place, names: _Names, outputs: dict[str, str], report: Report) -> None:
    first, second = MEMBERS
    places = [Place(client, region) for region in MEMBERS]
    control = here.aws("s3control", "us-east-1")

    def dial(percent: int) -> None:
        update = {"Bucket": names.data[first], "Region": first, "TrafficDialPercentage": percent}
        control.submit_multi_region_access_point_routes(
            AccountId=client.world.account_id, Mrap=outputs["AccessPointArn"], RouteUpdates=[update]
        )
        time.sleep(1)  # in force on every node within a second

    report.step(f"the dial of {first} to 0, and back to 100")
    dial(0)
    for place in places:
        answer = place.ask(outputs["Url"])
        _check(report, f"{place.name}: {second} answers", answer, _is_from(answer, names.data[second]))
    dial(100)
    for place, region in zip(places, MEMBERS, strict=True):
        answer = place.ask(outputs["Url"])
        _check(report, f"{place.name}: {region} answers again", answer, _is_from(answer, names.data[region]))


def _outage(client: WorldClient, here: Place, names: _Names, url: str, report: Report) -> None:
    first, second = MEMBERS
    report.step(f"{first} fails while {here.name} keeps asking")
    answers = [here.ask(url)]
    client.ask("PUT", f"/faults/{first}", {"how": "refuse"})
    try:
        until = time.monotonic() + OUTAGE_S
        while time.monotonic() < until:
            answers.append(here.ask(url))
    finally:
        client.ask("DELETE", f"/faults/{first}")
    failed = [answer for answer in answers if answer.status != 200]
    slowest_ms = max(answer.first_byte_ms for answer in answers)
    seen = f"{len(failed)} of {len(answers)} failed, slowest {slowest_ms:.0f} ms"
    report.check("no request fails", not failed, seen)
    _check(report, f"{second} answers", answers[-1], _is_from(answers[-1], names.data[second]))
    until = time.monotonic() + RETURN_TIMEOUT_S
    answer = here.ask(url)
    while not _is_from(answer, names.data[first]) and time.monotonic() < until:
        time.sleep(0.2)
        answer = here.ask(url)
    _check(report, f"{first}, healed, answers again", answer, _is_from(answer, names.data[first]))


def _use_as_bucket(here: Place, arn: str, report: Report) -> None:
    report.step("boto3 with the access point's ARN as the bucket")
    s3 = here.aws("s3", here.name)
    body = secrets.token_bytes(100_000)
    s3.put_object(Bucket=arn, Key="demo/object", Body=body, Metadata={"made-by": "demo"})
    got = s3.get_object(Bucket=arn, Key="demo/object")
    same = got["Body"].read() == body
    report.check("put, then get", same, f"{len(body)} bytes, {'the same' if same else 'not the same'}")
    listed = [each["Key"] for each in s3.list_objects_v2(Bucket=arn, Prefix="demo/").get("Contents", [])]
    report.check("list", listed == ["demo/object"], ", ".join(listed) or "nothing")
    head = s3.head_object(Bucket=arn, Key="demo/object")
    metadata = ", ".join(f"{name}={value}" for name, value in head["Metadata"].items())
    report.check("head", head["Metadata"] == {"made-by": "demo"}, f"{head['ContentLength']} bytes, {metadata}")
    s3.delete_object(Bucket=arn, Key="demo/object")
    left = s3.list_objects_v2(Bucket=arn, Prefix="demo/").get("KeyCount")
    report.check("delete", left == 0, f"{left} left")


def _clean_up(here: Place, names: _Names, report: Report) -> None:
    report.step("delete the stack and the buckets")
    cloudformation = here.aws("cloudformation", "us-east-1")
    cloudformation.delete_stack(StackName=names.stack)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=names.stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    for bucket, region in ((names.code, MEMBERS[0]), *((bucket, region) for region, bucket in names.data.items())):
        s3 = here.aws("s3", region)
        try:
            for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=each["Key"])
            s3.delete_bucket(Bucket=bucket)
        except s3.exceptions.NoSuchBucket:
            continue
    left = [bucket["Name"] for bucket in here.aws("s3", "us-east-1").list_buckets()["Buckets"]]
    gone = not {names.code, *names.data.values()} & set(left)
    report.check("nothing is left", gone, "stack and buckets are gone" if gone else ", ".join(left))
