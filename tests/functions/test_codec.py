"""Events and results of Lambda@Edge: tables for the rules, properties for what nobody touched."""

# ruff: noqa: PT017 - the property is about what is refused as much as about what is not

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.functions.event import BodyPart, EventConfig, describe_origin, request_event, response_event
from nearpoint.functions.headers import READ_ONLY, EventType, is_forbidden
from nearpoint.functions.origin import CustomOrigin, Origin, S3Origin
from nearpoint.functions.outcome import STATUS, Continue, Failed, RejectedError, Respond
from nearpoint.functions.result import apply_request_result, apply_response_result, read_origin
from nearpoint.wire.message import BytesBody, Headers, Request, Response

CONFIG = EventConfig(distribution_domain="d111111abcdef8.cloudfront.net", distribution_id="E1", request_id="id==")
CUSTOM = CustomOrigin(domain_name="example.org", path="/base", custom_headers=(("X-Secret", "1"),))
BUCKET = S3Origin(domain_name="b.s3.eu-west-1.amazonaws.com", region="eu-west-1")
REQUEST_EVENTS: list[EventType] = ["viewer-request", "origin-request"]
RESPONSE_EVENTS: list[EventType] = ["origin-response", "viewer-response"]


def a_request(**changes: Any) -> Request:
    items = [
        ("Host", "d1.cloudfront.net"),
        ("User-Agent", "curl/8"),
        ("Cookie", "a=1"),
        ("cookie", "b=2"),
        ("X-Forwarded-Proto", "https"),
        ("Accept-Encoding", "gzip"),
        ("Via", "1.1 x (CloudFront)"),
    ]
    given = {"method": "GET", "target": "/a%20b/c?x=1&y=%C3%A9", "headers": Headers(items), "client_ip": "203.0.113.7"}
    return Request(**(given | changes))


def shown(event: dict[str, Any], part: str = "request") -> Any:
    """What the function gets of the event, as it comes back out of JSON."""
    return json.loads(json.dumps(event))["Records"][0]["cf"][part]


# ── events ──


def test_a_viewer_request_event():
    assert request_event("viewer-request", CONFIG, a_request()) == {
        "Records": [
            {
                "cf": {
                    "config": {
                        "distributionDomainName": "d111111abcdef8.cloudfront.net",
                        "distributionId": "E1",
                        "eventType": "viewer-request",
                        "requestId": "id==",
                    },
                    "request": {
                        "clientIp": "203.0.113.7",
                        "method": "GET",
                        "uri": "/a%20b/c",
                        "querystring": "x=1&y=%C3%A9",
                        "headers": {
                            "host": [{"key": "Host", "value": "d1.cloudfront.net"}],
                            "user-agent": [{"key": "User-Agent", "value": "curl/8"}],
                            "cookie": [{"key": "Cookie", "value": "a=1"}, {"key": "cookie", "value": "b=2"}],
                            "accept-encoding": [{"key": "Accept-Encoding", "value": "gzip"}],
                            "via": [{"key": "Via", "value": "1.1 x (CloudFront)"}],
                        },
                    },
                }
            }
        ]
    }


def test_an_origin_request_event_has_the_origin_and_the_body():
    event = request_event(
        "origin-request", CONFIG, a_request(), origin=CUSTOM, body=BodyPart(data=b"\xff\x00", truncated=True)
    )
    request = shown(event)
    assert request["origin"] == {
        "custom": {
            "customHeaders": {"x-secret": [{"key": "X-Secret", "value": "1"}]},
            "domainName": "example.org",
            "keepaliveTimeout": 5,
            "path": "/base",
            "port": 443,
            "protocol": "https",
            "readTimeout": 30,
            "sslProtocols": ["TLSv1.2"],
        }
    }
    assert request["body"] == {"inputTruncated": True, "action": "read-only", "encoding": "base64", "data": "/wA="}
    assert shown(request_event("origin-request", CONFIG, a_request(), origin=BUCKET))["origin"] == {
        "s3": {
            "authMethod": "none",
            "customHeaders": {},
            "domainName": "b.s3.eu-west-1.amazonaws.com",
            "path": "",
            "region": "eu-west-1",
        }
    }


