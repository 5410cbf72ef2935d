from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge.config import compile_distribution
from nearpoint.edge.policies import ALL, NONE, Selection, some
from nearpoint.edge.properties import ConfigError

WALKTHROUGH: dict[str, Any] = {
    "Enabled": "true",
    "DefaultRootObject": "index.html",
    "Origins": [
        {
            "Id": "mrap",
            "DomainName": "abc.mrap.accesspoint.s3-global.amazonaws.com",
            "CustomOriginConfig": {"OriginProtocolPolicy": "https-only", "OriginSSLProtocols": ["TLSv1.2"]},
        }
    ],
    "DefaultCacheBehavior": {
        "TargetOriginId": "mrap",
        "ViewerProtocolPolicy": "redirect-to-https",
        "ForwardedValues": {"QueryString": "false"},
        "MinTTL": 0,
        "MaxTTL": "0",
        "DefaultTTL": 0,
        "LambdaFunctionAssociations": [{"EventType": "origin-request", "LambdaFunctionARN": "arn:aws:lambda:f:1"}],
    },
}


def compiled(config: dict[str, Any]) -> Any:
    return compile_distribution(distribution_id="E1", domain="D1.cloudfront.net", config=config)


def test_the_walk_throughs_distribution() -> None:
    made = compiled(WALKTHROUGH)
    behavior = made.behaviors[-1]
    assert made.hosts == ("d1.cloudfront.net",)
    assert made.default_root_object == "index.html"
    assert behavior.cache.disabled
    assert behavior.cache.queries == NONE
    assert behavior.functions["origin-request"].function_arn == "arn:aws:lambda:f:1"
    assert (behavior.origin.protocol, behavior.origin.https_port) == ("https-only", 443)


def with_behavior(**changes: Any) -> dict[str, Any]:
    behavior = {**WALKTHROUGH["DefaultCacheBehavior"], **changes}
    return {**WALKTHROUGH, "DefaultCacheBehavior": {k: v for k, v in behavior.items() if v is not None}}


def test_forwarded_values() -> None:
    values = {
        "QueryString": True,
        "QueryStringCacheKeys": ["a"],
        "Headers": ["Origin"],
        "Cookies": {"Forward": "whitelist", "WhitelistedNames": ["s"]},
    }
    behavior = compiled(with_behavior(ForwardedValues=values, MaxTTL=None, DefaultTTL=None)).behaviors[-1]
    assert behavior.cache.queries == some(["a"])
    assert behavior.forward.queries == ALL
    assert behavior.cache.headers == some(["origin"])
    assert behavior.cache.cookies == some(["s"])
    assert (behavior.cache.default_ttl_s, behavior.cache.max_ttl_s) == (86_400, 31_536_000)


def test_forwarding_every_header_keeps_nothing() -> None:
    behavior = compiled(with_behavior(ForwardedValues={"QueryString": False, "Headers": ["*"]}, MaxTTL=9)).behaviors[-1]
    assert behavior.cache.disabled
    assert behavior.forward.viewer_host


def test_managed_policies() -> None:
    changes = {
        "ForwardedValues": None,
        "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
        "OriginRequestPolicyId": "b689b0a8-53d0-40ab-baf2-68738e2966ac",
    }
    behavior = compiled(with_behavior(**changes)).behaviors[-1]
    assert (behavior.cache.min_ttl_s, behavior.cache.gzip, behavior.cache.brotli) == (1, True, True)
    assert not behavior.forward.headers.takes("host")
    assert behavior.forward.headers.takes("x-anything")
    assert not behavior.forward.viewer_host


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"Origins": []}, "Origins"),
        ({"Origins": [{"Id": "a"}]}, "Origins[0].DomainName"),
        ({"Origins": [{"Id": "a", "DomainName": "https://x/"}]}, "Origins[0].DomainName"),
        ({"Origins": WALKTHROUGH["Origins"] * 2}, "Origins[1].Id"),
        ({"DefaultCacheBehavior": None}, "DefaultCacheBehavior"),
        (with_behavior(TargetOriginId="nope"), "DefaultCacheBehavior.TargetOriginId"),
        (with_behavior(ViewerProtocolPolicy="maybe"), "DefaultCacheBehavior.ViewerProtocolPolicy"),
        (with_behavior(AllowedMethods=["GET"]), "DefaultCacheBehavior.AllowedMethods"),
        (with_behavior(MinTTL=5), "DefaultCacheBehavior"),
        (with_behavior(MinTTL="soon"), "DefaultCacheBehavior.MinTTL"),
        (with_behavior(ForwardedValues=None), "DefaultCacheBehavior"),
        (with_behavior(CachePolicyId="nope"), "DefaultCacheBehavior.CachePolicyId"),
        (with_behavior(LambdaFunctionAssociations=[{"EventType": "x"}]),
         "DefaultCacheBehavior.LambdaFunctionAssociations[0].EventType"),
        ({"CacheBehaviors": [{"TargetOriginId": "mrap"}]}, "CacheBehaviors[0].ViewerProtocolPolicy"),
        ({"CustomErrorResponses": [{"ErrorCode": 404, "ResponsePagePath": "/e"}]}, "CustomErrorResponses[0]"),
        ({"Enabled": "perhaps"}, "Enabled"),
        ({"Aliases": "x"}, "Aliases"),
        ({"DefaultRootObject": "a\r\nb"}, "DefaultRootObject"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled({**WALKTHROUGH, **change})
    assert caught.value.where == where


def test_selections_unite() -> None:
    except_ab = Selection(mode="all-except", names=frozenset("ab"))
    for one, other in [
        (NONE, ALL), (some("a"), some("b")), (some("a"), except_ab), (except_ab, except_ab), (NONE, NONE),
        (Selection(mode="all-except", names=frozenset("bc")), except_ab),
    ]:  # fmt: skip
        both = one | other
        assert both == other | one
        for name in "abc":
            assert both.takes(name) == (one.takes(name) or other.takes(name))
