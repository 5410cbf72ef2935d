from __future__ import annotations

import copy
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import distributions, functions, roles
from nearpoint.stack.services.context import Context
from nearpoint.stack.services.distribution_config import check_config
from nearpoint.state.resources import Bucket, Distribution, Invalidation


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "Enabled": "true",
        "DefaultRootObject": "index.html",
        "Origins": [
            {
                "Id": "mrap",
                "DomainName": "mabc.mrap.accesspoint.s3-global.amazonaws.com",
                "CustomOriginConfig": {
                    "HTTPPort": "80",
                    "HTTPSPort": 443,
                    "OriginProtocolPolicy": "https-only",
                    "OriginSSLProtocols": ["TLSv1.2"],
                },
            }
        ],
        "DefaultCacheBehavior": {
            "TargetOriginId": "mrap",
            "ViewerProtocolPolicy": "redirect-to-https",
            "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
            "MinTTL": 0,
            "DefaultTTL": "0",
            "MaxTTL": 0,
        },
    }


async def test_a_new_distribution_has_defaults_and_is_in_progress_until_deployed(
    context: Context, config: dict[str, Any]
) -> None:
    distribution = await distributions.create_distribution(context, config=config, tags={"team": "edge"})
    assert distribution.config["Enabled"] is True
    assert distribution.config["DefaultCacheBehavior"]["DefaultTTL"] == 0
    assert len(distribution.distribution_id) == 14
    assert distribution.distribution_id[0] == "E"
    assert len(distribution.domain) == len("d1234567890123.cloudfront.net")
    assert distribution.status == "InProgress"
    await distributions.mark_deployed(context, distribution.id, "another version")
    assert distributions.find(context.state, distribution.id).status == "InProgress"
    await distributions.mark_deployed(context, distribution.id, distribution.etag)
    assert distributions.find(context.state, distribution.id).status == "Deployed"