def test_a_response_event():
    response = Response(404, Headers([("Content-Type", "text/plain"), ("X-Cache", "Miss")]))
    event = response_event(
        "origin-response", CONFIG, a_request(), response, origin=CUSTOM, status_description="Not Found"
    )
    assert shown(event, "response") == {
        "status": "404",
        "statusDescription": "Not Found",
        "headers": {"content-type": [{"key": "Content-Type", "value": "text/plain"}]},
    }
    assert "origin" in shown(event)


# ── results: what nobody touched ──

TOKEN = st.text(alphabet="abcdefgHIJ-_0123456789", min_size=1, max_size=12)
NAMES = st.one_of(
    TOKEN,
    st.sampled_from(["Via", "via", "Host", "Connection", "X-Edge-a", "x-amz-cf-id", "Content-Length", "Set-Cookie"]),
)
VALUES = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
).map(lambda text: text.strip(" \t"))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
TARGETS = st.text(
    alphabet=st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30
).map(lambda text: f"/{text}")
ORIGINS: st.SearchStrategy[Origin] = st.one_of(
    st.builds(
        CustomOrigin,
        domain_name=st.just("example.org"),
        path=st.sampled_from(["", "/a", "/a/b"]),
        port=st.sampled_from([80, 443, 1024, 8443]),
        protocol=st.sampled_from(["http", "https"]),
        read_timeout_s=st.integers(1, 120),
        custom_headers=st.lists(st.tuples(TOKEN, VALUES), max_size=3).map(tuple),
    ),
    st.builds(S3Origin, domain_name=st.just("b.s3.amazonaws.com"), region=st.just("us-east-1")),
)


@given(st.sampled_from(REQUEST_EVENTS), HEADERS, TARGETS, ORIGINS, st.binary(max_size=20), st.booleans())
def test_an_untouched_request_changes_nothing(event_type, items, target, origin, body, include_body):
    request = a_request(headers=Headers(items), target=target, body=body, method="POST")
    part = BodyPart(data=body) if include_body else None
    event = request_event(event_type, CONFIG, request, origin=origin, body=part)
    outcome = apply_request_result(event_type, request, shown(event), origin=origin, body_included=include_body)
    assert isinstance(outcome, Continue)
    assert outcome.changed == ()
    assert outcome.origin == origin
    made = outcome.request
    assert (made.method, made.target, made.scheme, made.client_ip) == (
        "POST",
        target,
        request.scheme,
        request.client_ip,
    )
    assert list(made.headers) == items
    assert made.body is request.body


@given(st.sampled_from(RESPONSE_EVENTS), HEADERS, st.integers(200, 599))
def test_an_untouched_response_changes_nothing(event_type, items, status):
    response = Response(status, Headers(items), b"body")
    event = response_event(event_type, CONFIG, a_request(), response)
    outcome = apply_response_result(event_type, a_request(), response, shown(event, "response"))
    assert outcome.changed == ()
    assert outcome.response is not None
    assert (outcome.response.status, list(outcome.response.headers)) == (status, items)
    assert outcome.response.body is response.body


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 700), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=5),
                st.sampled_from(
                    [
                        "status",
                        "uri",
                        "headers",
                        "querystring",
                        "origin",
                        "custom",
                        "s3",
                        "body",
                        "action",
                        "data",
                        "encoding",
                        "domainName",
                        "port",
                        "path",
                        "protocol",
                        "method",
                        "clientIp",
                        "bodyEncoding",
                        "value",
                        "key",
                    ]
                ),
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=25,
)


