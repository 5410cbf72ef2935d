"""What a request is: its key, its action, its upload's region; and the pure parts around a download."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.accesspoint.call import check_head, decode_key, read_call
from nearpoint.accesspoint.copying import parse_copy_source
from nearpoint.accesspoint.failover import may_go_on
from nearpoint.accesspoint.resume import Download, download_of, fits, resume_headers, resume_query
from nearpoint.accesspoint.uploads import completed_for_client, query_for_store, region_of_query, xml_for_client
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.store import encode_key
from nearpoint.wire.message import Headers, StreamBody

REGIONS = {"eu-west-1", "us-east-1"}


def _call(method: str, target: str, *headers: tuple[str, str]):
    path, _, query = target.partition("?")
    return read_call(method, path, query, Headers(headers), REGIONS)


@given(st.text(min_size=1, max_size=200).filter(lambda key: len(key.encode("utf-8", "replace")) <= 1024))
def test_a_key_survives_the_path_and_back(key: str) -> None:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return
    assert decode_key("/" + encode_key(key)) == key


@pytest.mark.parametrize(
    ("path", "code"), [("/%FF", "InvalidURI"), ("/" + "a" * 1025, "KeyTooLongError"), ("/%ED%A0%80", "InvalidURI")]
)
def test_keys_that_are_none(path: str, code: str) -> None:
    with pytest.raises(AwsError) as caught:
        decode_key(path)
    assert caught.value.code == code


CALLS = [
    ("GET", "/k", "s3:GetObject", True),
    ("HEAD", "/", "s3:ListBucket", True),
    ("GET", "/?list-type=2&prefix=uploads", "s3:ListBucket", True),
    ("GET", "/?location", "s3:GetBucketLocation", True),
    ("PUT", "/k", "s3:PutObject", True),
    ("PUT", "/k?x-id=PutObject", "s3:PutObject", True),
    ("DELETE", "/k?versionId=1", "s3:DeleteObjectVersion", True),
    ("POST", "/k?uploads", "s3:PutObject", False),
    ("POST", "/?delete", "s3:DeleteObject", False),
    ("GET", "/k?attributes", "s3:GetObjectAttributes", True),
    ("PUT", "/k?tagging", "s3:PutObjectTagging", True),
    ("DELETE", "/k?uploadId=eu-west-1.x", "s3:AbortMultipartUpload", True),
]


@pytest.mark.parametrize(("method", "target", "action", "repeatable"), CALLS)
def test_a_request_is_an_action_that_may_be_repeated_or_not(
    method: str, target: str, action: str, repeatable: bool
) -> None:
    call = _call(method, target)
    assert (call.action, call.repeatable) == (action, repeatable)
    assert call.is_read == (method in ("GET", "HEAD"))


def test_a_write_with_a_condition_is_not_repeatable() -> None:
    assert not _call("PUT", "/k", ("If-None-Match", "*")).repeatable
    assert not _call("DELETE", "/k", ("If-Match", '"x"')).repeatable
    assert _call("GET", "/k", ("If-None-Match", '"x"')).repeatable


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("sendable", [True, False])
@pytest.mark.parametrize("retry_safe", [True, False])
def test_what_may_go_on_to_the_next_region(method: str, sendable: bool, retry_safe: bool) -> None:
    call = _call(method, "/k?uploads" if method == "POST" else "/k")
    expected = sendable and (retry_safe or method != "POST")
    assert may_go_on(call, sendable=sendable, retry_safe=retry_safe) == expected


@pytest.mark.parametrize("target", ["/k?uploadId=nowhere.x", "/k?uploadId=plain", "/k?uploadId=.x"])
def test_an_upload_id_of_no_member_region_is_no_upload(target: str) -> None:
    with pytest.raises(AwsError) as caught:
        _call("PUT", target)
    assert caught.value.code == "NoSuchUpload"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<&"), min_size=1))
def test_an_upload_id_comes_back_as_the_store_made_it(own: str) -> None:
    from urllib.parse import parse_qsl, quote

    document = xml_for_client(f"<R><UploadId>{own}</UploadId></R>".encode(), "eu-west-1")
    given_out = document.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    query = f"partNumber=1&uploadId={quote(given_out, safe='')}"
    assert region_of_query(query, REGIONS) == "eu-west-1"
    assert dict(parse_qsl(query_for_store(query)))["uploadId"] == own


@pytest.mark.parametrize(
    ("value", "header"),
    [
        ("/other/a%20b", "mine/a%20b"),
        ("other/a//b?versionId=x", "mine/a//b?versionId=x"),
        ("arn%3Aaws%3As3%3A%3A1%3Aaccesspoint/abc.mrap/object/k%C3%A9", "mine/k%C3%A9"),
        ("abc.mrap/k", "mine/k"),
        ("other/what%3FversionId=1", "mine/what%3FversionId%3D1"),
    ],
)
def test_copy_sources(value: str, header: str) -> None:
    assert parse_copy_source(value).header("mine") == header


@pytest.mark.parametrize("value", ["", "/", "bucket", "bucket/", "arn:aws:s3:::x/y", "%FF/x"])
def test_copy_sources_that_are_none(value: str) -> None:
    with pytest.raises(AwsError):
        parse_copy_source(value)


def test_the_rest_of_a_download() -> None:
    whole = download_of(200, Headers([("ETag", '"e"'), ("Content-Length", "100")]))
    assert whole == Download(start=0, end=99, total=100, etag='"e"')
    asked = resume_headers(Headers([("If-None-Match", "x"), ("Range", "bytes=0-"), ("A", "b")]), whole, 40)
    assert list(asked) == [("A", "b"), ("Range", "bytes=40-99"), ("If-Match", '"e"')]
    assert resume_query("partNumber=2&response-expires=0") == "response-expires=0"
    good = Headers([("ETag", '"e"'), ("Content-Range", "bytes 40-99/100"), ("Content-Length", "60")])
    assert fits(whole, 40, 206, good)
    assert not fits(whole, 41, 206, good)
    assert fits(whole, 40, 200, good)  # a part, whatever a store calls it
    assert not fits(whole, 40, 200, Headers([("ETag", '"e"'), ("Content-Length", "100")]))


@pytest.mark.parametrize(
    "headers",
    [
        [("ETag", 'W/"e"'), ("Content-Length", "9")],
        [("Content-Length", "9")],
        [("ETag", '"e"')],
        [("ETag", '"e"'), ("Content-Length", "0")],
    ],
)
def test_downloads_that_cannot_go_on(headers: list[tuple[str, str]]) -> None:
    assert download_of(200, Headers(headers)) is None


COMPLETED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n',
    b"  \n",
    b'<CompleteMultipartUploadResult xmlns="x"><Location>http://10.0.0.7:8333/inner/k</Location>'
    b"<ETag>e</ETag></CompleteMultipartUploadResult>",
)


@given(st.lists(st.integers(0, sum(map(len, COMPLETED)))))
async def test_a_completed_upload_is_where_the_client_asked_for_it(cuts: list[int]) -> None:
    whole = b"".join(COMPLETED)
    ends = [*sorted(cuts), len(whole)]

    async def pieces() -> AsyncIterator[bytes]:
        for start, end in zip([0, *ends], ends, strict=False):
            yield whole[start:end]

    got = [piece async for piece in completed_for_client(StreamBody(pieces()), "https://h/k?a&b")]
    assert b"".join(got) == whole.replace(b"http://10.0.0.7:8333/inner/k", b"https://h/k?a&amp;b")


async def test_blanks_before_a_completed_upload_pass_at_once() -> None:
    passed: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in COMPLETED:
            yield piece
            passed.append(piece)

    answer = completed_for_client(StreamBody(pieces()), "l")
    assert await anext(answer) == COMPLETED[0]
    assert await anext(answer) == COMPLETED[1]
    assert passed == [COMPLETED[0]]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-expected-bucket-owner", "999999999999", "AccessDenied"),
        ("x-amz-source-expected-bucket-owner", "999999999999", "AccessDenied"),
        ("x-amz-write-offset-bytes", "5", "NotImplemented"),
    ],
)
def test_heads_that_a_store_might_pass_over(name: str, value: str, code: str) -> None:
    with pytest.raises(AwsError) as caught:
        check_head(Headers([(name, value)]), "123456789012")
    assert caught.value.code == code


def test_an_owner_that_is_right_is_not_the_stores_affair() -> None:
    headers = Headers([("x-amz-expected-bucket-owner", "123456789012"), ("x-amz-meta-a", "1")])
    check_head(headers, "123456789012")
    assert list(headers) == [("x-amz-meta-a", "1")]
