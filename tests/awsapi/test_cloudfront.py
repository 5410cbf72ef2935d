"""boto3's cloudfront client: distributions, policies, access controls, keys and key groups."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
_FORM = serialization.PublicFormat.SubjectPublicKeyInfo
PEM = rsa.generate_private_key(65537, 2048).public_key().public_bytes(serialization.Encoding.PEM, _FORM).decode()


def listed(*items: Any) -> dict[str, Any]:
    return {"Quantity": len(items), "Items": list(items)} if items else {"Quantity": 0}


SELECTIONS = {
    "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": listed("Origin", "X-A")},
    "CookiesConfig": {"CookieBehavior": "none"},
    "QueryStringsConfig": {"QueryStringBehavior": "allExcept", "QueryStrings": listed("utm")},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "cache_policy": {
        "Name": "mine",
        "Comment": "",
        "MinTTL": 1,
        "DefaultTTL": 10,
        "MaxTTL": 100,
        "ParametersInCacheKeyAndForwardedToOrigin": {
            "EnableAcceptEncodingGzip": True,
            "EnableAcceptEncodingBrotli": False,
            **SELECTIONS,
        },
    },
    "origin_request_policy": {"Name": "mine", "Comment": "", **SELECTIONS},
    "response_headers_policy": {
        "Name": "mine",
        "Comment": "",
        "CorsConfig": {
            "AccessControlAllowOrigins": listed("https://a.example"),
            "AccessControlAllowHeaders": listed("X-A"),
            "AccessControlAllowMethods": listed("GET", "PUT"),
            "AccessControlExposeHeaders": listed("X-B"),
            "AccessControlAllowCredentials": True,
            "AccessControlMaxAgeSec": 600,
            "OriginOverride": True,
        },
        "SecurityHeadersConfig": {
            "FrameOptions": {"Override": True, "FrameOption": "DENY"},
            "ContentTypeOptions": {"Override": True},
        },
        "ServerTimingHeadersConfig": {"Enabled": True, "SamplingRate": 12.5},
        "CustomHeadersConfig": listed({"Header": "X-C", "Value": "c", "Override": False}),
        "RemoveHeadersConfig": listed({"Header": "Server"}),
    },
    "origin_access_control": {
        "Name": "mine",
        "Description": "",
        "SigningProtocol": "sigv4a",
        "SigningBehavior": "no-override",
        "OriginAccessControlOriginType": "s3",
    },
    "public_key": {"Name": "mine", "CallerReference": "one", "EncodedKey": PEM, "Comment": ""},
    "key_group": {"Name": "mine", "Items": [], "Comment": ""},
}
PLURALS = {"cache_policy": "cache_policies", "origin_request_policy": "origin_request_policies"} | {
    "response_headers_policy": "response_headers_policies"
}


def camel(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))


def code(error: Any) -> tuple[str, int]:
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def client(world: Any) -> Any:
    return world.client("cloudfront")


async def make(client: Any, call: Any, name: str, **changes: Any) -> dict[str, Any]:
    config = CONFIGS[name] | changes
    if name == "key_group" and not config["Items"]:
        key = await make(client, call, "public_key")
        config = config | {"Items": [key["PublicKey"]["Id"]]}
    made: dict[str, Any] = await call(getattr(client, f"create_{name}"), **{f"{camel(name)}Config": config})
    return made


@pytest.mark.parametrize("name", list(CONFIGS))
async def test_the_life_of_a_setting(client: Any, call: Any, name: str) -> None:
    word, config_name = camel(name), f"{camel(name)}Config"
    made = await make(client, call, name)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    id, config, etag = made[word]["Id"], made[word][config_name], made["ETag"]
    assert made["Location"].endswith(f"/{id}")
    assert {key: value for key, value in config.items() if key != "Items"} == {
        key: value for key, value in CONFIGS[name].items() if key != "Items"
    }
    got = await call(getattr(client, f"get_{name}"), Id=id)
    assert (got[word], got["ETag"]) == (made[word], etag)
    got = await call(getattr(client, f"get_{name}_config"), Id=id)
    assert (got[config_name], got["ETag"]) == (config, etag)

    text = "Description" if "Description" in config else "Comment"
    update = getattr(client, f"update_{name}")
    change = {"Id": id, config_name: config | {text: "new"}}
    for wrong, expected in (({}, ("InvalidIfMatchVersion", 400)), ({"IfMatch": "E1"}, ("PreconditionFailed", 412))):
        with pytest.raises(ClientError) as error:
            await call(update, **change, **wrong)
        assert code(error) == expected
    changed = await call(update, **change, IfMatch=etag)
    assert changed[word][config_name][text] == "new"
    assert changed["ETag"] != etag

    plural = PLURALS.get(name, f"{name}s")
    items = (await call(getattr(client, f"list_{plural}")))[f"{word}List"]["Items"]
    assert id in str(items)
    delete = getattr(client, f"delete_{name}")
    with pytest.raises(ClientError) as error:
        await call(delete, Id=id, IfMatch=etag)
    assert code(error) == ("PreconditionFailed", 412)
    gone = await call(delete, Id=id, IfMatch=changed["ETag"])
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as error:
        await call(getattr(client, f"get_{name}"), Id=id)
    assert code(error) == ("NoSuchResource" if name == "key_group" else f"NoSuch{word}", 404)


@pytest.mark.parametrize("name", ["cache_policy", "origin_request_policy", "response_headers_policy"])
async def test_managed_and_own_policies(client: Any, call: Any, name: str) -> None:
    word = camel(name)
    made = await make(client, call, name)

    async def items(**parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = (await call(getattr(client, f"list_{PLURALS[name]}"), **parameters))[f"{word}List"]
            found += answer.get("Items", [])
            if "NextMarker" not in answer:
                return found
            parameters["Marker"] = answer["NextMarker"]

    managed = await items(Type="managed")
    assert len(managed) >= 5
    assert {each["Type"] for each in managed} == {"managed"}
    assert all(each[word][f"{word}Config"]["Name"].startswith("Managed-") for each in managed)
    own = await items(Type="custom")
    assert [(each["Type"], each[word]["Id"]) for each in own] == [("custom", made[word]["Id"])]
    assert await items(MaxItems="2") == managed + own
    id = managed[0][word]["Id"]
    got = await call(getattr(client, f"get_{name}"), Id=id)
    assert got[word] == managed[0][word]
    with pytest.raises(ClientError) as error:
        await call(getattr(client, f"delete_{name}"), Id=id, IfMatch=got["ETag"])
    assert code(error) == ("IllegalDelete", 400)


async def test_quantities_have_to_fit(client: Any, call: Any) -> None:
    wrong = copy.deepcopy(CONFIGS["origin_request_policy"])
    wrong["HeadersConfig"]["Headers"]["Quantity"] = 5
    with pytest.raises(ClientError) as error:
        await call(client.create_origin_request_policy, OriginRequestPolicyConfig=wrong)
    assert code(error) == ("InconsistentQuantities", 400)


CUSTOM = {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}


def config(**behavior: Any) -> dict[str, Any]:
    return {
        "CallerReference": "one",
        "Comment": "",
        "Enabled": True,
        "Origins": listed({"Id": "bucket", "DomainName": "origin.example", "CustomOriginConfig": CUSTOM}),
        "DefaultCacheBehavior": {
            "TargetOriginId": "bucket",
            "ViewerProtocolPolicy": "allow-all",
            "CachePolicyId": CACHING_OPTIMIZED,
            **behavior,
        },
    }


async def test_the_life_of_a_distribution(world: Any, client: Any, call: Any) -> None:
    world.published.clear()
    made = await call(client.create_distribution, DistributionConfig=config())
    found = made["Distribution"]
    id, etag = found["Id"], made["ETag"]
    assert (found["Status"], made["ResponseMetadata"]["HTTPStatusCode"]) == ("InProgress", 201)
    assert made["Location"].endswith(f"/2020-05-31/distribution/{id}")
    assert found["DistributionConfig"]["CallerReference"] == "one"
    assert (await call(client.create_distribution, DistributionConfig=config()))["Distribution"]["Id"] == id
    with pytest.raises(ClientError) as error:
        await call(client.create_distribution, DistributionConfig=config(Compress=True))
    assert code(error) == ("DistributionAlreadyExists", 409)
    waiter = client.get_waiter("distribution_deployed")
    waiter.config.delay = 0.02
    asked: list[str] = []
    client.meta.events.register("before-call.cloudfront.GetDistribution", lambda **_: asked.append(id))
    waiting = asyncio.create_task(asyncio.to_thread(waiter.wait, Id=id))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    world.published.set()
    await waiting
    assert asked == [id]  # who waits is told when it is over, not asked to come again

    # What the API gives back is a valid configuration, and nothing is lost on the way.
    given = await call(client.get_distribution_config, Id=id)
    assert given["ETag"] == etag
    for wrong, expected in (({}, ("InvalidIfMatchVersion", 400)), ({"IfMatch": "E1"}, ("PreconditionFailed", 412))):
        with pytest.raises(ClientError) as error:
            await call(client.update_distribution, Id=id, DistributionConfig=given["DistributionConfig"], **wrong)
        assert code(error) == expected
    same = await call(client.update_distribution, Id=id, IfMatch=etag, DistributionConfig=given["DistributionConfig"])
    assert same["Distribution"]["DistributionConfig"] == given["DistributionConfig"]
    other = given["DistributionConfig"] | {"CallerReference": "two"}
    with pytest.raises(ClientError) as error:
        await call(client.update_distribution, Id=id, IfMatch=same["ETag"], DistributionConfig=other)
    assert code(error) == ("IllegalUpdate", 400)

    with pytest.raises(ClientError) as error:
        await call(client.delete_distribution, Id=id, IfMatch=same["ETag"])
    assert code(error) == ("DistributionNotDisabled", 409)
    off = await call(
        client.update_distribution,
        Id=id,
        IfMatch=same["ETag"],
        DistributionConfig=given["DistributionConfig"] | {"Enabled": False},
    )
    await call(client.delete_distribution, Id=id, IfMatch=off["ETag"])
    with pytest.raises(ClientError) as error:
        await call(client.get_distribution, Id=id)
    assert code(error) == ("NoSuchDistribution", 404)


async def test_a_full_configuration_comes_back_as_it_was_given(client: Any, call: Any) -> None:
    group = (await make(client, call, "key_group"))["KeyGroup"]
    control = (await make(client, call, "origin_access_control"))["OriginAccessControl"]
    full = config(
        AllowedMethods={**listed("GET", "HEAD", "OPTIONS"), "CachedMethods": listed("GET", "HEAD")},
        Compress=True,
        TrustedKeyGroups={"Enabled": True, **listed(group["Id"])},
    )
    full["Origins"] = listed(
        {
            "Id": "bucket",
            "DomainName": "b.s3.eu-west-1.amazonaws.com",
            "S3OriginConfig": {"OriginAccessIdentity": ""},
            "OriginAccessControlId": control["Id"],
            "CustomHeaders": listed({"HeaderName": "X-A", "HeaderValue": "a"}),
        },
        {
            "Id": "other",
            "DomainName": "origin.example",
            "CustomOriginConfig": CUSTOM | {"OriginSslProtocols": listed("TLSv1.2")},
            "OriginShield": {"Enabled": True, "OriginShieldRegion": "eu-west-1"},
        },
    )
    full["Aliases"] = listed("*.example.org", "www.example.org")
    full["CacheTagConfig"] = {"HeaderName": "Cache-Tag"}
    full["Logging"] = {"Enabled": False, "IncludeCookies": False, "Bucket": "", "Prefix": ""}
    full["OriginGroups"] = listed(
        {
            "Id": "both",
            "FailoverCriteria": {"StatusCodes": listed(500, 502)},
            "Members": listed({"OriginId": "bucket"}, {"OriginId": "other"}),
        }
    )
    full["CacheBehaviors"] = listed(
        {
            "PathPattern": "/api/*",
            "TargetOriginId": "both",
            "ViewerProtocolPolicy": "https-only",
            "TrustedSigners": {"Enabled": True, **listed("self")},
            "ForwardedValues": {
                "QueryString": True,
                "Cookies": {"Forward": "whitelist", "WhitelistedNames": listed("s")},
                "Headers": listed("Origin"),
                "QueryStringCacheKeys": listed("q"),
            },
            "MinTTL": 0,
        }
    )
    full["CustomErrorResponses"] = listed(
        {"ErrorCode": 404, "ResponsePagePath": "/404.html", "ResponseCode": "200", "ErrorCachingMinTTL": 5},
        {"ErrorCode": 500, "ErrorCachingMinTTL": 1, "ResponsePagePath": "", "ResponseCode": ""},
    )
    full["Restrictions"] = {"GeoRestriction": {"RestrictionType": "whitelist", **listed("DE", "FR")}}
    made = (await call(client.create_distribution, DistributionConfig=full))["Distribution"]
    back = made["DistributionConfig"]

    def within(given: Any, found: Any, path: str = "") -> None:
        if isinstance(given, dict):
            for name, value in given.items():
                if value != "":
                    within(value, found[name], f"{path}.{name}")
        elif isinstance(given, list):
            assert len(given) == len(found), path
            for at, value in enumerate(given):
                within(value, found[at], f"{path}[{at}]")
        else:
            assert given == found, path

    within(full, back)
    assert made["ActiveTrustedSigners"] == {
        "Enabled": True,
        **listed({"AwsAccountNumber": "self", "KeyPairIds": {"Quantity": 0}}),
    }
    keys = made["ActiveTrustedKeyGroups"]
    assert keys["Enabled"] is True
    assert keys["Items"][0]["KeyPairIds"]["Items"] == group["KeyGroupConfig"]["Items"]
    by_group = await call(client.list_distributions_by_key_group, KeyGroupId=group["Id"])
    assert by_group["DistributionIdList"]["Items"] == [made["Id"]]
    by_policy = await call(client.list_distributions_by_cache_policy_id, CachePolicyId=CACHING_OPTIMIZED)
    assert by_policy["DistributionIdList"]["Items"] == [made["Id"]]
    etag = (await call(client.get_key_group, Id=group["Id"]))["ETag"]
    with pytest.raises(ClientError) as error:
        await call(client.delete_key_group, Id=group["Id"], IfMatch=etag)
    assert code(error) == ("ResourceInUse", 409)


async def test_tags_are_added_replaced_and_taken_away(client: Any, call: Any) -> None:
    given = {"DistributionConfig": config(), "Tags": {"Items": [{"Key": "team", "Value": "edge"}]}}
    made = await call(client.create_distribution_with_tags, DistributionConfigWithTags=given)
    arn, etag = made["Distribution"]["ARN"], made["ETag"]
    await call(client.tag_resource, Resource=arn, Tags={"Items": [{"Key": "team", "Value": "a"}, {"Key": "x"}]})
    tags = (await call(client.list_tags_for_resource, Resource=arn))["Tags"]["Items"]
    assert tags == [{"Key": "team", "Value": "a"}, {"Key": "x", "Value": ""}]
    await call(client.untag_resource, Resource=arn, TagKeys={"Items": ["x", "none"]})
    tags = (await call(client.list_tags_for_resource, Resource=arn))["Tags"]["Items"]
    assert tags == [{"Key": "team", "Value": "a"}]
    assert (await call(client.get_distribution, Id=made["Distribution"]["Id"]))["ETag"] == etag
    with pytest.raises(ClientError) as error:
        await call(client.list_tags_for_resource, Resource=arn + "X")
    assert code(error) == ("NoSuchResource", 404)
    with pytest.raises(ClientError) as error:
        await call(client.tag_resource, Resource=arn, Tags={"Items": [{"Key": "aws:x", "Value": ""}]})
    assert code(error) == ("InvalidTagging", 400)


async def test_what_a_role_may_do(world: Any, call: Any) -> None:
    policy = {"Effect": "Allow", "Action": "cloudfront:Get*", "Resource": "arn:aws:cloudfront::*:cache-policy/*"}
    role = await world.role("reader", policy)
    assumed = await call(world.client("sts").assume_role, RoleArn=role.arn, RoleSessionName="test")
    keys = assumed["Credentials"]
    client = world.client("cloudfront", keys=(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]))
    await call(client.get_cache_policy, Id=CACHING_OPTIMIZED)
    with pytest.raises(ClientError) as error:
        await call(client.create_cache_policy, CachePolicyConfig=CONFIGS["cache_policy"])
    assert code(error) == ("AccessDenied", 403)