@given(
    st.sampled_from(REQUEST_EVENTS),
    st.one_of(JSON, st.dictionaries(st.sampled_from(["uri", "status", "headers", "origin", "body"]), JSON)),
)
def test_nonsense_is_refused_or_yields_something_sendable(event_type, value):
    request = a_request()
    try:
        outcome = apply_request_result(event_type, request, value, origin=CUSTOM, body_included=True)
    except RejectedError as error:
        assert error.reason in STATUS
        return
    if isinstance(outcome, Respond):
        assert 200 <= outcome.response.status <= 599
        headers = outcome.response.headers
    else:
        assert outcome.request.method == "GET"
        assert outcome.request.target.startswith("/")
        assert not set(outcome.request.target) & set(" \r\n\t")
        headers = outcome.request.headers
    for name, text in headers:
        assert name
        f"{name}: {text}".encode("latin-1")
        assert not set(name + text) & set("\r\n\0")


@given(st.sampled_from(RESPONSE_EVENTS), JSON)
def test_nonsense_for_a_response_is_refused_or_valid(event_type, value):
    try:
        outcome = apply_response_result(event_type, a_request(), Response(200), value)
    except RejectedError as error:
        assert STATUS[error.reason] == 502
        return
    assert outcome.response is not None


# ── results: changes ──


def changed(event_type: EventType, edit: Any, request: Request | None = None, **options: Any) -> Continue | Respond:
    request = request or a_request()
    value = shown(request_event(event_type, CONFIG, request, origin=options.get("origin")))
    replaced = edit(value)
    return apply_request_result(event_type, request, value if replaced is None else replaced, **options)


def applied(event_type: EventType, before: Headers, value: dict[str, Any]) -> Continue | Respond:
    """What comes of a value for a request or, in a response event, a response with these headers."""
    if event_type.endswith("request"):
        return apply_request_result(event_type, a_request(headers=before), value)
    return apply_response_result(event_type, a_request(), Response(200, before), {"status": "200"} | value)


def put(*path: str, to: Any) -> Any:
    def edit(value: Any) -> None:
        for name in path[:-1]:
            value = value[name]
        value[path[-1]] = to

    return edit


def drop(*path: str) -> Any:
    def edit(value: Any) -> None:
        for name in path[:-1]:
            value = value[name]
        del value[path[-1]]

    return edit


def test_uri_and_querystring_may_change():
    outcome = changed("viewer-request", put("uri", to="/new/%2e"))
    assert isinstance(outcome, Continue)
    assert (outcome.request.target, outcome.changed) == ("/new/%2e?x=1&y=%C3%A9", ("uri",))
    outcome = changed("viewer-request", put("querystring", to=""))
    assert isinstance(outcome, Continue)
    assert (outcome.request.target, outcome.changed) == ("/a%20b/c", ("querystring",))


def test_paths_and_queries_are_utf8_for_a_function():
    request = a_request(target="/na\u00c3\u00afve?q=\u00e2\u0082\u00ac")  # bytes of UTF-8, as latin-1 has them
    event = shown(request_event("viewer-request", CONFIG, request))
    assert (event["uri"], event["querystring"]) == ("/naïve", "q=€")
    outcome = changed("viewer-request", put("uri", to="/ü"), request)
    assert isinstance(outcome, Continue)
    assert outcome.request.target == "/\u00c3\u00bc?q=\u00e2\u0082\u00ac"


def test_headers_may_be_added_changed_and_removed():
    def edit(value: Any) -> None:
        headers = value["headers"]
        headers["x-new"] = [{"key": "X-New", "value": "1"}, {"key": "x-new", "value": " 2 "}]
        headers["user-agent"] = [{"key": "User-Agent", "value": "other"}]
        headers["no-key"] = [{"value": "v"}]
        headers["plain"] = "text"
        del headers["cookie"]

    outcome = changed("viewer-request", edit)
    assert isinstance(outcome, Continue)
    assert list(outcome.request.headers) == [
        ("Host", "d1.cloudfront.net"),
        ("User-Agent", "other"),
        ("X-Forwarded-Proto", "https"),
        ("Accept-Encoding", "gzip"),
        ("Via", "1.1 x (CloudFront)"),
        ("X-New", "1"),
        ("x-new", "2"),
        ("No-Key", "v"),
        ("Plain", "text"),
    ]
    assert set(outcome.changed) == {
        "header:user-agent",
        "header:cookie",
        "header:x-new",
        "header:no-key",
        "header:plain",
    }