def _set(path: str, value: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        at: Any = config
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at[name]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


MRAP: dict[str, Any] = {
    "Id": "x",
    "DomainName": "x.example",
    "CustomOriginConfig": {"OriginProtocolPolicy": "https-only"},
}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (_set("Surprise", 1), "InvalidArgument", "unsupported property Surprise"),
        (_set("Enabled", None), "InvalidArgument", "Enabled"),
        (_set("Enabled", "perhaps"), "InvalidArgument", "Boolean"),
        (_set("Origins", []), "InvalidArgument", "Origins"),
        (_set("Origins", [MRAP, MRAP]), "InvalidArgument", "unique"),
        (_set("Origins.0.DomainName", "127.0.0.1"), "InvalidArgument", "IP address"),
        (_set("Origins.0.DomainName", "a b"), "InvalidArgument", "domain name"),
        (_set("Origins.0.DomainName", "a..b"), "InvalidArgument", "domain name"),
        (_set("Origins.0.OriginPath", "/x/"), "InvalidArgument", "OriginPath"),
        (_set("Origins.0.CustomOriginConfig", None), "InvalidOrigin", "Exactly one"),
        (_set("Origins.0.CustomOriginConfig.HTTPPort", 81), "InvalidArgument", "HTTPPort"),
        (
            _set("Origins.0.OriginCustomHeaders", [{"HeaderName": "X-A", "HeaderValue": "1\r\nX-B: 2"}]),
            "InvalidArgument",
            "HeaderValue",
        ),
        (
            _set("Origins.0.OriginCustomHeaders", [{"HeaderName": "Host", "HeaderValue": "x"}]),
            "InvalidArgument",
            "host",
        ),
        (
            _set(
                "Origins",
                [{"Id": "mrap", "DomainName": "a.example", "S3OriginConfig": {}, "OriginAccessControlId": "E1"}],
            ),
            "InvalidDomainNameForOriginAccessControl",
            "domain name is not supported",
        ),
        (
            _set("Restrictions", {"GeoRestriction": {"RestrictionType": "whitelist"}}),
            "InvalidGeoRestrictionParameter",
            "Locations",
        ),
        (
            _set("Restrictions", {"GeoRestriction": {"RestrictionType": "blacklist", "Locations": ["Peru"]}}),
            "InvalidArgument",
            "Locations",
        ),
        (_set("DefaultCacheBehavior.TargetOriginId", "none"), "NoSuchOrigin", "origins"),
        (_set("DefaultCacheBehavior.ForwardedValues", None), "InvalidArgument", "ForwardedValues is required"),
        (_set("DefaultCacheBehavior.CachePolicyId", "x"), "InvalidArgument", "cannot be used"),
        (_set("DefaultCacheBehavior.MinTTL", 5), "InvalidTTLOrder", "ascending"),
        (_set("DefaultCacheBehavior.AllowedMethods", ["GET", "PUT"]), "InvalidArgument", "AllowedMethods"),
        (_set("DefaultCacheBehavior.CachedMethods", ["GET", "HEAD", "OPTIONS"]), "InvalidArgument", "CachedMethods"),
        (_set("DefaultCacheBehavior.SmoothStreaming", True), "InvalidArgument", "not supported by Nearpoint"),
        (_set("DefaultRootObject", "/index.html"), "InvalidDefaultRootObject", "DefaultRootObject"),
        (_set("CustomErrorResponses", [{"ErrorCode": 418}]), "InvalidErrorCode", "ErrorCode"),
        (_set("CustomErrorResponses", [{"ErrorCode": 40}]), "InvalidErrorCode", "ErrorCode"),
        (_set("CustomErrorResponses", [{"ErrorCode": 404}, {"ErrorCode": 404}]), "InvalidArgument", "repeated"),
        (_set("CacheBehaviors", [{}] * 76), "TooManyCacheBehaviors", "CacheBehaviors"),
        (_set("CacheBehaviors", {}), "InvalidArgument", "CacheBehaviors"),
        (_set("Origins", [MRAP] * 101), "TooManyOrigins", "Origins"),
        (_set("Aliases", ["a.example"] * 101), "TooManyDistributionCNAMEs", "Aliases"),
        (
            _set("DefaultCacheBehavior.TrustedKeyGroups", ["k"] * 5),
            "TooManyKeyGroupsAssociatedToDistribution",
            "TrustedKeyGroups",
        ),
        (
            _set("DefaultCacheBehavior.ForwardedValues.Headers", ["X"] * 26),
            "TooManyHeadersInForwardedValues",
            "Headers",
        ),
        (_set("Origins.0.CustomOriginConfig.OriginReadTimeout", 121), "InvalidOriginReadTimeout", "OriginReadTimeout"),
        (_set("CustomErrorResponses", [{"ErrorCode": 404, "ResponseCode": 200}]), "InvalidArgument", "go together"),
        (
            _set("CustomErrorResponses", [{"ErrorCode": 404, "ResponseCode": 302, "ResponsePagePath": "/a"}]),
            "InvalidResponseCode",
            "answered with",
        ),
    ],
)
def test_refused_configurations(config: dict[str, Any], change: Any, code: str, text: str) -> None:
    change(config)
    with pytest.raises(AwsError) as refused:
        check_config(config)
    assert refused.value.code == code
    assert text in refused.value.message


def test_empty_promises_are_let_pass(config: dict[str, Any]) -> None:
    config |= {"WebACLId": "", "ViewerCertificate": {"CloudFrontDefaultCertificate": True}}
    config["DefaultCacheBehavior"]["TrustedSigners"] = []
    config["Restrictions"] = {"GeoRestriction": {"RestrictionType": "none"}}
    assert "WebACLId" not in check_config(config)


@pytest.mark.parametrize(
    "aliases", [["-a.example"], ["localhost"], ["a.*.example"], ["*"], ["a b.example"], ["a.example."]]
)
def test_what_is_no_custom_domain(config: dict[str, Any], aliases: list[str]) -> None:
    with pytest.raises(AwsError, match="Aliases"):
        check_config(config | {"Aliases": aliases})


async def test_a_custom_domain_belongs_to_one_distribution(context: Context, config: dict[str, Any]) -> None:
    config["DefaultCacheBehavior"].pop("LambdaFunctionAssociations", None)
    certificate = {
        "AcmCertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/x",
        "SslSupportMethod": "sni-only",
    }
    config |= {"Aliases": ["www.shop.example"], "ViewerCertificate": certificate}
    with pytest.raises(AwsError, match="duplicate"):
        check_config(config | {"Aliases": ["www.shop.example", "WWW.shop.example"]})
    made = await distributions.create_distribution(context, config=config)
    assert made.config["Aliases"] == ["www.shop.example"]
    with pytest.raises(AwsError) as refused:
        await distributions.create_distribution(context, config=config | {"Aliases": ["a.example", "WWW.Shop.example"]})
    assert (refused.value.code, refused.value.status) == ("CNAMEAlreadyExists", 409)
    again = await distributions.update_distribution(context, made.id, config=config, if_match=made.etag)
    assert again.config["Aliases"] == ["www.shop.example"]


