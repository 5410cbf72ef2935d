"""What the models don't say: routing of ambiguous S3 calls, answers' roots, errors in each protocol's shape."""

from __future__ import annotations

from typing import Any

import botocore.parsers
import pytest

from nearpoint.awsproto import AwsError, load_service
from nearpoint.awsproto.errors import ERRORS
from nearpoint.awsproto.xml import Raw
from nearpoint.wire.message import BytesBody, Headers, Response

COPY = Headers([("x-amz-copy-source", "/a/b")])


def text(response: Response) -> str:
    assert isinstance(response.body, BytesBody)
    return response.body.data.decode()


@pytest.mark.parametrize(
    ("method", "target", "headers", "name"),
    [
        ("GET", "/", Headers(), "ListBuckets"),
        ("GET", "/b", Headers(), "ListObjects"),
        ("GET", "/b/", Headers(), "ListObjects"),
        ("GET", "/b?list-type=2&prefix=a", Headers(), "ListObjectsV2"),
        ("GET", "/b?list-type=1", Headers(), "ListObjects"),
        ("GET", "/b?versions", Headers(), "ListObjectVersions"),
        ("GET", "/b?uploads=", Headers(), "ListMultipartUploads"),
        ("GET", "/b?location", Headers(), "GetBucketLocation"),
        ("GET", "/b?analytics&id=1", Headers(), "GetBucketAnalyticsConfiguration"),
        ("GET", "/b?analytics", Headers(), "ListBucketAnalyticsConfigurations"),
        ("GET", "/b?lifecycle", Headers(), "GetBucketLifecycleConfiguration"),
        ("PUT", "/b", Headers(), "CreateBucket"),
        ("PUT", "/b/k", Headers(), "PutObject"),
        ("PUT", "/b/k?x-id=PutObject", Headers(), "PutObject"),
        ("PUT", "/b/k", COPY, "CopyObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", Headers(), "UploadPart"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", COPY, "UploadPartCopy"),
        ("PUT", "/b/k?tagging", Headers(), "PutObjectTagging"),
        ("POST", "/b/k?uploads", Headers(), "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", Headers(), "CompleteMultipartUpload"),
        ("POST", "/b?delete", Headers(), "DeleteObjects"),
        ("DELETE", "/b/k?uploadId=u", Headers(), "AbortMultipartUpload"),
        ("DELETE", "/b/k?versionId=v", Headers(), "DeleteObject"),
        ("GET", "/b/k?partNumber=2", Headers(), "GetObject"),
        ("GET", "/b/k?uploadId=u", Headers(), "ListParts"),
        ("GET", "/b/k?attributes", Headers([("x-amz-object-attributes", "ETag")]), "GetObjectAttributes"),
        ("HEAD", "/b/k", Headers(), "HeadObject"),
        ("HEAD", "/b", Headers(), "HeadBucket"),
    ],
)
def test_s3_tells_its_operations_apart(method: str, target: str, headers: Headers, name: str) -> None:
    operation, _, _ = load_service("s3").route(method, target, headers)
    assert operation.name == name


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/b/k?acl"),  # must not delete the object
        ("DELETE", "/b?versioning"),
        ("PUT", "/b/k?uploadId=u"),  # must not put the object
        ("PUT", "/b?uploads"),
        ("POST", "/b/k"),
        ("POST", "/"),
        ("PATCH", "/b/k"),
        ("GET", "/b/k?uploads"),
    ],
)
def test_s3_refuses_what_is_no_operation(method: str, target: str) -> None:
    with pytest.raises(AwsError) as refused:
        load_service("s3").route(method, target, Headers())
    assert (refused.value.code, refused.value.status) == ("MethodNotAllowed", 405)


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        ("/b/a//b/", None, "a//b/"),
        ("/b/a%2Fb", None, "a/b"),
        ("/b/..%2F..", None, "../.."),
        ("/b/../x", None, "../x"),
        ("/b/a+b", None, "a+b"),
        ("/b/%C3%A9", None, "é"),
        ("/b//", None, "/"),
        ("//x", "b", "/x"),
        ("/b/k", "b", "b/k"),
    ],
)
def test_keys_come_out_as_they_were_meant(target: str, bucket: str | None, key: str) -> None:
    operation, params = load_service("s3").parse("GET", target, Headers(), bucket=bucket)
    assert operation.name == "GetObject"
    assert (params["Bucket"], params["Key"]) == ("b", key)


