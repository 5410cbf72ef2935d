"""What is refused, with which of S3's codes; and that nothing signed can be changed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Claim,
    Credentials,
    Message,
    SignatureError,
    is_region_set,
    presign_v4,
    presign_v4a,
    read_claim,
    region_set_matches,
    sign_v4,
    sign_v4a,
    verify,
)

NOW = datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)
WHO = Credentials("AKIDEXAMPLE", "secret")
HOST = ("Host", "b.s3.us-east-1.amazonaws.com")
PLAIN = Message("GET", "/k%20ey", "list-type=2&prefix=a", [HOST, ("Range", "bytes=0-1"), ("X-Amz-Meta-A", "b c")])


def sign(message: Message = PLAIN, *, v4a: bool = False, credentials: Credentials = WHO, **options: Any) -> Message:
    options = {"now": NOW, "payload_hash": EMPTY_SHA256, **options}
    make: Any = sign_v4a if v4a else sign_v4
    headers = make(message, credentials, **options, **({} if v4a else {"region": "us-east-1"}))
    names = {name.lower() for name, _ in headers}
    kept = [item for item in message.headers if item[0].lower() not in names]
    return Message(message.method, message.path, message.query, [*kept, *headers])


def presign(message: Message = PLAIN, *, v4a: bool = False, expires_s: int = 600, **options: Any) -> Message:
    make: Any = presign_v4a if v4a else presign_v4
    region = {} if v4a else {"region": "us-east-1"}
    query = make(message, WHO, now=NOW, expires_s=expires_s, **region, **options)
    return Message(message.method, message.path, query, message.headers)


def check(message: Message, **options: Any) -> Claim:
    claim = read_claim(message)
    assert claim is not None
    verify(claim, message, "secret", **{"now": NOW, "region": "us-east-1", "service": "s3", **options})
    return claim


def refused(message: Message, **options: Any) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        check(message, **options)
    return caught.value


def change(message: Message, **parts: Any) -> Message:
    return Message(**{name: parts.get(name, getattr(message, name)) for name in ("method", "path", "query", "headers")})


def header(message: Message, name: str, value: str | None) -> Message:
    kept = [item for item in message.headers if item[0].lower() != name.lower()]
    return change(message, headers=kept if value is None else [*kept, (name, value)])


def authorization(message: Message, old: str, new: str) -> Message:
    value = dict(message.headers)["Authorization"]
    assert old in value
    return header(message, "Authorization", value.replace(old, new))


FORMS = [(make, v4a) for make in (sign, presign) for v4a in (False, True)]
every_form = pytest.mark.parametrize(("make", "v4a"), FORMS)


@every_form
def test_a_claim_says_what_was_signed(make: Any, v4a: bool) -> None:
    claim = check(make(v4a=v4a))
    assert (claim.access_key_id, claim.service, claim.signed_at) == ("AKIDEXAMPLE", "s3", NOW)
    assert claim.form == ("header" if make is sign else "query")
    assert (claim.region, claim.region_set) == ((None, "*") if v4a else ("us-east-1", None))
    assert claim.payload_hash == (EMPTY_SHA256 if make is sign else UNSIGNED_PAYLOAD)
    assert claim.expires_s == (None if make is sign else 600)
    assert {"host", "range", "x-amz-meta-a"} <= set(claim.signed_headers)


def test_no_claim() -> None:
    assert read_claim(PLAIN) is None


@every_form
@pytest.mark.parametrize(
    "tampered",
    [
        lambda m: change(m, method="PUT"),
        lambda m: change(m, path="/k%20ex"),
        lambda m: change(m, path="/k%20ey/"),
        lambda m: change(m, query=m.query.replace("prefix=a", "prefix=b")),
        lambda m: change(m, query=m.query + "&versionId=1"),
        lambda m: change(m, query=m.query.replace("&prefix=a", "")),
        lambda m: header(m, "Host", "c.s3.us-east-1.amazonaws.com"),
        lambda m: header(m, "Range", "bytes=0-2"),
        lambda m: header(m, "Range", None),
        lambda m: header(m, "X-Amz-Meta-A", "b  d"),
        lambda m: change(m, headers=[*m.headers, ("X-Amz-Meta-A", "more")]),
    ],
)
def test_what_is_signed_cannot_be_changed(make: Any, v4a: bool, tampered: Any) -> None:
    error = refused(tampered(make(v4a=v4a)))
    assert error.code == "SignatureDoesNotMatch"
    assert error.text.startswith("The request signature we calculated does not match")
    assert {"AWSAccessKeyId", "StringToSign", "SignatureProvided", "StringToSignBytes"} < set(error.fields)
    text = error.fields["CanonicalRequest"]
    assert bytes.fromhex(error.fields["CanonicalRequestBytes"].replace(" ", "")).decode() == text
    assert hashlib.sha256(text.encode()).hexdigest() in error.fields["StringToSign"]
    assert "secret" not in str(error.fields)


@every_form
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_any_changed_octet_of_what_is_signed_is_refused(make: Any, v4a: bool, data: st.DataObject) -> None:
    message = make(v4a=v4a)
    part = data.draw(st.sampled_from(["method", "path", "query", "value"]))
    # Signatures differ from run to run, so what is drawn must not depend on their length.
    where, new = data.draw(st.integers(0, 1 << 20)), data.draw(st.sampled_from("abcXYZ019-._~"))
    if part == "value":
        at = data.draw(st.integers(0, 20)) % len(message.headers)
        name, value = message.headers[at]
        headers = [*message.headers[:at], (name, replaced(value, where, new)), *message.headers[at + 1 :]]
        tampered = change(message, headers=headers)
    else:
        tampered = change(message, **{part: replaced(getattr(message, part), where, new)})
    with pytest.raises(SignatureError):
        check_loosely(tampered)


def replaced(text: str, where: int, new: str) -> str:
    at = where % len(text)
    return text[:at] + (new if text[at] != new else "5") + text[at + 1 :]


def check_loosely(message: Message) -> None:
    claim = read_claim(message)
    if claim is None:
        raise SignatureError("AccessDenied", "anonymous")
    if claim.access_key_id != WHO.access_key_id:
        raise SignatureError("InvalidAccessKeyId", "the caller's answer")
    verify(claim, message, "secret", now=NOW, region="us-east-1", service="s3", payload_hash=EMPTY_SHA256)


@every_form
def test_another_secret_is_refused(make: Any, v4a: bool) -> None:
    message = make(v4a=v4a)
    claim = read_claim(message)
    assert claim is not None
    with pytest.raises(SignatureError, match="does not match"):
        verify(claim, message, "other", now=NOW)


@pytest.mark.parametrize("v4a", [False, True])
@pytest.mark.parametrize(("minutes", "good"), [(-15, True), (15, True), (-15.1, False), (15.1, False)])
def test_a_clock_may_be_off_by_fifteen_minutes(v4a: bool, minutes: float, good: bool) -> None:
    now = NOW + timedelta(minutes=minutes)
    if good:
        check(sign(v4a=v4a), now=now)
        return
    error = refused(sign(v4a=v4a), now=now)
    assert error.code == "RequestTimeTooSkewed"
    assert error.text == "The difference between the request time and the current time is too large."
    assert error.fields["RequestTime"] == "20261123T123045Z"
    assert error.fields["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("v4a", [False, True])
def test_presigned_time(v4a: bool) -> None:
    message = presign(v4a=v4a, expires_s=600)
    check(message, now=NOW + timedelta(seconds=600))
    late = refused(message, now=NOW + timedelta(seconds=601))
    assert (late.code, late.text) == ("AccessDenied", "Request has expired")
    assert late.fields == {
        "X-Amz-Expires": "600", "Expires": "2026-11-23T12:40:45Z", "ServerTime": "2026-11-23T12:40:46Z",
    }  # fmt: skip
    check(message, now=NOW - timedelta(minutes=15))
    early = refused(message, now=NOW - timedelta(minutes=16))
    assert (early.code, early.text) == ("AccessDenied", "Request is not valid yet")


@pytest.mark.parametrize("expires_s", [0, -1, 604_801])
def test_presigning_wants_a_sane_expiry(expires_s: int) -> None:
    with pytest.raises(ValueError, match="expires_s"):
        presign(expires_s=expires_s)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            "604801",
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less",
        ),
        ("0", "X-Amz-Expires must be at least 1 second"),
        ("-1", "X-Amz-Expires must be non-negative"),
        ("x", "X-Amz-Expires should be a number"),
        ("", "X-Amz-Expires should be a number"),
        ("%D9%A1", "X-Amz-Expires should be a number"),
        ("1" * 5000, "X-Amz-Expires should be a number"),
    ],
)
def test_expiry_out_of_range(value: str, text: str) -> None:
    message = presign()
    error = refused(change(message, query=message.query.replace("Expires=600", f"Expires={value}")))
    assert error.code == "AuthorizationQueryParametersError"
    assert error.text.startswith(text)


@pytest.mark.parametrize("parameter", ["Algorithm", "Credential", "Signature", "Date", "SignedHeaders", "Expires"])
def test_a_presigned_query_must_be_whole(parameter: str) -> None:
    message = presign()
    pairs = [pair for pair in message.query.split("&") if not pair.startswith(f"X-Amz-{parameter}=")]
    error = refused(change(message, query="&".join(pairs)))
    assert error.code == "AuthorizationQueryParametersError"
    assert error.text.startswith("Query-string authentication version 4 requires the X-Amz-Algorithm")


@pytest.mark.parametrize(
    ("old", "new", "code", "text"),
    [
        ("us-east-1", "eu-west-1", "AuthorizationHeaderMalformed", "'eu-west-1' is wrong; expecting 'us-east-1'"),
        ("/s3/", "/ec2/", "AuthorizationHeaderMalformed", 'incorrect service "ec2". This endpoint belongs to "s3".'),
        ("20261123/", "20261122/", "AuthorizationHeaderMalformed", "This date is not the same as X-Amz-Date"),
        ("20261123/", "2026112/", "AuthorizationHeaderMalformed", "This date in the credential must be in the format"),
        ("aws4_request", "aws5_request", "AuthorizationHeaderMalformed", "incorrect terminal"),
        ("AKIDEXAMPLE/20261123/", "", "AuthorizationHeaderMalformed", "the Credential is mal-formed; expecting"),
        ("AKIDEXAMPLE", "", "AuthorizationHeaderMalformed", "the Credential is mal-formed; expecting"),
        ("Signature=", "Signatur=", "AuthorizationHeaderMalformed", "missing Signature."),
        ("SignedHeaders=", "x", "AuthorizationHeaderMalformed", "requires three components"),
        ("SignedHeaders=", "SignedHeaders=;", "AuthorizationHeaderMalformed", "the SignedHeaders are mal-formed"),
        ("SignedHeaders=", "SignedHeaders=host;", "AuthorizationHeaderMalformed", "the SignedHeaders are mal-formed"),
        ("Credential=", "Credential=a, Credential=", "AuthorizationHeaderMalformed", "requires three components"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512", "InvalidArgument", "Unsupported Authorization Type"),
        ("AWS4-HMAC-SHA256", "AWS", "InvalidRequest", "Please use AWS4-HMAC-SHA256."),
        ("AWS4-HMAC-SHA256", "Basic", "InvalidArgument", "Unsupported Authorization Type"),
    ],
)  # fmt: skip
def test_malformed_authorization(old: str, new: str, code: str, text: str) -> None:
    error = refused(authorization(sign(), old, new))
    assert error.code == code
    assert text in error.text


def test_a_wrong_region_names_the_right_one() -> None:
    assert refused(sign(), region="eu-west-1").fields == {"Region": "eu-west-1"}
    query = refused(presign(), region="eu-west-1")
    assert query.code == "AuthorizationQueryParametersError"
    assert query.fields == {"Region": "eu-west-1"}
    assert query.text.endswith("the region 'us-east-1' is wrong; expecting 'eu-west-1'")
    check(sign(), region=None)


def test_a_region_set_must_hold_the_region() -> None:
    check(sign(v4a=True, region_set="eu-west-1,us-east-*"))
    error = refused(sign(v4a=True, region_set="eu-*"))
    assert error.code == "AuthorizationHeaderMalformed"
    assert error.fields == {"Region": "us-east-1"}


@pytest.mark.parametrize("region_set", ["", ",", "us-east-1,", "us east", "a" * 3000, ",".join(["eu-west-1"] * 65)])
def test_not_a_region_set(region_set: str) -> None:
    assert not is_region_set(region_set)
    with pytest.raises(ValueError, match="region set"):
        sign(v4a=True, region_set=region_set)
    message = header(sign(v4a=True), "X-Amz-Region-Set", region_set)
    assert refused(message).code == "AuthorizationHeaderMalformed"


def test_v4a_without_a_region_set() -> None:
    error = refused(header(sign(v4a=True), "X-Amz-Region-Set", None))
    assert (error.code, error.fields) == ("MissingSecurityHeader", {"MissingHeaderName": "x-amz-region-set"})


@pytest.mark.parametrize(
    ("region_set", "region", "matches"),
    [
        ("*", "us-east-1", True),
        ("us-east-1", "us-east-1", True),
        ("us-east-1", "us-east-11", False),
        ("us-east-*", "us-east-2", True),
        ("us-east-*", "us-west-2", False),
        ("eu-west-1,us-*", "us-west-2", True),
        ("eu-west-1, us-west-2", "us-west-2", True),
        ("*-1", "ap-south-1", True),
        ("*-1", "ap-south-2", False),
        ("u*t-1", "us-east-1", True),
        ("*us*east*", "us-east-1", True),
        ("us-east-1*1", "us-east-1", False),
        ("*1*1", "us-east-1", False),
        ("**", "x", True),
        ("", "x", False),
    ],
)
def test_region_sets(region_set: str, region: str, matches: bool) -> None:
    assert region_set_matches(region_set, region) is matches


@pytest.mark.parametrize("make", [sign, presign])
@pytest.mark.parametrize("name", ["X-Amz-Acl", "x-amz-storage-class", "Content-MD5", "X-Amz-Security-Token"])
def test_amz_headers_must_be_signed(make: Any, name: str) -> None:
    error = refused(header(make(), name, "x"))
    assert error.code == "AccessDenied"
    assert error.text == "There were headers present in the request which were not signed"
    assert error.fields == {"HeadersNotSigned": name.lower()}


def test_host_must_be_signed() -> None:
    error = refused(authorization(sign(), "SignedHeaders=host;", "SignedHeaders="))
    assert error.fields == {"HeadersNotSigned": "host"}
    with pytest.raises(ValueError, match="Host"):
        sign(header(PLAIN, "Host", None))


def test_headers_that_change_on_the_way_are_not_signed() -> None:
    message = change(PLAIN, headers=[*PLAIN.headers, ("Via", "1.1 a"), ("User-Agent", "x"), ("Connection", "close")])
    signed = sign(message)
    check(header(header(header(signed, "Via", "1.1 b"), "User-Agent", "y"), "Connection", None))
    check(header(signed, "X-Forwarded-For", "1.2.3.4"))


def test_a_session_token_is_claimed_and_signed() -> None:
    credentials = Credentials("AKIDEXAMPLE", "secret", "tok-5")
    claim = check(sign(credentials=credentials))
    assert claim.session_token == "tok-5"
    assert (
        refused(header(sign(credentials=credentials), "X-Amz-Security-Token", "other")).code == "SignatureDoesNotMatch"
    )
    assert "tok-5" not in repr(claim)
    assert "secret" not in repr(credentials).replace("secret_key", "")


def test_two_mechanisms() -> None:
    signed = sign()
    both = change(presign(), headers=signed.headers)
    error = refused(both)
    assert (error.code, error.fields) == ("InvalidArgument", {"ArgumentName": "Authorization"})
    assert error.text.startswith("Only one auth mechanism allowed")


def test_sigv2_is_told_what_to_do() -> None:
    for message in (
        header(PLAIN, "Authorization", "AWS AKID:abc="),
        change(PLAIN, query="AWSAccessKeyId=A&Signature=b&Expires=1"),
    ):
        error = refused(message)
        assert error.code == "InvalidRequest"
        assert error.text.endswith("Please use AWS4-HMAC-SHA256.")


@pytest.mark.parametrize(
    "date", [None, "", "20261123", "20261323T000000Z", "2026112 T000000Z", "\uff12\uff10261123T000000Z"]
)
def test_no_valid_date(date: str | None) -> None:
    error = refused(header(sign(), "X-Amz-Date", date))
    assert error.code == "AccessDenied"
    assert error.text == "AWS authentication requires a valid Date or x-amz-date header"


def test_a_date_header_will_do() -> None:
    signed = sign()
    claim = read_claim(header(header(signed, "X-Amz-Date", None), "Date", "Mon, 23 Nov 2026 12:30:45 GMT"))
    assert claim is not None
    assert claim.signed_at == NOW


@pytest.mark.parametrize("value", ["", "abc", "A" * 64, "UNSIGNED", "0" * 63])
def test_payload_hash_must_be_one(value: str) -> None:
    error = refused(header(sign(), "X-Amz-Content-Sha256", value))
    assert (error.code, error.fields) == ("InvalidArgument", {"ArgumentName": "x-amz-content-sha256"})
    assert error.text.endswith("or a valid sha256 value.")


def test_s3_wants_a_payload_hash() -> None:
    error = refused(header(sign(), "X-Amz-Content-Sha256", None))
    assert (error.code, error.text) == (
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
    )


def test_a_body_that_is_not_the_one_signed() -> None:
    check(sign(), payload_hash=EMPTY_SHA256)
    error = refused(sign(), payload_hash="0" * 64)
    assert error.code == "XAmzContentSHA256Mismatch"
    check(sign(payload_hash=UNSIGNED_PAYLOAD), payload_hash="0" * 64)


def test_other_services_leave_the_payload_hash_to_the_verifier() -> None:
    body = hashlib.sha256(b"Action=GetCallerIdentity").hexdigest()
    message = sign(Message("POST", "/", "", [HOST]), service="sts", payload_hash=body)
    assert "x-amz-content-sha256" not in {name.lower() for name, _ in message.headers}
    claim = read_claim(message)
    assert claim is not None
    assert claim.payload_hash == ""
    with pytest.raises(ValueError, match="payload hash"):
        verify(claim, message, "secret", now=NOW)
    verify(claim, message, "secret", now=NOW, payload_hash=body)
    with pytest.raises(SignatureError, match="does not match"):
        verify(claim, message, "secret", now=NOW, payload_hash=EMPTY_SHA256)


@pytest.mark.parametrize("name", ["Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token"])
def test_headers_that_may_come_once(name: str) -> None:
    message = sign(credentials=Credentials("AKIDEXAMPLE", "secret", "tok-5"))
    twice = change(message, headers=[*message.headers, (name, dict(message.headers)[name])])
    assert refused(twice).fields == {"ArgumentName": name.lower()}


def test_presigned_parameters_may_come_once() -> None:
    message = presign()
    assert (
        refused(change(message, query=message.query + "&X-Amz-Expires=700")).code == "AuthorizationQueryParametersError"
    )


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (change(PLAIN, headers=[("a", "b")] * 300), "RequestHeaderSectionTooLarge"),
        (change(PLAIN, headers=[("a", "b" * 70_000)]), "RequestHeaderSectionTooLarge"),
        (change(PLAIN, query="a=b&" * 20_000), "InvalidURI"),
    ],
)
def test_sizes_are_bounded(message: Message, code: str) -> None:
    assert refused(message).code == code


def test_many_signed_headers_are_refused() -> None:
    names = ";".join(f"h{n}" for n in range(200))
    error = refused(authorization(sign(), "SignedHeaders=host;", f"SignedHeaders=host;{names};"))
    assert error.code == "AuthorizationHeaderMalformed"


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        sign(now=NOW.replace(tzinfo=None))


@given(st.text(st.characters(max_codepoint=255), max_size=200), st.text(st.characters(max_codepoint=255), max_size=200))
def test_no_input_breaks_the_reader(value: str, query: str) -> None:
    for message in (
        header(sign(), "Authorization", value),
        header(sign(), "Authorization", f"AWS4-ECDSA-P256-SHA256 Credential={value}, SignedHeaders=a, Signature=b"),
        change(PLAIN, query=query),
        change(PLAIN, query=presign().query + query),
        change(PLAIN, query=presign().query.replace("AKIDEXAMPLE", query.replace("&", ""))),
    ):
        with suppress(SignatureError):
            claim = read_claim(message)
            if claim is not None:
                verify(claim, message, "secret", now=NOW, payload_hash=EMPTY_SHA256)