async def test_what_a_distribution_refers_to_exists(context: Context, config: dict[str, Any]) -> None:
    behavior = {"TargetOriginId": "mrap", "ViewerProtocolPolicy": "allow-all"}
    managed = {
        "CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",
        "OriginRequestPolicyId": "b689b0a8-53d0-40ab-baf2-68738e2966ac",
        "ResponseHeadersPolicyId": "67f7725c-6f97-4210-82d7-5512b31e9d03",
    }
    config["DefaultCacheBehavior"] = behavior | managed
    await distributions.create_distribution(context, config=config)
    for name, value, code in (
        ("CachePolicyId", "4135ea2d", "NoSuchCachePolicy"),
        ("OriginRequestPolicyId", "b689b0a8", "NoSuchOriginRequestPolicy"),
        ("ResponseHeadersPolicyId", "67f7725c", "NoSuchResponseHeadersPolicy"),
        ("TrustedKeyGroups", ["none"], "TrustedKeyGroupDoesNotExist"),
    ):
        config["DefaultCacheBehavior"] = behavior | managed | {name: value}
        with pytest.raises(AwsError, match=code):
            await distributions.create_distribution(context, config=config)
    config["DefaultCacheBehavior"] = behavior | managed
    config["Origins"][0]["OriginAccessControlId"] = "E1"
    with pytest.raises(AwsError, match="InvalidOriginAccessControl"):
        await distributions.create_distribution(context, config=config)


async def test_the_caller_reference_makes_a_call_repeatable(context: Context, config: dict[str, Any]) -> None:
    first = await distributions.create_distribution(context, config=config, caller_reference="one")
    assert await distributions.create_distribution(context, config=config, caller_reference="one") == first
    with pytest.raises(AwsError, match="DistributionAlreadyExists"):
        await distributions.create_distribution(context, config=config | {"Comment": "x"}, caller_reference="one")
    assert len(context.state.list(Distribution)) == 1


async def test_associated_functions(
    context: Context, config: dict[str, Any], package: bytes, trust: dict[str, Any]
) -> None:
    role = await roles.create_role(context, name="edge", trust=trust)
    plain_trust = copy.deepcopy(trust)
    plain_trust["Statement"][0]["Principal"]["Service"] = "lambda.amazonaws.com"
    plain_role = await roles.create_role(context, name="plain", trust=plain_trust)

    async def version(name: str, **changes: Any) -> str:
        given: dict[str, Any] = {"region": "us-east-1", "runtime": "python3.13", "handler": "index.handler"}
        given |= {"package": package, "role_arn": role.arn, "timeout_s": 5} | changes
        await functions.create_function(context, name=name, **given)
        return (await functions.publish_version(context, given["region"], name)).arn

    good = await version("good")
    cases = [
        (await version("slow", timeout_s=31), "origin-request", "timeout is larger"),
        (await version("slowish", timeout_s=6), "viewer-request", "timeout is larger"),
        (await version("large", memory_mb=256), "viewer-request", "memory size is larger"),
        (await version("environment", environment={"AB": "1"}), "origin-request", "environment variables"),
        (await version("arm", architectures=["arm64"]), "origin-request", "x86_64"),
        (await version("untrusted", role_arn=plain_role.arn), "origin-request", "edgelambda"),
        (await version("elsewhere", region="eu-west-1"), "origin-request", "us-east-1"),
        (good.removesuffix(":1"), "origin-request", "specific function version"),
        (good.removesuffix(":1") + ":$LATEST", "origin-request", "specific function version"),
        (good.removesuffix(":1") + ":9", "origin-request", "does not exist"),
        (good.replace("123456789012", "999999999999"), "origin-request", "this account"),
        ("nonsense", "origin-request", "ARN"),
    ]
    for arn, event_type, text in cases:
        config["DefaultCacheBehavior"]["LambdaFunctionAssociations"] = [
            {"EventType": event_type, "LambdaFunctionARN": arn}
        ]
        with pytest.raises(AwsError) as refused:
            await distributions.create_distribution(context, config=config)
        assert refused.value.code == "InvalidLambdaFunctionAssociation"
        assert text in refused.value.message, arn
    config["DefaultCacheBehavior"]["LambdaFunctionAssociations"] = [
        {"EventType": event_type, "LambdaFunctionARN": good} for event_type in ("viewer-request", "origin-request")
    ]
    await distributions.create_distribution(context, config=config)
    assert len(context.state.list(Distribution)) == 1