@pytest.mark.parametrize("target", ["/b/%ff", "//b", "/b/\xff", "/b?prefix=%ff"])
def test_what_is_not_utf8_is_an_invalid_uri(target: str) -> None:
    with pytest.raises(AwsError, match="InvalidURI"):
        load_service("s3").parse("GET", target, Headers())


def test_metadata_and_dates_of_headers() -> None:
    headers = Headers(
        [
            ("X-Amz-Meta-Colour", "red"),
            ("x-amz-meta-a-b", "2"),
            ("If-Modified-Since", "not a date"),
            ("If-Unmodified-Since", "Wednesday, 21-Oct-15 07:28:00 GMT"),
            ("Expires", "whatever"),
        ]
    )
    _, params = load_service("s3").parse("PUT", "/b/k", headers)
    assert params["Metadata"] == {"colour": "red", "a-b": "2"}
    assert params["Expires"] == "whatever"
    _, params = load_service("s3").parse("GET", "/b/k", headers)
    assert "IfModifiedSince" not in params
    assert params["IfUnmodifiedSince"].timestamp() == 1445412480


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"<Delete>",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><Delete><Object><Key>&x;</Key></Object></Delete>",
        b"<Delete><?php x?><Object><Key>a</Key></Object></Delete>",
        b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
        b"<Delete><Quiet>perhaps</Quiet><Object><Key>a</Key></Object></Delete>",
        b"<Delete>" + b"<a>" * 40 + b"</a>" * 40 + b"</Delete>",
        b"\xff\xfe<Delete/>",
    ],
)
def test_bad_xml_is_refused(body: bytes) -> None:
    with pytest.raises(AwsError) as refused:
        load_service("s3").parse("POST", "/b?delete", Headers(), body)
    assert refused.value.code in {"MalformedXML", "MissingRequestBodyError"}
    assert refused.value.status == 400


def test_elements_are_read_whatever_their_namespace() -> None:
    body = (
        b'<d:Delete xmlns:d="http://s3.amazonaws.com/doc/2006-03-01/"><d:Object><d:Key>a</d:Key></d:Object></d:Delete>'
    )
    _, params = load_service("s3").parse("POST", "/b?delete", Headers(), body)
    assert params["Delete"] == {"Objects": [{"Key": "a"}]}


def test_roots_of_s3_answers_and_raw_members() -> None:
    s3 = load_service("s3")
    rows = Raw("<Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents>")
    listing = text(s3.serialize(s3.operations["ListObjectsV2"], {"Name": "b", "Contents": rows, "KeyCount": 2}, "R"))
    assert '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' in listing
    assert rows in listing
    location = s3.serialize(s3.operations["GetBucketLocation"], {"LocationConstraint": "eu-west-1"}, "R")
    assert text(location).endswith(
        '<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-west-1</LocationConstraint>'
    )
    started = text(s3.serialize(s3.operations["CreateMultipartUpload"], {"UploadId": "u"}, "R"))
    assert "<InitiateMultipartUploadResult" in started


def test_header_values_cannot_break_the_head() -> None:
    s3 = load_service("s3")
    response = s3.serialize(s3.operations["HeadObject"], {"ContentType": "a\r\nX: y", "Metadata": {"k": "a\nb"}}, "R")
    assert all("\r" not in value and "\n" not in value for _, value in response.headers)


@pytest.mark.parametrize(
    ("service", "protocol", "code", "status"),
    [
        ("s3", "rest-xml", "NoSuchKey", 404),
        ("s3control", "rest-xml", "NoSuchMultiRegionAccessPoint", 404),
        ("cloudfront", "rest-xml", "NoSuchDistribution", 404),
        ("iam", "query", "NoSuchEntity", 404),
        ("sts", "query", "ExpiredToken", 400),
        ("cloudformation", "query", "ValidationError", 400),
        ("cloudformation", "query", "AlreadyExistsException", 400),
        ("lambda", "rest-json", "ResourceNotFoundException", 404),
        ("sqs", "json", "QueueDoesNotExist", 400),
    ],
)
def test_errors_in_the_shape_of_each_service(service: str, protocol: str, code: str, status: int) -> None:
    codec = load_service(service)
    assert codec.protocol == protocol
    response = codec.serialize_error(code, "Because <so> & so", request_id="REQUEST1")
    assert response.status == status
    parser = botocore.parsers.create_parser(protocol)
    headers = {name.lower(): value for name, value in response.headers}
    parsed: dict[str, Any] = parser.parse(
        {"status_code": response.status, "headers": headers, "body": text(response).encode()}, None
    )
    assert parsed["Error"]["Code"] == code
    assert parsed["Error"]["Message"] == "Because <so> & so"
    assert parsed["ResponseMetadata"]["RequestId"] == "REQUEST1"