@pytest.mark.parametrize("event_type", ["viewer-request", "origin-request", "origin-response", "viewer-response"])
@pytest.mark.parametrize(
    "name", ["Connection", "expect", "X-Cache", "X-Accel-Limit", "X-Amz-Cf-Id", "x-amzn-trace", "X-Edge-Z", "X-Real-IP"]
)
def test_nobody_adds_a_forbidden_header(event_type, name):
    assert is_forbidden(name.lower())
    headers = {name.lower(): [{"key": name, "value": "x"}]}
    for value in ({"uri": "/", "headers": headers}, {"status": "200", "headers": headers}):
        with pytest.raises(RejectedError) as caught:
            applied(event_type, Headers(), value)
        assert caught.value.reason == "header-forbidden"


def test_a_forbidden_header_given_back_as_it_was_is_fine():
    edit = put("headers", "x-forwarded-proto", to=[{"key": "X-Forwarded-Proto", "value": "https"}])
    outcome = changed("viewer-request", edit)
    assert isinstance(outcome, Continue)
    assert outcome.changed == ()
    with pytest.raises(RejectedError, match="x-forwarded-proto"):
        changed(
            "viewer-request", put("headers", "x-forwarded-proto", to=[{"key": "X-Forwarded-Proto", "value": "http"}])
        )


@pytest.mark.parametrize(
    ("event_type", "name"), [(event_type, name) for event_type in READ_ONLY for name in sorted(READ_ONLY[event_type])]
)
@pytest.mark.parametrize("how", ["added", "changed", "removed"])
def test_read_only_headers_stay(event_type, name, how):
    before = Headers([] if how == "added" else [(name.title(), "1")])
    fields = {} if how == "removed" else {name: [{"key": name, "value": "2"}]}
    with pytest.raises(RejectedError) as caught:
        applied(event_type, before, {"uri": "/", "headers": fields})
    assert caught.value.reason == "header-read-only"
    assert how in str(caught.value)