async def test_update_and_delete_want_the_etag(context: Context, config: dict[str, Any]) -> None:
    first = await distributions.create_distribution(context, config=config)
    config["Enabled"] = False
    for etag, code in ((None, "InvalidIfMatchVersion"), ("E0", "PreconditionFailed")):
        with pytest.raises(AwsError, match=code):
            await distributions.update_distribution(context, first.id, config=config, if_match=etag)
        with pytest.raises(AwsError, match=code):
            await distributions.delete_distribution(context, first.id, if_match=etag)
    with pytest.raises(AwsError, match="DistributionNotDisabled"):
        await distributions.delete_distribution(context, first.id, if_match=first.etag)
    second = await distributions.update_distribution(context, first.id, config=config, if_match=first.etag)
    assert (second.domain, second.created_at) == (first.domain, first.created_at)
    assert second.etag != first.etag
    await distributions.create_invalidation(context, first.id, paths=["/*"], caller_reference="1")
    await distributions.delete_distribution(context, first.id, if_match=second.etag)
    assert context.state.list(Invalidation) == []


async def test_invalidations(context: Context, config: dict[str, Any]) -> None:
    distribution = await distributions.create_distribution(context, config=config)

    async def invalidate(paths: list[str], reference: str) -> Invalidation:
        return await distributions.create_invalidation(
            context, distribution.id, paths=paths, caller_reference=reference
        )

    first = await invalidate(["/a/*", "b", "#Red*"], "one")
    assert first.paths == ("/a/*", "/b", "#Red*")
    assert await invalidate(["/b", "/a/*", "#Red*"], "one") == first
    for paths, reference, code in (
        (["/c"], "one", "InvalidArgument"),
        ([], "two", "InvalidArgument"),
        (["/a*b"], "two", "InvalidArgument"),
        (["/a b"], "two", "InvalidArgument"),
        (["/" + "x" * 4000], "two", "InvalidArgument"),
        (["#a,b"], "two", "InvalidArgument"),
        (["#"], "two", "InvalidArgument"),
        (["#" + "x" * 257], "two", "InvalidArgument"),
        (["/x"], "", "InvalidArgument"),
        ([f"/{number}" for number in range(3001)], "two", "BatchTooLarge"),
        ([f"/{number}" for number in range(2999)], "two", "TooManyInvalidationsInProgress"),
        ([f"/{number}/*" for number in range(15)], "two", "TooManyInvalidationsInProgress"),
    ):
        with pytest.raises(AwsError) as refused:
            await invalidate(paths, reference)
        assert refused.value.code == code
    await distributions.complete_invalidation(context, first.id)
    second = await invalidate([f"/{number}/*" for number in range(15)], "two")
    assert [each.status for each in distributions.list_invalidations(context.state, distribution.id)] == [
        "InProgress",
        "Completed",
    ]
    assert distributions.find_invalidation(context.state, distribution.id, second.id) == second
    with pytest.raises(AwsError, match="NoSuchInvalidation"):
        distributions.find_invalidation(context.state, distribution.id, "I0")


async def test_a_log_goes_to_a_bucket_that_exists(context: Context, config: dict[str, Any]) -> None:
    config["Logging"] = {"Bucket": "logs.s3.amazonaws.com", "Prefix": "cdn"}
    with pytest.raises(AwsError, match="does not exist"):
        await distributions.create_distribution(context, config=config)
    await context.state.put(Bucket(name="logs", region="eu-west-1", created_at=0))
    made = await distributions.create_distribution(context, config=config)
    assert made.config["Logging"] == config["Logging"]
    for wrong in ({"Bucket": "logs"}, {"Prefix": "x"}, {"Bucket": "logs.s3.amazonaws.com", "Prefix": "/x"}):
        with pytest.raises(AwsError, match="InvalidArgument"):
            await distributions.create_distribution(context, config=config | {"Logging": wrong})
    off = await distributions.create_distribution(
        context, config=config | {"Logging": {"Enabled": False, "Bucket": "", "Prefix": ""}}
    )
    assert "Logging" not in off.config