def test_an_error_carries_its_extra_elements_and_headers() -> None:
    error = AwsError("PermanentRedirect", extra={"Endpoint": "s3.eu-west-1.amazonaws.com"}, headers={"X-A": "b"})
    response = load_service("s3").error(error, "R", {"Bucket": "b"})
    assert response.status == 301
    assert response.headers.get("x-a") == "b"
    assert "<Endpoint>s3.eu-west-1.amazonaws.com</Endpoint><Bucket>b</Bucket><RequestId>R</RequestId>" in text(response)


@pytest.mark.parametrize("service", ["s3", "s3control", "cloudfront", "iam", "sts", "lambda", "cloudformation"])
def test_the_table_agrees_with_the_models(service: str) -> None:
    statuses = dict(load_service(service).model.error_statuses)
    statuses.pop("ExpiredTokenException", None)  # 400 from STS, 403 from everybody else
    differing = {code: (ERRORS[code][0], statuses[code]) for code in ERRORS.keys() & statuses.keys()}
    assert {code: pair for code, pair in differing.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize(
    ("service", "method", "target", "body", "code"),
    [
        ("iam", "POST", "/", b"Action=Nonsense&Version=2010-05-08", "InvalidAction"),
        ("iam", "POST", "/", b"Action=GetRole&Version=2010-05-08", "ValidationError"),
        ("iam", "POST", "/", b"Action=ListRoles&MaxItems=many", "ValidationError"),
        ("iam", "POST", "/", b"Action=GetRole&RoleName=%ff", "MalformedQueryString"),
        ("iam", "POST", "/", b"Action=TagRole&RoleName=a&Tags.member.x.Key=k", "MalformedQueryString"),
        ("iam", "POST", "/", b"Action=ListRoles&" + b"a." * 100 + b"=1", "MalformedQueryString"),
        ("lambda", "GET", "/2015-03-31/nonsense", b"", "UnknownOperationException"),
        ("lambda", "POST", "/2015-03-31/functions", b"[", "SerializationException"),
        ("lambda", "POST", "/2015-03-31/functions", b'{"FunctionName": 1}', "SerializationException"),
        ("lambda", "POST", "/2015-03-31/functions", b'{"FunctionName": "f"}', "ValidationException"),
        ("cloudfront", "GET", "/2020-05-31/nonsense", b"", "InvalidAction"),
        ("cloudfront", "POST", "/2020-05-31/distribution/E1/invalidation", b"<x", "MalformedInput"),
    ],
)
def test_bad_requests_are_named(service: str, method: str, target: str, body: bytes, code: str) -> None:
    with pytest.raises(AwsError) as refused:
        load_service(service).parse(method, target, Headers(), body)
    assert refused.value.code == code


def test_an_access_point_arn_in_the_path() -> None:
    target = "/v20180820/mrap/instances/arn%3Aaws%3As3%3A%3A123456789012%3Aaccesspoint%2Fabc.mrap/routes"
    headers = Headers([("x-amz-account-id", "123456789012")])
    operation, params = load_service("s3control").parse("GET", target, headers)
    assert operation.name == "GetMultiRegionAccessPointRoutes"
    assert params == {"AccountId": "123456789012", "Mrap": "arn:aws:s3::123456789012:accesspoint/abc.mrap"}


def test_a_host_label_stands_in_for_a_parameter() -> None:
    _, params = load_service("s3control").parse(
        "GET", "/v20180820/mrap/instances/name", Headers(), labels={"AccountId": "123456789012"}
    )
    assert params == {"AccountId": "123456789012", "Name": "name"}
