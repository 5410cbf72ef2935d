"""What becomes of a distribution and an access point on their way into a template, without asking anybody."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nearpoint.aws.errors import DeployError
from nearpoint.aws.existing.bucket_properties import properties_of
from nearpoint.aws.existing.bucket_reading import parameter, same
from nearpoint.aws.existing.compose import compose
from nearpoint.aws.existing.found import (
    AccessPoint,
    DataBucket,
    Distribution,
    EdgeFunction,
    Existing,
    OriginBucket,
    Role,
    Setting,
    ViewerFunction,
)
from nearpoint.aws.existing.functions import unpacked
from nearpoint.aws.existing.references import Name, Names
from nearpoint.aws.existing.shapes import template_shape
from nearpoint.aws.existing.text import written
from nearpoint.aws.existing.writing import write
from nearpoint.stack.document import read

ACCOUNT = "123456789012"
ALIAS = "mabc123.mrap"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:sign"
VIEWER = f"arn:aws:cloudfront::{ACCOUNT}:function/v"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/edge"
NAMES = Names(
    [
        Name(literal=ALIAS, expression="Point.Alias", rank=1),
        Name(literal="data", expression="First", rank=0, whole=True),
        Name(literal="data.logs", expression="Second", rank=0, whole=True),
        Name(literal="E1", expression="Edge", rank=5),
        Name(literal=ROLE, expression="Role.Arn", rank=2),
    ],
    ACCOUNT,
)


@pytest.mark.parametrize(
    ("text", "rank", "made"),
    [
        ("data", 9, {"Ref": "First"}),
        (ROLE, 9, {"Fn::GetAtt": ["Role", "Arn"]}),
        ("arn:aws:s3:::data/*", 9, {"Fn::Sub": "arn:${AWS::Partition}:s3:::${First}/*"}),
        ("arn:aws:s3:::data.logs", 9, {"Fn::Sub": "arn:${AWS::Partition}:s3:::${Second}"}),
        ("arn:aws:s3:::data.more/x", 9, {"Fn::Sub": "arn:${AWS::Partition}:s3:::data.more/x"}),
        ("my-data", 9, "my-data"),
        ("database", 9, "database"),
        (f"{ALIAS}.accesspoint", 9, {"Fn::Sub": "${Point.Alias}.accesspoint"}),
        (f"x:{ACCOUNT}:y", 9, {"Fn::Sub": "x:${AWS::AccountId}:y"}),
        (f"9{ACCOUNT}", 9, f"9{ACCOUNT}"),
        ("arn:aws:x/E1", 5, {"Fn::Sub": "arn:${AWS::Partition}:x/E1"}),  # it does not wait for what comes later
        ("data/${aws:username}", 9, {"Fn::Sub": "${First}/${!aws:username}"}),
        ("${aws:username}", 9, "${aws:username}"),
        (True, 9, True),
    ],
)
def test_references(text: Any, rank: int, made: Any) -> None:
    assert NAMES.replaced({"a": [text]}, rank) == {"a": [made]}


def test_metadata_names_parameters_alone() -> None:
    given = {"Resource": [f"arn:aws:s3:::data/{ALIAS}/${{aws:username}}", ACCOUNT]}
    assert NAMES.placed(given) == {
        "Resource": [f"arn:aws:s3:::{{First}}/{ALIAS}/${{aws:username}}", "{AWS::AccountId}"]
    }


def existing(**changes: Any) -> Existing:
    config = {
        "Enabled": True,
        "Logging": {"Bucket": "logs.s3.amazonaws.com", "Prefix": "x/"},
        "Aliases": ["www.example.org"],
        "ViewerCertificate": {
            "AcmCertificateArn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/12345678-1234-1234-1234-123456789012",
            "SslSupportMethod": "sni-only", "MinimumProtocolVersion": "TLSv1.2_2021",
        },
        "Origins": [
            {"Id": "point", "DomainName": f"{ALIAS}.accesspoint.s3-global.amazonaws.com",
             "OriginCustomHeaders": [{"HeaderName": "X-Secret", "HeaderValue": "hush"}],
             "CustomOriginConfig": {"OriginProtocolPolicy": "https-only"}},
            {"Id": "pages", "DomainName": "pages.s3.us-east-1.amazonaws.com", "OriginAccessControlId": "OAC1",
             "S3OriginConfig": {}},
        ],
        "DefaultCacheBehavior": {
            "TargetOriginId": "point", "ViewerProtocolPolicy": "https-only", "CachePolicyId": "own-policy",
            "ResponseHeadersPolicyId": "managed-policy",
            "LambdaFunctionAssociations": [{"EventType": "origin-request", "LambdaFunctionARN": f"{FUNCTION}:3"}],
            "FunctionAssociations": [{"EventType": "viewer-request", "FunctionARN": VIEWER}],
        },
        "CacheBehaviors": [
            {"PathPattern": "/p/*", "TargetOriginId": "pages", "ViewerProtocolPolicy": "https-only",
             "CachePolicyId": "own-policy",
             "LambdaFunctionAssociations": [{"EventType": "viewer-request", "LambdaFunctionARN": f"{FUNCTION}2:1"}]},
        ],
    }  # fmt: skip
    cache = {"Name": "mine", "MinTTL": 1, "DefaultTTL": 60, "MaxTTL": 60,
             "ParametersInCacheKeyAndForwardedToOrigin": {
                 "EnableAcceptEncodingGzip": True, "HeadersConfig": {"HeaderBehavior": "none"},
                 "CookiesConfig": {"CookieBehavior": "none"}, "QueryStringsConfig": {"QueryStringBehavior": "none"},
             }}  # fmt: skip
    control = {"Name": "x", "OriginAccessControlOriginType": "s3", "SigningBehavior": "always",
               "SigningProtocol": "sigv4"}  # fmt: skip
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip
    statement = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "s3:GetObject",
                 "Resource": f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}/object/*"}  # fmt: skip
    whole = Existing(
        account_id=ACCOUNT,
        distribution=Distribution(
            id="E123", domain="d1.cloudfront.net", config=config, tags={"team": "a"},
            managed={"managed-policy": ("ResponseHeadersPolicy", "Managed-SecurityHeadersPolicy")},
        ),
        access_point=AccessPoint(
            name="point", alias=ALIAS, policy={"Version": "2012-10-17", "Statement": [statement]},
            public_access_block={"BlockPublicAcls": True},
            buckets=(
                DataBucket(name="one", region="us-east-1", replication_role_arn=None, settings={
                    "Tags": {"a": "b"}, "PolicyStatements": [{"Resource": "arn:aws:s3:::one/*"}]}),
                DataBucket(name="two", region="eu-west-1", replication_role_arn=None, settings={}),
            ),
        ),
        settings=(
            Setting(kind="CachePolicy", id="own-policy", config=cache),
            Setting(kind="OriginAccessControl", id="OAC1", config=control),
        ),
        functions=(
            EdgeFunction(version_arn=f"{FUNCTION}:3", name="sign", event="origin-request", role_arn=ROLE,
                         properties={"Runtime": "python3.13", "Handler": "index.handler"},
                         files={"index.py": b"def handler(event, context): return event\n"}),
            EdgeFunction(version_arn=f"{FUNCTION}2:1", name="sign2", event="viewer-request", role_arn=ROLE,
                         properties={"Runtime": "python3.13", "Handler": "index.handler"}, files=None),
        ),
        viewer_functions=(
            ViewerFunction(arn=VIEWER, name="v", comment="", runtime="cloudfront-js-2.0",
                           code="function handler(event) {\n  return event.request;\n}\n"),
        ),
        roles=(Role(arn=ROLE, properties={"AssumeRolePolicyDocument": trust}),),
        origin_buckets={
            "pages.s3.us-east-1.amazonaws.com": OriginBucket(
                name="pages", properties={"VersioningConfiguration": {"Status": "Enabled"}}, policy=None
            )
        },
        notes=("from reading",),
    )  # fmt: skip
    return replace(whole, **changes)


def test_a_whole_template(tmp_path: Path, lint: Any) -> None:
    composed = compose(existing())
    text = written(composed.template)
    assert "hush" not in text
    assert read(text).value == composed.template  # what is written is what was meant
    resources = composed.template["Resources"]
    assert {name: each["Type"].rpartition("::")[2] for name, each in resources.items()} == {
        "AccessPoint": "MultiRegionAccessPoint", "AccessPointPolicy": "MultiRegionAccessPointPolicy",
        "PagesBucket": "Bucket", "OriginRequestRole": "Role",
        "OriginRequestFunction": "Function", "OriginRequestFunctionVersion": "Version",
        "ViewerRequestFunction": "Function", "ViewerRequestFunctionVersion": "Version", "VFunction": "Function",
        "CachePolicy": "CachePolicy", "PagesAccess": "OriginAccessControl", "Distribution": "Distribution",
    }  # fmt: skip
    config = resources["Distribution"]["Properties"]["DistributionConfig"]
    first, second = config["Origins"]
    assert first["DomainName"] == {"Fn::Sub": "${AccessPoint.Alias}.accesspoint.s3-global.amazonaws.com"}
    assert first["OriginCustomHeaders"][0]["HeaderValue"] == {"Ref": "PointXSecret"}
    assert composed.template["Parameters"]["PointXSecret"]["NoEcho"] is True
    assert second["DomainName"] == {"Fn::GetAtt": ["PagesBucket", "RegionalDomainName"]}
    assert second["OriginAccessControlId"] == {"Fn::GetAtt": ["PagesAccess", "Id"]}
    assert config["Logging"] == {"Bucket": {"Ref": "LogBucketDomain"}, "Prefix": "x/"}
    behavior = config["DefaultCacheBehavior"]
    assert behavior["CachePolicyId"] == {"Ref": "CachePolicy"}
    assert behavior["ResponseHeadersPolicyId"] == {
        "Fn::FindInMap": ["Managed", "ResponseHeadersPolicy", "SecurityHeadersPolicy"]
    }
    assert behavior["LambdaFunctionAssociations"][0]["LambdaFunctionARN"] == {"Ref": "OriginRequestFunctionVersion"}
    assert behavior["FunctionAssociations"][0]["FunctionARN"] == {"Fn::GetAtt": ["VFunction", "FunctionARN"]}
    assert resources["AccessPointPolicy"]["Properties"]["Policy"]["Statement"][0]["Principal"] == {
        "AWS": {"Fn::GetAtt": ["OriginRequestRole", "Arn"]}
    }
    metadata = composed.template["Metadata"]["Nearpoint"]
    assert metadata["DataBuckets"] == ["UsEast1Bucket", "EuWest1Bucket"]
    assert metadata["BucketSettings"]["UsEast1Bucket"]["PolicyStatements"] == [
        {"Resource": "arn:aws:s3:::{UsEast1Bucket}/*"}
    ]
    assert [each["Folder"] for each in metadata["Function"]] == ["origin-request-function", "viewer-request-function"]
    assert list(composed.folders) == ["origin-request-function"]
    for words in (
        "from reading",
        "--parameter PointXSecret=",
        "--parameter DomainNames=www.example.org",
        "aws s3 sync",
    ):
        assert any(words in note for note in composed.notes), words
    (tmp_path / "template.yaml").write_text(text)
    assert lint(tmp_path / "template.yaml") == ""


def test_shapes_without_what_would_be_so_anyway() -> None:
    nothing: dict[str, Any] = {"Quantity": 0}
    given = {
        "CallerReference": "x", "Comment": "", "Enabled": True, "Aliases": nothing, "CacheBehaviors": nothing,
        "CustomErrorResponses": nothing, "OriginGroups": nothing, "PriceClass": "PriceClass_All", "WebACLId": "",
        "Logging": {"Enabled": False, "IncludeCookies": False, "Bucket": "", "Prefix": ""},
        "ViewerCertificate": {"CloudFrontDefaultCertificate": True, "MinimumProtocolVersion": "TLSv1",
                              "CertificateSource": "cloudfront"},
        "Restrictions": {"GeoRestriction": {"RestrictionType": "none", **nothing}},
        "Origins": {"Quantity": 1, "Items": [
            {"Id": "a", "DomainName": "a.example", "OriginPath": "", "CustomHeaders": nothing, "ConnectionAttempts": 3,
             "ConnectionTimeout": 10, "OriginShield": {"Enabled": False}, "OriginAccessControlId": "",
             "S3OriginConfig": {"OriginAccessIdentity": ""}}]},
        "DefaultCacheBehavior": {
            "TargetOriginId": "a", "TrustedSigners": {"Enabled": False, **nothing},
            "ViewerProtocolPolicy": "https-only",
            "AllowedMethods": {"Quantity": 2, "Items": ["GET", "HEAD"],
                               "CachedMethods": {"Quantity": 2, "Items": ["GET", "HEAD"]}},
            "SmoothStreaming": False, "Compress": False, "LambdaFunctionAssociations": nothing,
            "FunctionAssociations": nothing, "FieldLevelEncryptionId": "", "CachePolicyId": "p"},
    }  # fmt: skip
    assert template_shape("DistributionConfig", given) == {
        "Enabled": True,
        "Origins": [{"Id": "a", "DomainName": "a.example", "S3OriginConfig": {}}],
        "DefaultCacheBehavior": {
            "TargetOriginId": "a", "ViewerProtocolPolicy": "https-only", "AllowedMethods": ["GET", "HEAD"],
            "CachedMethods": ["GET", "HEAD"], "CachePolicyId": "p",
        },
    }  # fmt: skip
    with pytest.raises(DeployError, match="a form that is not known"):
        template_shape("DistributionConfig", {"Origins": {"Quantity": 2, "Items": []}})


def test_shapes_that_a_template_says_otherwise() -> None:
    given = {
        "CallerReference": "x", "Comment": "c", "Enabled": True,
        "Logging": {"Enabled": True, "IncludeCookies": False, "Bucket": "logs.s3.amazonaws.com", "Prefix": ""},
        "CustomErrorResponses": {"Quantity": 1, "Items": [
            {"ErrorCode": 404, "ResponsePagePath": "/404", "ResponseCode": "200", "ErrorCachingMinTTL": 1}]},
        "ViewerCertificate": {"ACMCertificateArn": "arn", "SSLSupportMethod": "sni-only", "Certificate": "arn",
                              "CertificateSource": "acm", "CloudFrontDefaultCertificate": False},
        "OriginGroups": {"Quantity": 1, "Items": [{"Id": "g", "SelectionCriteria": "default",
            "FailoverCriteria": {"StatusCodes": {"Quantity": 1, "Items": [503]}},
            "Members": {"Quantity": 2, "Items": [{"OriginId": "a"}, {"OriginId": "b"}]}}]},
    }  # fmt: skip
    assert template_shape("DistributionConfig", given) == {
        "Enabled": True, "Comment": "c",
        "Logging": {"IncludeCookies": False, "Bucket": "logs.s3.amazonaws.com"},
        "CustomErrorResponses": [
            {"ErrorCode": 404, "ResponsePagePath": "/404", "ResponseCode": 200, "ErrorCachingMinTTL": 1}],
        "ViewerCertificate": {"AcmCertificateArn": "arn", "SslSupportMethod": "sni-only"},
        "OriginGroups": {"Quantity": 1, "Items": [{"Id": "g",
            "FailoverCriteria": {"StatusCodes": {"Quantity": 1, "Items": [503]}},
            "Members": {"Quantity": 2, "Items": [{"OriginId": "a"}, {"OriginId": "b"}]}}]},
    }  # fmt: skip


def test_bucket_properties_in_the_words_of_a_template() -> None:
    said: list[str] = []
    rule = {
        "ID": "old", "Status": "Enabled", "Filter": {"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}},
        "Expiration": {"Days": 30}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
        "Transitions": [{"Days": 10, "StorageClass": "GLACIER"}],
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}, "Novelty": 1,
    }  # fmt: skip
    made = properties_of(
        encryption=None, versioning="Enabled", public_access_block=None, ownership=None, lifecycle=[rule],
        cors=[{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 5}], tags={"a": "b"},
        note=said.append,
    )  # fmt: skip
    assert made["LifecycleConfiguration"]["Rules"] == [
        {"Id": "old", "Status": "Enabled", "Prefix": "a/", "TagFilters": [{"Key": "k", "Value": "v"}],
         "ExpirationInDays": 30, "Transitions": [{"TransitionInDays": 10, "StorageClass": "GLACIER"}],
         "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}
    ]  # fmt: skip
    assert made["CorsConfiguration"]["CorsRules"][0]["MaxAge"] == 5
    assert said == ["lifecycle rule old: Novelty is not taken over"]


def test_the_same_rules_under_other_names() -> None:
    assert parameter("ap-southeast-2") == "ApSoutheast2Bucket"
    one, two = {"ID": "a", "Priority": 1, "Status": "Enabled"}, {"ID": "b", "Priority": 2, "Status": "Enabled"}
    assert same([one], [two], ids=False)
    assert not same([one], [two])
    assert not same([one], [], ids=False)


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def test_packages_stay_in_their_folder(tmp_path: Path) -> None:
    said: list[str] = []
    assert unpacked(zipped({"a/b.py": b"1", "requirements.txt": b"x"}), "f", said) == {"a/b.py": b"1"}
    assert "requirements.txt is left out" in said[0]
    for name in ("../a", "/a", "a/../../b", "a//b", "a\\b"):
        with pytest.raises(ValueError, match="outside of it"):
            unpacked(zipped({name: b"1"}), "f", said)
    path = tmp_path / "app" / "template.yaml"
    write(path, "text", {"function": {"a/b.py": b"1"}})
    assert (tmp_path / "app" / "function" / "a" / "b.py").read_bytes() == b"1"
    with pytest.raises(DeployError, match="would be overwritten") as refused:
        write(path, "other", {})
    assert refused.value.refused
    assert path.read_text() == "text"
