"""Policies, access controls, keys and key groups in templates."""

from __future__ import annotations

import copy
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nearpoint.stack.services.edge_settings import KINDS
from nearpoint.state.resources import CachePolicy, Distribution

_FORM = serialization.PublicFormat.SubjectPublicKeyInfo
PEM = rsa.generate_private_key(65537, 2048).public_key().public_bytes(serialization.Encoding.PEM, _FORM).decode()
SELECTIONS = {
    "HeadersConfig": {"HeaderBehavior": "none"},
    "CookiesConfig": {"CookieBehavior": "none"},
    "QueryStringsConfig": {"QueryStringBehavior": "none"},
}
TEMPLATE: dict[str, Any] = {
    "Parameters": {"Seconds": {"Type": "Number", "Default": 60}},
    "Resources": {
        "Cache": {
            "Type": "AWS::CloudFront::CachePolicy",
            "Properties": {
                "CachePolicyConfig": {
                    "Name": {"Fn::Sub": "${AWS::StackName}-cache"},
                    "MinTTL": 1,
                    "DefaultTTL": {"Ref": "Seconds"},
                    "MaxTTL": 600,
                    "ParametersInCacheKeyAndForwardedToOrigin": {
                        "EnableAcceptEncodingGzip": True,
                        "EnableAcceptEncodingBrotli": True,
                        **SELECTIONS,
                    },
                }
            },
        },
        "Request": {
            "Type": "AWS::CloudFront::OriginRequestPolicy",
            "Properties": {"OriginRequestPolicyConfig": {"Name": "request", **SELECTIONS}},
        },
        "Response": {
            "Type": "AWS::CloudFront::ResponseHeadersPolicy",
            "Properties": {
                "ResponseHeadersPolicyConfig": {
                    "Name": "response",
                    "CustomHeadersConfig": {"Items": [{"Header": "X-A", "Value": "a", "Override": True}]},
                }
            },
        },
        "Control": {
            "Type": "AWS::CloudFront::OriginAccessControl",
            "Properties": {
                "OriginAccessControlConfig": {
                    "Name": "control",
                    "OriginAccessControlOriginType": "s3",
                    "SigningBehavior": "always",
                    "SigningProtocol": "sigv4",
                }
            },
        },
        "Key": {
            "Type": "AWS::CloudFront::PublicKey",
            "Properties": {"PublicKeyConfig": {"Name": "key", "CallerReference": "one", "EncodedKey": PEM}},
        },
        "Group": {
            "Type": "AWS::CloudFront::KeyGroup",
            "Properties": {"KeyGroupConfig": {"Name": "group", "Items": [{"Ref": "Key"}]}},
        },
        "Edge": {
            "Type": "AWS::CloudFront::Distribution",
            "Properties": {
                "DistributionConfig": {
                    "Enabled": True,
                    "Origins": [
                        {
                            "Id": "bucket",
                            "DomainName": "data-eu.s3.eu-west-1.amazonaws.com",
                            "S3OriginConfig": {"OriginAccessIdentity": ""},
                            "OriginAccessControlId": {"Fn::GetAtt": ["Control", "Id"]},
                        }
                    ],
                    "DefaultCacheBehavior": {
                        "TargetOriginId": "bucket",
                        "ViewerProtocolPolicy": "redirect-to-https",
                        "CachePolicyId": {"Ref": "Cache"},
                        "OriginRequestPolicyId": {"Ref": "Request"},
                        "ResponseHeadersPolicyId": {"Fn::GetAtt": "Response.Id"},
                        "TrustedKeyGroups": [{"Ref": "Group"}],
                    },
                }
            },
        },
    },
    "Outputs": {
        "Changed": {"Value": {"Fn::GetAtt": ["Cache", "LastModifiedTime"]}},
        "Created": {"Value": {"Fn::GetAtt": ["Key", "CreatedTime"]}},
    },
}


async def test_the_life_of_a_stack(world: Any) -> None:
    stack = await world.create(TEMPLATE)
    assert stack.status == "CREATE_COMPLETE", world.events(stack)
    state = world.context.state
    made = {kind.name: state.list(kind.resource) for kind in KINDS}
    assert {name: len(settings) for name, settings in made.items()} == dict.fromkeys(made, 1)
    (distribution,) = state.list(Distribution)
    behavior = distribution.config["DefaultCacheBehavior"]
    assert behavior["CachePolicyId"] == made["CachePolicy"][0].id
    assert behavior["TrustedKeyGroups"] == [made["KeyGroup"][0].id]
    assert distribution.config["Origins"][0]["OriginAccessControlId"] == made["OriginAccessControl"][0].id
    assert made["KeyGroup"][0].config["Items"] == [made["PublicKey"][0].id]
    assert made["CachePolicy"][0].name == "app-cache"
    assert len(made["CachePolicy"][0].id) == 36
    assert made["PublicKey"][0].id[0] == "K"

    changed = copy.deepcopy(TEMPLATE)
    changed["Parameters"]["Seconds"]["Default"] = 90
    stack = await world.update(changed)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    (policy,) = state.list(CachePolicy)
    assert policy.config["DefaultTTL"] == 90
    assert policy.id == made["CachePolicy"][0].id

    stack = await world.delete(stack)
    assert stack.status == "DELETE_COMPLETE", world.events(stack)
    assert not any(state.list(kind.resource) for kind in KINDS)


async def test_a_wrong_policy_rolls_back(world: Any) -> None:
    wrong = copy.deepcopy(TEMPLATE)
    wrong["Resources"]["Cache"]["Properties"]["CachePolicyConfig"]["MaxTTL"] = 5
    stack = await world.create(wrong)
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "ascending" in world.reason(stack, "Cache", "CREATE_FAILED")
    assert not any(world.context.state.list(kind.resource) for kind in KINDS)
    assert not world.context.state.list(Distribution)


async def test_a_key_stays_as_it_is(world: Any) -> None:
    await world.create(TEMPLATE)
    changed = copy.deepcopy(TEMPLATE)
    changed["Resources"]["Key"]["Properties"]["PublicKeyConfig"]["CallerReference"] = "two"
    stack = await world.update(changed)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "public key" in world.reason(stack, "Key", "UPDATE_FAILED")
