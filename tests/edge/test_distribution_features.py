"""What distributions refer to, at work: conversations over real sockets."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nearpoint.edge.access_control import AccessControl, signed
from nearpoint.edge.config import compile_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.geo import compile_restriction
from nearpoint.edge.managed import CACHING_OPTIMIZED, CORS_WITH_PREFLIGHT, SECURITY_HEADERS
from nearpoint.edge.ports import Continue
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.references import References
from nearpoint.edge.signed_url import read_public_key
from nearpoint.edge.viewer import Whereabouts
from nearpoint.signing import Credentials, Message, read_claim, verify
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Headers, Response

DOMAIN = "d111111abcdef8.cloudfront.net"
NOW = datetime.datetime.fromtimestamp(1_800_000_000, datetime.UTC)
PRIVATE = rsa.generate_private_key(65537, 2048)
_FORM = serialization.PublicFormat.SubjectPublicKeyInfo
PEM = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, _FORM).decode()


def distribution(stage: Any, references: References | None = None, **behavior: Any) -> Any:
    config = stage.config(**behavior)
    if "CachePolicyId" in behavior:
        del config["DefaultCacheBehavior"]["ForwardedValues"]
    return compile_distribution(distribution_id="E1", domain=DOMAIN, config=config, references=references)


# --- policies


async def test_own_cache_and_origin_request_policies(stage: Any) -> None:
    selections = {
        "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": ["X-Key"]},
        "CookiesConfig": {"CookieBehavior": "none"},
        "QueryStringsConfig": {"QueryStringBehavior": "allExcept", "QueryStrings": ["utm"]},
    }
    own = {
        "cache": {
            "Name": "c",
            "MinTTL": 10,
            "ParametersInCacheKeyAndForwardedToOrigin": {"EnableAcceptEncodingGzip": False, **selections},
        },
        "request": {
            "Name": "r",
            **selections,
            "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": ["X-Seen"]},
        },
    }
    await stage.open(
        distribution(stage, References(policies=own), CachePolicyId="cache", OriginRequestPolicyId="request")
    )
    assert (await stage.get("/a?b=1&utm=x", x_key="1", x_seen="1", x_other="1")).cache == "Miss"
    assert (await stage.get("/a?utm=y&b=1", x_key="1", x_seen="2")).cache == "Hit"
    assert (await stage.get("/a?b=1", x_key="2")).cache == "Miss"
    seen = stage.seen[0]
    assert (seen.target, seen.headers.get("x-key"), seen.headers.get("x-seen")) == ("/a?b=1", "1", "1")
    assert "x-other" not in seen.headers


async def test_security_headers_on_every_answer_hot_or_not(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        b"x", status=404 if request.path == "/none" else 200, Cache_Control="max-age=60", X_Frame_Options="DENY"
    )
    await stage.open(distribution(stage, CachePolicyId=CACHING_OPTIMIZED, ResponseHeadersPolicyId=SECURITY_HEADERS))
    for target in ("/a", "/a", "/a", "/none", "/none"):
        reply = await stage.get(target)
        assert reply["x-content-type-options"] == "nosniff"
        assert reply["strict-transport-security"] == "max-age=31536000"
        assert reply["x-frame-options"] == "DENY"  # the origin's own
        assert len(reply.headers.get_all("x-frame-options")) == 1
    assert stage.edge.hot_hits > 0
    assert len(stage.seen) == 2
    # Without the policy the same entry is shown as the origin gave it.
    stage.edge.load([distribution(stage, CachePolicyId=CACHING_OPTIMIZED)])
    for _ in range(3):
        reply = await stage.get("/a")
        assert (reply.cache, reply["x-content-type-options"]) == ("Hit", None)
    assert len(stage.seen) == 2


async def test_cors_differs_by_request_on_one_entry(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60")
    methods = ["GET", "HEAD", "OPTIONS"]
    await stage.open(
        distribution(
            stage,
            CachePolicyId=CACHING_OPTIMIZED,
            ResponseHeadersPolicyId=CORS_WITH_PREFLIGHT,
            AllowedMethods=methods,
        )
    )
    assert (await stage.get("/a"))["access-control-allow-origin"] is None
    for _ in range(2):
        reply = await stage.get("/a", origin="https://x.example")
        assert (reply.cache, reply["access-control-allow-origin"]) == ("Hit", "*")
        assert reply["access-control-allow-methods"] is None
    assert (await stage.get("/a"))["access-control-allow-origin"] is None
    preflight = await stage.get("/a", method="OPTIONS", origin="https://x.example", access_control_request_method="PUT")
    assert preflight["access-control-allow-origin"] == "*"
    assert "PUT" in preflight["access-control-allow-methods"]
    assert stage.seen[-1].method == "OPTIONS"


async def test_server_timing(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60", Server_Timing="db;dur=3")
    policy = {"Name": "t", "ServerTimingHeadersConfig": {"Enabled": True, "SamplingRate": 0}}
    await stage.open(
        distribution(
            stage,
            References(policies={"t": policy}),
            CachePolicyId=CACHING_OPTIMIZED,
            ResponseHeadersPolicyId="t",
        )
    )
    assert (await stage.get("/a"))["server-timing"] == "db;dur=3"
    reply = await stage.get("/a", pragma="server-timing")
    assert reply["server-timing"].startswith('cdn-cache-hit,cdn-pop;desc="TST50-P1",cdn-rid;desc=')
    assert reply["x-amz-cf-id"] in reply["server-timing"]
    reply = await stage.get("/b", pragma="server-timing")
    assert reply["server-timing"].startswith("db;dur=3, cdn-upstream-layer")
    assert "cdn-cache-miss" in reply["server-timing"]


# --- signed URLs and cookies


def sign(text: bytes) -> bytes:
    return PRIVATE.sign(text, padding.PKCS1v15(), hashes.SHA1())


def signed_target(target: str, expires: datetime.datetime) -> str:
    url = CloudFrontSigner("K1", sign).generate_presigned_url(f"http://{DOMAIN}{target}", expires)
    return str(url).removeprefix(f"http://{DOMAIN}")


RESTRICTED = References(key_groups={"group": {"K1": read_public_key(PEM)}})


async def test_signed_urls(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"secret", Cache_Control="max-age=600")
    cached = {"ForwardedValues": {"QueryString": True, "Cookies": {"Forward": "all"}}}
    await stage.open(distribution(stage, RESTRICTED, TrustedKeyGroups=["group"], **cached))
    refused = await stage.get("/a")
    assert (refused.status, refused.cache, refused["content-type"]) == (403, "Error", "text/xml")
    assert b"<Code>MissingKey</Code>" in refused.body
    assert not stage.seen

    first = signed_target("/a?size=1", NOW + datetime.timedelta(seconds=60))
    second = signed_target("/a?size=1", NOW + datetime.timedelta(seconds=30))
    assert [(await stage.get(target)).cache for target in (first, second, first)] == ["Miss", "Hit", "Hit"]
    assert stage.seen[0].target == "/a?size=1"
    assert b"<Code>AccessDenied</Code>" in (await stage.get(first.replace("size=1", "size=2"))).body
    everything = await stage.raw(b"OPTIONS * HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % DOMAIN.encode())
    assert everything.startswith(b"HTTP/1.1 403 ")
    stage.clock.now += 31
    assert (await stage.get(first)).cache == "Hit"
    for _ in range(2):
        assert (await stage.get(second)).status == 403  # whatever has been served from it before
    assert b"MissingKey" in (await stage.get("/a?size=1")).body
    assert len(stage.seen) == 1
    assert stage.edge.hot_hits == 0


async def test_signed_cookies_stay_at_the_edge(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"secret", Cache_Control="max-age=600")
    cached = {"ForwardedValues": {"QueryString": True, "Cookies": {"Forward": "all"}}}
    await stage.open(distribution(stage, RESTRICTED, TrustedKeyGroups=["group"], **cached))
    policy = (
        f'{{"Statement":[{{"Resource":"http://{DOMAIN}/*","Condition":'
        f'{{"DateLessThan":{{"AWS:EpochTime":{int(NOW.timestamp()) + 60}}}}}}}]}}'
    ).encode()

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))

    cookie = f"CloudFront-Policy={text(policy)}; CloudFront-Signature={text(sign(policy))}; CloudFront-Key-Pair-Id=K1"
    assert (await stage.get("/a", cookie=f"s=1; {cookie}")).body == b"secret"
    assert stage.seen[0].headers.get("cookie") == "s=1"
    assert (await stage.get("/a", cookie=f"{cookie}; s=1")).cache == "Hit"
    assert (await stage.get("/a", cookie="s=1")).status == 403


async def test_an_error_page_for_what_is_not_signed(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"please sign in")
    config = stage.config(TrustedKeyGroups=["group"])
    config["CustomErrorResponses"] = [{"ErrorCode": 403, "ResponseCode": 403, "ResponsePagePath": "/open/403.html"}]
    config["CacheBehaviors"] = [
        {
            "PathPattern": "/open/*",
            "TargetOriginId": "origin",
            "ViewerProtocolPolicy": "allow-all",
            "ForwardedValues": {"QueryString": False},
        }
    ]
    made = compile_distribution(distribution_id="E1", domain=DOMAIN, config=config, references=RESTRICTED)
    await stage.open(made)
    reply = await stage.get("/a")
    assert (reply.status, reply.body) == (403, b"please sign in")


def test_a_group_that_is_gone_opens_nothing(stage: Any) -> None:
    with pytest.raises(ConfigError, match="TrustedKeyGroups"):
        distribution(stage, TrustedKeyGroups=["group"])


# --- countries


@pytest.mark.parametrize(
    ("kind", "locations", "country", "admitted"),
    [
        ("whitelist", ["DE", "fr"], "DE", True),
        ("whitelist", ["DE", "fr"], "FR", True),
        ("whitelist", ["DE"], "US", False),
        ("whitelist", ["DE"], None, True),
        ("blacklist", ["DE"], "DE", False),
        ("blacklist", ["DE"], "US", True),
        ("none", [], "DE", True),
    ],
)
def test_countries(kind: str, locations: list[str], country: str | None, admitted: bool) -> None:
    geo = compile_restriction({"Restrictions": {"GeoRestriction": {"RestrictionType": kind, "Locations": locations}}})
    assert (geo is None or geo.admits(country)) is admitted


async def test_a_country_that_is_not_served(stage: Any) -> None:
    config = stage.config()
    config["Restrictions"] = {"GeoRestriction": {"RestrictionType": "blacklist", "Locations": ["BR"]}}
    made = compile_distribution(distribution_id="E1", domain=DOMAIN, config=config)
    await stage.open(made)
    assert (await stage.get("/a")).status == 200
    stage.edge.where = Whereabouts(country="BR")
    reply = await stage.get("/b")
    assert (reply.status, reply.cache) == (403, "Error")
    assert b"block access from your country" in reply.body
    assert "detail=country" in reply.note
    assert len(stage.seen) == 1


# --- origin access control


KEYS = Credentials("ASIAEXAMPLE", "secret", "token")


@pytest.mark.parametrize(
    ("behavior", "authorization", "signs"),
    [
        ("always", None, True),
        ("always", "Basic x", True),
        ("no-override", None, True),
        ("no-override", "Basic x", False),
        ("never", None, False),
    ],
)
def test_when_the_edge_signs(behavior: Any, authorization: str | None, signs: bool) -> None:
    headers = Headers([("Host", "b"), *([("Authorization", authorization)] if authorization else [])])
    assert AccessControl(protocol="sigv4", behavior=behavior).signs(headers) is signs


@pytest.mark.parametrize(
    ("protocol", "domain", "region"),
    [
        ("sigv4", "b.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("sigv4", "b.with.dots.s3.amazonaws.com", "us-east-1"),
        ("sigv4a", "m1.mrap.accesspoint.s3-global.amazonaws.com", None),
    ],
)
def test_signatures_that_verify(protocol: Any, domain: str, region: str | None) -> None:
    headers = Headers([("Host", domain), ("Authorization", "Basic x"), ("X-Amz-Date", "old"), ("Via", "1.1 x")])
    made = signed(
        AccessControl(protocol=protocol, behavior="always"),
        headers,
        method="GET",
        target="/a%20b/c?versionId=1",
        domain=domain,
        credentials=KEYS,
        now=NOW,
    )
    message = Message("GET", "/a%20b/c", "versionId=1", list(made))
    claim = read_claim(message)
    assert claim is not None
    assert (claim.region, claim.session_token) == (region, "token")
    verify(claim, message, KEYS.secret_key, now=NOW, service="s3")
    assert headers.get("authorization") == "Basic x"  # what was given is left as it was


async def test_the_edge_signs_for_its_origin(stage: Any) -> None:
    seen: list[Any] = []

    async def fetch(target: Any, request: Any) -> Response:
        seen.append((target, request))
        return Response(200, Headers([("Cache-Control", "max-age=60")]), b"object")

    config = stage.config()
    domain = "b.s3.eu-west-1.amazonaws.com"
    config["Origins"][0] = {
        "Id": "origin", "DomainName": domain, "S3OriginConfig": {}, "OriginAccessControlId": "E9", "OriginPath": "/p"
    }  # fmt: skip
    control = {"SigningProtocol": "sigv4", "SigningBehavior": "always"}
    made = compile_distribution(
        distribution_id="E1", domain=DOMAIN, config=config, references=References(access_controls={"E9": control})
    )
    asked: list[str] = []

    def credentials(distribution_id: str) -> Credentials:
        asked.append(distribution_id)
        return KEYS

    stage.edge = Edge(fetch=fetch, credentials=credentials, clock=stage.clock)
    stage.edge.load([made])
    stage.edge_port = await stage.serve(stage.edge.handle)
    assert (await stage.get("/k", authorization="Basic x")).body == b"object"
    assert (await stage.get("/k")).cache == "Hit"
    ((target, request),) = seen
    assert (asked, target.kind, target.region, request.target) == (["E1"], "s3", "eu-west-1", "/p/k")
    message = Message("GET", "/p/k", "", list(request.headers))
    claim = read_claim(message)
    assert claim is not None
    verify(claim, message, KEYS.secret_key, now=NOW, region="eu-west-1", service="s3")
    with pytest.raises(ConfigError, match="OriginAccessControlId"):
        compile_distribution(distribution_id="E1", domain=DOMAIN, config=config)


# --- origin groups


def group(stage: Any, *statuses: int, **behavior: Any) -> Any:
    config = stage.config(TargetOriginId="both", **behavior)
    config["Origins"].append({**config["Origins"][0], "Id": "second", "OriginPath": "/second"})
    config["OriginGroups"] = {
        "Items": [
            {
                "Id": "both",
                "FailoverCriteria": {"StatusCodes": {"Items": list(statuses)}},
                "Members": {"Items": [{"OriginId": "origin"}, {"OriginId": "second"}]},
            }
        ]
    }
    return compile_distribution(distribution_id="E1", domain=DOMAIN, config=config)


async def test_the_second_origin_answers_for_the_first(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: (
        answer(b"from the second") if request.path.startswith("/second") else answer(b"down", status=503)
    )
    await stage.open(group(stage, 500, 503, MinTTL=0, DefaultTTL=0, MaxTTL=0))
    for _ in range(2):  # the first is tried every time
        reply = await stage.get("/a")
        assert (reply.status, reply.body, reply.cache) == (200, b"from the second", "Miss")
    assert [seen.target for seen in stage.seen] == ["/a", "/second/a", "/a", "/second/a"]
    ids = [seen.headers.get("x-amz-cf-id") for seen in stage.seen]
    assert (ids[0], ids[2]) == (ids[1], ids[3])


async def test_when_the_second_is_not_asked(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"down", status=503)
    methods = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    await stage.open(group(stage, 404, AllowedMethods=methods))
    assert (await stage.get("/a")).status == 503
    assert len(stage.seen) == 1
    stage.edge.load([group(stage, 503, AllowedMethods=methods)])
    assert (await stage.get("/b", method="POST", body=b"x")).status == 503
    assert [seen.target for seen in stage.seen[1:]] == ["/b"]
    assert (await stage.get("/c", method="OPTIONS")).status == 503  # both fail: the second's answer
    assert [seen.target for seen in stage.seen[2:]] == ["/c", "/second/c"]


async def test_the_function_runs_for_each_member(stage: Any) -> None:
    runs: list[str] = []
    tried: list[str] = []

    class Functions:
        async def run_request(self, call: Any) -> Any:
            runs.append(call.origin.path)
            return Continue(request=call.request, origin=call.origin)

    async def fetch(target: Any, request: Any) -> Response:
        tried.append(request.target)
        if len(tried) == 1:
            raise UpstreamError("connect", "refused", retry_safe=False)
        return Response(200, Headers(), b"second")

    associations = [{"EventType": "origin-request", "LambdaFunctionARN": "arn:aws:lambda:f:1"}]
    made = group(stage, 500, LambdaFunctionAssociations=associations)
    stage.edge = Edge(fetch=fetch, functions=Functions(), clock=stage.clock)
    stage.edge.load([made])
    stage.edge_port = await stage.serve(stage.edge.handle)
    assert (await stage.get("/a")).body == b"second"
    assert (runs, tried) == (["", "/second"], ["/a", "/second/a"])
