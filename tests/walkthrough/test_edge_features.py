"""What distributions can do beside the example, in a whole world: shield, tags, logs, metrics, names of one's own."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
ALL_VIEWER_AND_CLOUDFRONT = "33f36d7e-f396-46d9-90e0-52428a34d9dc"


class Origin(http.server.ThreadingHTTPServer):
    """Answers with what it was sent, and notes it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server: Origin

            def do_GET(self) -> None:
                self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(200)
                self.send_header("Cache-Control", "max-age=600")
                self.send_header("Cache-Tag", f"all, {self.path[1:]}")
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_: Any) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)


def listed(*items: Any) -> dict[str, Any]:
    return {"Quantity": len(items), "Items": list(items)} if items else {"Quantity": 0}


def until(condition: Callable[[], Any]) -> Any:
    """The value that is true in the end; the wait is long only when something is wrong."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def distribution(world: Any, origin: Origin) -> dict[str, Any]:
    """With everything, made by CloudFormation and read by the CloudFront API."""
    world.aws("s3", "us-east-1").create_bucket(Bucket="edge-logs")
    config = {
        "Enabled": True,
        "Aliases": ["*.wild.example"],
        "CacheTagConfig": {"HeaderName": "Cache-Tag"},
        "Logging": {"Bucket": "edge-logs.s3.amazonaws.com", "Prefix": "cdn", "IncludeCookies": True},
        "Origins": [
            {
                "Id": "o",
                "DomainName": "localhost",
                "CustomOriginConfig": {"HTTPPort": origin.server_port, "OriginProtocolPolicy": "http-only"},
                "OriginShield": {"Enabled": True, "OriginShieldRegion": "us-east-2"},
            }
        ],
        "DefaultCacheBehavior": {
            "TargetOriginId": "o",
            "ViewerProtocolPolicy": "allow-all",
            "CachePolicyId": CACHING_OPTIMIZED,
            "OriginRequestPolicyId": ALL_VIEWER_AND_CLOUDFRONT,
        },
    }
    template = {
        "Resources": {"D": {"Type": "AWS::CloudFront::Distribution", "Properties": {"DistributionConfig": config}}}
    }
    cloudformation = world.aws("cloudformation")
    cloudformation.create_stack(StackName="edge", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="edge", WaiterConfig={"Delay": 1})
    id = cloudformation.describe_stack_resource(StackName="edge", LogicalResourceId="D")["StackResourceDetail"]
    found: dict[str, Any] = world.aws("cloudfront").get_distribution(Id=id["PhysicalResourceId"])["Distribution"]
    assert found["DistributionConfig"]["CacheTagConfig"] == {"HeaderName": "Cache-Tag"}
    assert found["DistributionConfig"]["Logging"]["Prefix"] == "cdn"
    return found


def test_one_location_asks_the_origin_for_all(world: Any, distribution: dict[str, Any], origin: Origin) -> None:
    url = f"https://{distribution['DomainName']}/shielded"
    first = world.get("SIN", url)
    second = world.get("FRA", url)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("Miss from cloudfront", "Hit from cloudfront")
    assert "shield-hit" in second.headers["cache-status"]
    ((_, seen),) = [each for each in origin.seen if each[0] == "/shielded"]
    assert seen["cloudfront-viewer-country"] == "SG"  # of the viewer, not of the shield
    assert seen["cloudfront-viewer-time-zone"] == "Asia/Singapore"
    assert seen["cloudfront-viewer-tls"].startswith("TLSv1.3:")
    assert not [name for name in seen if name.startswith("x-edge")]
    refused = world.get(
        "SIN",
        f"http://{distribution['DomainName']}/shielded",
        headers={
            "Host": "origin-shield.nearpoint.internal",
            "X-Edge-Shield": "guess",
            "X-Edge-Distribution": distribution["Id"],
            "X-Edge-Behavior": "default",
            "X-Edge-Request-Id": "1",
        },
    )
    assert refused.status == 403


def test_a_tag_takes_its_answers_everywhere(world: Any, distribution: dict[str, Any], origin: Origin) -> None:
    url = f"https://{distribution['DomainName']}"
    for path in ("/red", "/blue"):
        for place in ("SIN", "FRA"):
            world.get(place, url + path)
    cloudfront = world.aws("cloudfront")
    made = cloudfront.create_invalidation(
        DistributionId=distribution["Id"], InvalidationBatch={"Paths": listed("#RED"), "CallerReference": "1"}
    )["Invalidation"]
    assert made["InvalidationBatch"]["Paths"]["Items"] == ["#RED"]
    cloudfront.get_waiter("invalidation_completed").wait(
        DistributionId=distribution["Id"], Id=made["Id"], WaiterConfig={"Delay": 1}
    )
    asked = [path for path, _ in origin.seen]
    assert [world.get("SIN", url + path).headers["x-cache"].split()[0] for path in ("/red", "/blue")] == ["Miss", "Hit"]
    assert [path for path, _ in origin.seen][len(asked) :] == ["/red"]


def test_any_name_below_a_wildcard_leads_there(world: Any, distribution: dict[str, Any]) -> None:
    for name in ("a.wild.example", "b.a.wild.example"):
        assert world.get("FRA", f"https://{name}/named").status == 200


def test_the_log_is_in_the_bucket(world: Any, distribution: dict[str, Any]) -> None:
    world.get("FRA", f"https://{distribution['DomainName']}/logged?a=1", headers={"Cookie": "c=1"})
    s3 = world.aws("s3", "us-east-1")

    def line() -> str | None:
        for each in s3.list_objects_v2(Bucket="edge-logs").get("Contents", ()):
            text = gzip.decompress(s3.get_object(Bucket="edge-logs", Key=each["Key"])["Body"].read()).decode()
            assert each["Key"].startswith(f"cdn/{distribution['Id']}.20")
            assert text.startswith("#Version: 1.0\n#Fields: date time x-edge-location ")
            found = [line for line in text.splitlines() if "\t/logged\t" in line]
            if found:
                return found[0]
        return None

    fields = until(line).split("\t")
    assert len(fields) == 33
    assert (fields[2], fields[11], fields[12]) == ("FRA50-P1", "a=1", "c=1")


def test_one_place_has_the_metrics_of_all_edges(world: Any, distribution: dict[str, Any]) -> None:
    settings = world.settings
    address = f"http://127.0.0.1:{settings['ports']['admin']}/metrics"

    def scraped() -> str:
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {settings['admin_token']}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address, timeout=10)
    text = scraped()
    assert f'distribution="{distribution["Id"]}",behavior="default",result="Hit"' in text
    assert 'nearpoint_shield_requests_total{distribution="' in text
    assert f"nearpoint_worker_ready {len([name for name in world.pids() if name.startswith('node-')])}" in text
    for location in ("FRA", "SIN"):
        assert f'nearpoint_disk_cache_records{{location="{location}50-P1"}}' in text


def test_a_certificate_of_ones_own(world: Any, distribution: dict[str, Any]) -> None:
    from nearpoint.wire.tls import Authority

    pem = Authority.load_or_create(Path(world.data) / "ca").mint(["own.wild.example", "and.another.example"])
    at = pem.index(b"-----BEGIN PRIVATE KEY")
    folder = Path(world.data) / "certificates"
    (folder / "own.key").write_bytes(pem[at:])
    (folder / "own.crt").write_bytes(pem[:at])
    port = world.settings["ports"]["node.FRA.https"]
    trust = ssl.create_default_context(cafile=str(world.data / "ca" / "bundle.pem"))

    def shown() -> str:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trust.wrap_socket(plain, server_hostname="own.wild.example") as secured,
        ):
            return str(secured.getpeercert())

    until(lambda: "and.another.example" in shown())
