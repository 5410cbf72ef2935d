from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nearpoint.awsproto.errors import AwsError
from nearpoint.edge.managed import ALL_VIEWER_AND_CLOUDFRONT
from nearpoint.stack.services import distributions, edge_settings
from nearpoint.stack.services.context import Context
from nearpoint.stack.services.edge_settings import (
    CACHE_POLICY,
    KEY_GROUP,
    KINDS,
    ORIGIN_ACCESS_CONTROL,
    ORIGIN_REQUEST_POLICY,
    PUBLIC_KEY,
    RESPONSE_HEADERS_POLICY,
    SettingKind,
)


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


RSA_PEM = pem(rsa.generate_private_key(65537, 2048))
SELECTIONS = {
    "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": ["Origin"]},
    "CookiesConfig": {"CookieBehavior": "none"},
    "QueryStringsConfig": {"QueryStringBehavior": "allExcept", "QueryStrings": ["utm"]},
}
CACHE = {
    "Name": "mine",
    "MinTTL": 1,
    "ParametersInCacheKeyAndForwardedToOrigin": {"EnableAcceptEncodingGzip": "true", **SELECTIONS},
}
CORS = {
    "AccessControlAllowOrigins": {"Items": ["https://*.example.com"]},
    "AccessControlAllowHeaders": {"Items": ["X-One"]},
    "AccessControlAllowMethods": {"Items": ["GET"]},
    "AccessControlAllowCredentials": True,
    "OriginOverride": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "CachePolicy": CACHE,
    "OriginRequestPolicy": {"Name": "mine", **SELECTIONS},
    "ResponseHeadersPolicy": {"Name": "mine", "CorsConfig": CORS},
    "OriginAccessControl": {
        "Name": "mine",
        "OriginAccessControlOriginType": "s3",
        "SigningBehavior": "always",
        "SigningProtocol": "sigv4a",
    },
    "PublicKey": {"Name": "mine", "CallerReference": "one", "EncodedKey": RSA_PEM},
}


async def config_of(context: Context, kind: SettingKind) -> dict[str, Any]:
    if kind is KEY_GROUP:
        known = context.state.list(PUBLIC_KEY.resource)
        key = known[0] if known else await edge_settings.create(context, PUBLIC_KEY, config=CONFIGS["PublicKey"])
        return {"Name": "mine", "Items": [key.id]}
    return copy.deepcopy(CONFIGS[kind.name])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_the_life_of_a_setting(context: Context, kind: SettingKind) -> None:
    config = await config_of(context, kind)
    made = await edge_settings.create(context, kind, config=config)
    assert edge_settings.find(context.state, kind, made.id) == made
    with pytest.raises(AwsError, match=kind.exists):
        await edge_settings.create(context, kind, config=config)
    text = "Description" if kind is ORIGIN_ACCESS_CONTROL else "Comment"
    for etag, code in ((None, "InvalidIfMatchVersion"), ("E1", "PreconditionFailed")):
        with pytest.raises(AwsError, match=code):
            await edge_settings.update(context, kind, made.id, config=config, if_match=etag)
        with pytest.raises(AwsError, match=code):
            await edge_settings.delete(context, kind, made.id, if_match=etag)
    changed = await edge_settings.update(context, kind, made.id, config=config | {text: "new"}, if_match=made.etag)
    assert changed.config[text] == "new"
    assert changed.etag != made.etag
    assert (changed.id, changed.created_at) == (made.id, made.created_at)
    await edge_settings.delete(context, kind, made.id, if_match=changed.etag)
    for call in (
        edge_settings.update(context, kind, made.id, config=config, if_match="E1"),
        edge_settings.delete(context, kind, made.id, if_match="E1"),
    ):
        with pytest.raises(AwsError, match=kind.missing) as missing:
            await call
        assert missing.value.status == 404


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_what_is_used_stays(context: Context, kind: SettingKind) -> None:
    made = await edge_settings.create(context, kind, config=await config_of(context, kind))
    behavior: dict[str, Any] = {
        "TargetOriginId": "o",
        "ViewerProtocolPolicy": "allow-all",
        "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
    }
    origin: dict[str, Any] = {"Id": "o", "DomainName": "b.s3.eu-west-1.amazonaws.com", "S3OriginConfig": {}}
    if kind is KEY_GROUP:
        behavior["TrustedKeyGroups"] = [made.id]
    elif kind is ORIGIN_ACCESS_CONTROL:
        origin["OriginAccessControlId"] = made.id
    elif kind is PUBLIC_KEY:
        group = {"Name": "group", "Items": [made.id]}
        await edge_settings.create(context, KEY_GROUP, config=group)
    else:
        behavior[f"{kind.name}Id"] = made.id
    config = {"Enabled": True, "Origins": [origin], "DefaultCacheBehavior": behavior}
    await distributions.create_distribution(context, config=config)
    with pytest.raises(AwsError, match=kind.in_use) as refused:
        await edge_settings.delete(context, kind, made.id, if_match=made.etag)
    assert refused.value.status == 409


