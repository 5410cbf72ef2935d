"""The `CloudFront-…` fields: what they say, who gets them, and that no viewer can say them itself."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge.config import compile_distribution
from nearpoint.edge.managed import ALL_VIEWER, ALL_VIEWER_AND_CLOUDFRONT, CACHING_OPTIMIZED
from nearpoint.edge.references import References
from nearpoint.edge.viewer import Whereabouts, decided_by, device_of, with_viewer_fields
from nearpoint.wire.message import Headers, Peer, Request
from nearpoint.world.geography import PLACES
from nearpoint.world.whereabouts import whereabouts

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1 (KHTML) Version/17 Mobile/15E148 Safari"
)
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "kinds"),
    [
        ("", "desktop"),
        ("curl/8.5", "desktop"),
        (DESKTOP, "desktop"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; Touch) Edge/12", "desktop"),
        (IPHONE, "ios mobile"),
        ("Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) Mobile/15E148", "ios mobile tablet"),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/126 Mobile Safari/537.36", "android mobile"),
        ("Mozilla/5.0 (Linux; Android 13; SM-X900) Chrome/126 Safari/537.36", "android mobile tablet"),
        ("Mozilla/5.0 (Linux; Android 9; AFTS) Silk/90", "android smart_tv"),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) TV Safari/537.36", "smart_tv"),
        ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36", "smart_tv"),
        ("Opera/9.80 (J2ME/MIDP; Opera Mini/9.80)", "mobile"),
    ],
)
def test_devices(agent: str, kinds: str) -> None:
    device = device_of(agent)
    names = ("android", "desktop", "ios", "mobile", "smart_tv", "tablet")
    assert {name for name in names if getattr(device, name)} == set(kinds.split())


def test_what_is_known_of_a_viewer() -> None:
    where = Whereabouts(**whereabouts(PLACES["FRA"]))
    peer = Peer("198.51.100.7", "https", 46532, "HTTP/2.0", "TLSv1.3", "TLS_AES_128_GCM_SHA256")
    request = Request(
        "GET",
        "/",
        Headers([("Host", "h"), ("CloudFront-Viewer-Country", "XX"), ("User-Agent", IPHONE)]),
        scheme="https",
        client_ip=peer.ip,
        peer=peer,
    )
    names = {name.lower() for name in EXPECTED}
    made = with_viewer_fields(request, frozenset(names), where)
    found = {name: value for name, value in made.headers if name.startswith("CloudFront-")}
    assert found == EXPECTED
    assert "cloudfront-viewer-country" not in with_viewer_fields(request, frozenset(), where).headers


EXPECTED = {
    "CloudFront-Forwarded-Proto": "https",
    "CloudFront-Is-Mobile-Viewer": "true",
    "CloudFront-Is-Desktop-Viewer": "false",
    "CloudFront-Viewer-Address": "198.51.100.7:46532",
    "CloudFront-Viewer-City": "Frankfurt",
    "CloudFront-Viewer-Country": "DE",
    "CloudFront-Viewer-Country-Name": "Germany",
    "CloudFront-Viewer-Country-Region": "HE",
    "CloudFront-Viewer-Country-Region-Name": "Hesse",
    "CloudFront-Viewer-Header-Count": "3",
    "CloudFront-Viewer-Header-Order": "Host:CloudFront-Viewer-Country:User-Agent",
    "CloudFront-Viewer-Http-Version": "2.0",
    "CloudFront-Viewer-Latitude": "50.03000",
    "CloudFront-Viewer-Longitude": "8.57000",
    "CloudFront-Viewer-TLS": "TLSv1.3:TLS_AES_128_GCM_SHA256:fullHandshake",
    "CloudFront-Viewer-Time-Zone": "Europe/Berlin",
}


def test_every_place_is_somewhere() -> None:
    for place in PLACES.values():
        known = whereabouts(place)
        assert known["country_name"], place
        assert "/" in known["time_zone"], place


@pytest.mark.parametrize(
    ("names", "by"),
    [
        ({"x-a"}, {"x-a"}),
        ({"cloudfront-viewer-country", "x-a", "cloudfront-forwarded-proto"}, {"x-a"}),
        ({"cloudfront-is-mobile-viewer"}, {"user-agent"}),
        ({"cloudfront-viewer-address"}, None),
        ({"cloudfront-viewer-tls"}, None),
        ({"cloudfront-viewer-asn"}, None),
    ],
)
def test_what_decides_a_field(names: set[str], by: set[str] | None) -> None:
    assert decided_by(names) == by


def policy(*names: str) -> dict[str, Any]:
    return {
        "Name": "c",
        "MinTTL": 10,
        "ParametersInCacheKeyAndForwardedToOrigin": {
            "EnableAcceptEncodingGzip": False,
            "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": list(names)},
            "CookiesConfig": {"CookieBehavior": "none"},
            "QueryStringsConfig": {"QueryStringBehavior": "none"},
        },
    }


async def opened(stage: Any, policies: dict[str, Any] | None = None, **behavior: Any) -> None:
    config = stage.config(**behavior)
    if "CachePolicyId" in behavior:
        del config["DefaultCacheBehavior"]["ForwardedValues"]
    references = References(policies=policies or {})
    distribution = compile_distribution(
        distribution_id="E1", domain="d111111abcdef8.cloudfront.net", config=config, references=references
    )
    await stage.open(distribution)
    stage.edge.where = Whereabouts(country="DE")


async def test_devices_in_the_key_share_what_they_share(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer((request.headers.get("cloudfront-is-mobile-viewer") or "?").encode())
    await opened(stage, {"c": policy("CloudFront-Is-Mobile-Viewer")}, CachePolicyId="c")
    for round in range(3):
        for agent, expected in ((IPHONE, b"true"), (DESKTOP, b"false")):
            for lie in ("true", "false"):
                reply = await stage.get("/a", user_agent=agent, cloudfront_is_mobile_viewer=lie)
                assert reply.body == expected
                assert reply.cache == ("Miss" if round == 0 and lie == "true" else "Hit")
    assert len(stage.seen) == 2
    assert stage.edge.hot_hits >= 4


async def test_the_country_in_the_key_is_the_edges_word(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer((request.headers.get("cloudfront-viewer-country") or "?").encode())
    await opened(stage, {"c": policy("CloudFront-Viewer-Country")}, CachePolicyId="c")
    for lie in ("FR", "DE", "FR", "US"):
        assert (await stage.get("/a", cloudfront_viewer_country=lie)).body == b"DE"
    assert len(stage.seen) == 1
    assert stage.edge.hot_hits == 2


async def test_legacy_forwarded_values_name_them_too(stage: Any) -> None:
    await opened(
        stage, ForwardedValues={"QueryString": False, "Headers": ["CloudFront-Forwarded-Proto"]}, DefaultTTL=10
    )
    await stage.get("/a", cloudfront_viewer_country="FR")
    seen = stage.seen[0].headers
    assert seen.get("cloudfront-forwarded-proto") == "http"
    assert "cloudfront-viewer-country" not in seen


async def test_the_managed_policy_that_has_them_all(stage: Any) -> None:
    await opened(stage, CachePolicyId=CACHING_OPTIMIZED, OriginRequestPolicyId=ALL_VIEWER_AND_CLOUDFRONT)
    await stage.get("/a", x_own="1", cloudfront_viewer_asn="1")
    seen = stage.seen[0].headers
    assert (seen.get("x-own"), seen.get("cloudfront-viewer-country")) == ("1", "DE")
    assert seen.get("cloudfront-viewer-http-version") == "1.1"
    assert (seen.get("cloudfront-viewer-address") or "").startswith("127.0.0.1:")
    assert "cloudfront-viewer-asn" not in seen
    assert "cloudfront-viewer-tls" not in seen


@pytest.mark.parametrize(("s3", "kept"), [(True, "/a?x=1"), (False, "/a?x=1&response-content-type=text%2Fhtml")])
def test_managed_policies_keep_from_s3_what_would_change_its_answers(s3: bool, kept: str) -> None:
    from nearpoint.edge.receive import visit_of

    origin = {"S3OriginConfig": {}} if s3 else {"CustomOriginConfig": {"OriginProtocolPolicy": "https-only"}}
    distribution = compile_distribution(
        distribution_id="E1",
        domain="d.cloudfront.net",
        config={
            "Origins": [{"Id": "o", "DomainName": "b.s3.amazonaws.com", **origin}],
            "DefaultCacheBehavior": {
                "TargetOriginId": "o",
                "ViewerProtocolPolicy": "allow-all",
                "CachePolicyId": CACHING_OPTIMIZED,
                "OriginRequestPolicyId": ALL_VIEWER,
            },
        },
    )
    query = "x=1&response-content-type=text%2Fhtml"
    visit = visit_of(Request("GET", f"/a?{query}"), "id", distribution, path="/a", query=query)
    assert visit.target == kept