def test_host_may_change_for_the_origin_only():
    edit = put("headers", "host", to=[{"key": "Host", "value": "other.example"}])
    outcome = changed("origin-request", edit)
    assert isinstance(outcome, Continue)
    assert outcome.request.host == "other.example"
    with pytest.raises(RejectedError):
        changed("viewer-request", edit)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (put("method", to="POST"), "method-changed"),
        (put("clientIp", to="1.2.3.4"), "field-read-only"),
        (put("uri", to="no-slash"), "malformed"),
        (put("uri", to=None), "malformed"),
        (put("uri", to="/a?b"), "malformed"),
        (put("uri", to="/a b"), "malformed"),
        (put("uri", to="/a\r\nX: y"), "malformed"),
        (put("uri", to=["/"]), "malformed"),
        (drop("uri"), "malformed"),
        (put("querystring", to="a b"), "malformed"),
        (put("querystring", to=5), "malformed"),
        (put("headers", to=[]), "malformed"),
        (put("headers", "x", to=[5]), "malformed"),
        (put("headers", "x", to=5), "malformed"),
        (put("headers", "x", to=[{"key": "X"}]), "malformed"),
        (put("headers", "x", to=[{"key": "X", "value": 5}]), "malformed"),
        (put("headers", "x", to=[{"key": "Y", "value": "v"}]), "malformed"),
        (put("headers", "x", to=[{"key": "X", "value": "a\r\nb"}]), "malformed"),
        (put("headers", "x", to=[{"key": "X", "value": "a\0"}]), "malformed"),
        (put("headers", "x", to=[{"key": "X", "value": "€"}]), "malformed"),
        (put("headers", "x y", to=[{"value": "v"}]), "malformed"),
        (put("headers", "", to=[{"value": "v"}]), "malformed"),
        (put("body", to="text"), "malformed"),
        (put("body", to={"action": "drop"}), "malformed"),
        (put("body", to={"action": "replace", "data": "!", "encoding": "base64"}), "malformed"),
        (put("body", to={"action": "replace", "data": "x", "encoding": "utf-16"}), "malformed"),
        (put("body", to={"action": "replace", "data": 5}), "malformed"),
        (put("body", to={"action": "replace", "data": "x" * 2_000_000, "encoding": "text"}), "too-large"),
        (put("origin", to={}), "malformed"),
        (put("origin", to={"custom": {}, "s3": {}}), "malformed"),
        (put("origin", "custom", "domainName", to="a b"), "malformed"),
        (put("origin", "custom", "domainName", to="a.example/path"), "malformed"),
        (put("origin", "custom", "path", to="no-slash"), "malformed"),
        (put("origin", "custom", "path", to="/slash/"), "malformed"),
        (put("origin", "custom", "port", to=22), "malformed"),
        (put("origin", "custom", "port", to="443"), "malformed"),
        (put("origin", "custom", "port", to=True), "malformed"),
        (put("origin", "custom", "protocol", to="ftp"), "malformed"),
        (put("origin", "custom", "readTimeout", to=0), "malformed"),
        (put("origin", "custom", "sslProtocols", to=["SSLv2"]), "malformed"),
        (
            put("origin", "custom", "customHeaders", to={"connection": [{"key": "Connection", "value": "x"}]}),
            "header-forbidden",
        ),
        (lambda value: [], "malformed"),
        (lambda value: "text", "malformed"),
        (lambda value: {}, "malformed"),
        (lambda value: {"status": "600"}, "malformed"),
        (lambda value: {"status": "100"}, "malformed"),
        (lambda value: {"status": "2000"}, "malformed"),
        (lambda value: {"status": True}, "malformed"),
        (lambda value: {"status": None}, "malformed"),
        (lambda value: {"status": "200", "statusDescription": 5}, "malformed"),
        (lambda value: {"status": "200", "body": 5}, "malformed"),
        (lambda value: {"status": "200", "body": "!", "bodyEncoding": "base64"}, "malformed"),
        (lambda value: {"status": "200", "body": "x", "bodyEncoding": "gzip"}, "malformed"),
        (lambda value: {"status": "200", "body": "x" * 1_048_577}, "too-large"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_reason(edit, reason):
    with pytest.raises(RejectedError) as caught:
        changed("origin-request", edit, origin=CUSTOM, body_included=True)
    assert caught.value.reason == reason
    failed = Failed(reason=caught.value.reason, text=str(caught.value))
    assert (failed.status, failed.result_type) == (502, "LambdaValidationError")


def test_nothing_is_no_result():
    with pytest.raises(RejectedError, match="returned nothing"):
        apply_request_result("viewer-request", a_request(), None)


def test_a_body_may_be_replaced_when_it_was_included():
    request = a_request(method="POST", body=b"old", headers=Headers([("Content-Length", "3"), ("X", "y")]))
    edit = put("body", to={"action": "replace", "data": "né", "encoding": "text"})
    outcome = changed("origin-request", edit, request, body_included=True)
    assert isinstance(outcome, Continue)
    assert isinstance(outcome.request.body, BytesBody)
    assert outcome.request.body.data == "né".encode()
    assert outcome.request.headers.get("content-length") == "3"
    assert outcome.changed == ("body",)
    with pytest.raises(RejectedError) as caught:
        changed("origin-request", edit, request)
    assert caught.value.reason == "body-not-included"


def test_the_origin_may_change():
    def edit(value: Any) -> None:
        value["origin"]["custom"] |= {"domainName": "eu.example.org", "port": 8080.0, "protocol": "http", "path": ""}
        value["origin"]["custom"]["customHeaders"]["x-more"] = [{"key": "X-More", "value": "m"}]

    outcome = changed("origin-request", edit, origin=CUSTOM)
    assert isinstance(outcome, Continue)
    assert outcome.origin == CustomOrigin(
        domain_name="eu.example.org",
        port=8080,
        protocol="http",
        custom_headers=(("X-Secret", "1"), ("X-More", "m")),
    )
    assert outcome.changed == ("origin",)
    outcome = changed("origin-request", put("origin", to=describe_origin(BUCKET)), origin=CUSTOM)
    assert isinstance(outcome, Continue)
    assert outcome.origin == BUCKET


@given(ORIGINS)
def test_an_origin_is_read_as_it_was_described(origin):
    described = json.loads(json.dumps(describe_origin(origin)))
    read = read_origin(described)
    assert describe_origin(read) == described


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        ({"status": "200", "body": "hé"}, 200, "hé".encode()),
        ({"status": 204}, 204, b""),
        ({"status": "302", "statusDescription": "Found", "headers": {"location": [{"value": "/x"}]}}, 302, b""),
        ({"status": "200", "body": base64.b64encode(b"\x00\xff").decode(), "bodyEncoding": "base64"}, 200, b"\x00\xff"),
        ({"status": "599", "headers": None, "body": None}, 599, b""),
        ({"status": "200", "headers": {"content-length": [{"value": "7"}]}}, 200, b""),
    ],
)
def test_a_generated_response(value, status, body):
    outcome = apply_request_result("viewer-request", a_request(), value)
    assert isinstance(outcome, Respond)
    assert outcome.response.status == status
    assert isinstance(outcome.response.body, BytesBody)
    assert outcome.response.body.data == body
    assert "content-length" not in outcome.response.headers