async def test_managed_policies(context: Context) -> None:
    for kind in (CACHE_POLICY, ORIGIN_REQUEST_POLICY, RESPONSE_HEADERS_POLICY):
        for id, config in kind.managed.items():
            # This one names more headers than an account's own policy may.
            checked = config if id == ALL_VIEWER_AND_CLOUDFRONT else kind.check(dict(config))
            assert checked["Name"].startswith("Managed-")
            assert edge_settings.find(context.state, kind, id).config == config
            with pytest.raises(AwsError, match="IllegalUpdate"):
                await edge_settings.update(context, kind, id, config=CONFIGS[kind.name], if_match="x")
            with pytest.raises(AwsError, match="IllegalDelete"):
                await edge_settings.delete(context, kind, id, if_match="x")


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    at: Any = config
    for name in parents:
        at = at.setdefault(name, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return config


KEY = "ParametersInCacheKeyAndForwardedToOrigin"
SECURITY = "SecurityHeadersConfig"


@pytest.mark.parametrize(
    ("kind", "path", "value", "code"),
    [
        (CACHE_POLICY, "Name", None, "InvalidArgument"),
        (CACHE_POLICY, "Other", 1, "InvalidArgument"),
        (CACHE_POLICY, "MaxTTL", 0, "InvalidArgument"),
        (CACHE_POLICY, f"{KEY}.HeadersConfig.HeaderBehavior", "allViewer", "InvalidArgument"),
        (CACHE_POLICY, f"{KEY}.HeadersConfig.Headers", [], "InvalidArgument"),
        (CACHE_POLICY, f"{KEY}.HeadersConfig.Headers", ["a", "A"], "InvalidArgument"),
        (CACHE_POLICY, f"{KEY}.HeadersConfig.Headers", ["a b"], "InvalidArgument"),
        (CACHE_POLICY, f"{KEY}.HeadersConfig.Headers", list("abcdefghijk"), "TooManyHeadersInCachePolicy"),
        (CACHE_POLICY, f"{KEY}.CookiesConfig.Cookies", ["s"], "InvalidArgument"),
        (
            CACHE_POLICY,
            f"{KEY}.QueryStringsConfig.QueryStrings",
            list("abcdefghijk"),
            "TooManyQueryStringsInCachePolicy",
        ),
        (ORIGIN_REQUEST_POLICY, "HeadersConfig.Headers", ["Authorization"], "InvalidArgument"),
        (
            ORIGIN_REQUEST_POLICY,
            "HeadersConfig",
            {"HeaderBehavior": "allViewerAndWhitelistCloudFront", "Headers": ["Origin"]},
            "InvalidArgument",
        ),
        (ORIGIN_REQUEST_POLICY, "CookiesConfig", None, "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "CorsConfig", None, "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "CorsConfig.AccessControlAllowOrigins.Items", ["*"], "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "CorsConfig.AccessControlAllowOrigins.Items", ["example.*"], "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "CorsConfig.AccessControlAllowOrigins.Items", ["a.*.b"], "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "CorsConfig.AccessControlAllowMethods.Items", ["ALL", "GET"], "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "RemoveHeadersConfig.Items", [{"Header": "Via"}], "InvalidArgument"),
        (RESPONSE_HEADERS_POLICY, "RemoveHeadersConfig.Items", [{"Header": "X-Amz-Cf-Id"}], "InvalidArgument"),
        (
            RESPONSE_HEADERS_POLICY,
            "RemoveHeadersConfig.Items",
            [{"Header": f"X-{at}"} for at in range(11)],
            "TooManyRemoveHeadersInResponseHeadersPolicy",
        ),
        (
            RESPONSE_HEADERS_POLICY,
            "CustomHeadersConfig.Items",
            [{"Header": f"X-{at}", "Value": "", "Override": True} for at in range(11)],
            "TooManyCustomHeadersInResponseHeadersPolicy",
        ),
        (
            RESPONSE_HEADERS_POLICY,
            "CustomHeadersConfig.Items",
            [{"Header": "X-A", "Value": "a\r\nb", "Override": True}],
            "InvalidArgument",
        ),
        (
            RESPONSE_HEADERS_POLICY,
            f"{SECURITY}.ContentSecurityPolicy",
            {"Override": True, "ContentSecurityPolicy": "x" * 1784},
            "TooLongCSPInResponseHeadersPolicy",
        ),
        (
            RESPONSE_HEADERS_POLICY,
            f"{SECURITY}.XSSProtection",
            {"Override": True, "Protection": True, "ModeBlock": True, "ReportUri": "/x"},
            "InvalidArgument",
        ),
        (RESPONSE_HEADERS_POLICY, "ServerTimingHeadersConfig", {"Enabled": True}, "InvalidArgument"),
        (
            RESPONSE_HEADERS_POLICY,
            "ServerTimingHeadersConfig",
            {"Enabled": True, "SamplingRate": 101},
            "InvalidArgument",
        ),
        (ORIGIN_ACCESS_CONTROL, "SigningProtocol", "sigv2", "InvalidArgument"),
        (ORIGIN_ACCESS_CONTROL, "OriginAccessControlOriginType", "lambda", "InvalidArgument"),
        (PUBLIC_KEY, "EncodedKey", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "InvalidArgument"),
        (PUBLIC_KEY, "EncodedKey", pem(rsa.generate_private_key(65537, 1024)), "InvalidArgument"),
        (PUBLIC_KEY, "EncodedKey", pem(ec.generate_private_key(ec.SECP384R1())), "InvalidArgument"),
        (KEY_GROUP, "Items", ["none"], "InvalidArgument"),
        (KEY_GROUP, "Items", list("abcdef"), "TooManyPublicKeysInKeyGroup"),
    ],
)
async def test_refused(context: Context, kind: SettingKind, path: str, value: Any, code: str) -> None:
    config = changed(await config_of(context, kind), path, value)
    with pytest.raises(AwsError) as refused:
        await edge_settings.create(context, kind, config=config)
    assert (refused.value.code, refused.value.status) == (code, 400)
    assert not context.state.list(kind.resource)


async def test_a_public_keys_value_does_not_change(context: Context) -> None:
    made = await edge_settings.create(context, PUBLIC_KEY, config=CONFIGS["PublicKey"])
    other = CONFIGS["PublicKey"] | {"EncodedKey": pem(ec.generate_private_key(ec.SECP256R1()))}
    with pytest.raises(AwsError, match="CannotChangeImmutablePublicKeyFields"):
        await edge_settings.update(context, PUBLIC_KEY, made.id, config=other, if_match=made.etag)
    await edge_settings.create(context, PUBLIC_KEY, config=other | {"Name": "other", "CallerReference": "two"})


def test_defaults_of_a_cache_policy() -> None:
    checked = CACHE_POLICY.check({"Name": "a", "MinTTL": 90_000})
    assert (checked["MinTTL"], checked["DefaultTTL"], checked["MaxTTL"]) == (90_000, 90_000, 31_536_000)
    assert checked[KEY]["EnableAcceptEncodingGzip"] is False