@pytest.mark.parametrize(("event_type", "most"), [("viewer-request", 40 * 1024), ("origin-request", 1024 * 1024)])
def test_a_generated_response_has_a_size_limit(event_type, most):
    headers = {"x": [{"key": "X", "value": "y"}]}  # 6 bytes with separator and line end
    assert apply_request_result(
        event_type, a_request(), {"status": "200", "headers": headers, "body": "x" * (most - 6)}
    )
    with pytest.raises(RejectedError) as caught:
        apply_request_result(event_type, a_request(), {"status": "200", "headers": headers, "body": "x" * (most - 5)})
    assert caught.value.reason == "too-large"


def test_an_origin_response_may_change_all_of_it():
    before = Response(404, Headers([("Content-Type", "text/plain"), ("Content-Length", "4")]), b"gone")
    value = {
        "status": "200",
        "statusDescription": "OK",
        "headers": {"content-type": [{"key": "Content-Type", "value": "text/html"}]},
        "body": "<b>here</b>",
    }
    outcome = apply_response_result("origin-response", a_request(), before, value)
    assert outcome.response is not None
    assert outcome.response.status == 200
    assert sorted(outcome.response.headers) == [("Content-Length", "11"), ("Content-Type", "text/html")]
    assert isinstance(outcome.response.body, BytesBody)
    assert outcome.response.body.data == b"<b>here</b>"
    assert set(outcome.changed) >= {"status", "body", "header:content-type"}


def test_the_length_of_a_body_that_stays_is_not_the_functions_to_change():
    before = Response(200, Headers([("Content-Length", "4")]), b"gone")
    value = {"status": "200", "headers": {"content-length": [{"value": "99"}]}}
    outcome = apply_response_result("origin-response", a_request(), before, value)
    assert outcome.response is not None
    assert outcome.response.headers.get_all("content-length") == ["4"]


@pytest.mark.parametrize("value", [{"status": "404", "headers": {}}, {"status": "200", "headers": {}, "body": "new"}])
def test_a_viewer_response_changes_headers_only(value):
    with pytest.raises(RejectedError) as caught:
        apply_response_result("viewer-response", a_request(), Response(200), copy.deepcopy(value))
    assert caught.value.reason == "field-read-only"


def test_every_failure_has_its_status():
    assert {reason for reason, status in STATUS.items() if status == 503} == {"timeout", "throttled"}
    assert {reason for reason, status in STATUS.items() if status == 500} == {
        "raised",
        "crashed",
        "memory",
        "import-error",
    }
    assert Failed(reason="throttled", text="").result_type == "LambdaLimitExceeded"
    assert Failed(reason="raised", text="").result_type == "LambdaExecutionError"
