"""Signs every request to the Multi-Region Access Point with SigV4A: a Lambda@Edge function for origin requests.

CloudFront can't hold an origin request to one region, so neither can the signature: its region set is `*`. Only what S3
wants signed is signed, which is the host and everything named x-amz-*. What the network may still rewrite (Range, Via,
Accept-Encoding, User-Agent …) travels on untouched and unsigned.
"""

import base64
import hashlib
import os
from datetime import datetime, timezone

from nearpoint.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, Message, sign_v4a

# Whatever a viewer sends under these names is not what CloudFront sends to S3.
OURS = {
    "authorization",
    "host",
    "x-amz-cf-id",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-region-set",
    "x-amz-security-token",
}


def handler(event, context):
    """The origin request of the event, signed with the function's own role."""
    cf = event["Records"][0]["cf"]
    request = cf["request"]
    headers = request["headers"]
    origin = request["origin"]["custom"]
    for name in OURS - {"x-amz-cf-id"}:
        headers.pop(name, None)
    headers["host"] = [{"key": "Host", "value": origin["domainName"]}]
    to_sign = [("host", origin["domainName"])]
    # CloudFront adds this one after the function has returned; unsigned, S3 would refuse it.
    to_sign.append(("x-amz-cf-id", cf["config"]["requestId"]))
    for name, fields in headers.items():
        if name == "content-md5" or (name.startswith("x-amz-") and name not in OURS):
            to_sign += [(name, field["value"]) for field in fields]
    message = Message(
        request["method"], on_the_wire(origin["path"] + request["uri"]), on_the_wire(request["querystring"]), to_sign
    )
    now = datetime.now(timezone.utc)
    for name, value in sign_v4a(message, credentials(), now=now, payload_hash=payload_hash(request)):
        headers[name.lower()] = [{"key": name, "value": value}]
    return request


def credentials():
    """The role's, from the environment. The key that follows from them is derived once and kept while they last."""
    return Credentials(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], os.environ.get("AWS_SESSION_TOKEN")
    )


def payload_hash(request):
    """The digest of the body where the event holds all of it.

    A body over 1 MB is cut in the event, and there is none at all without IncludeBody. Such a request goes out as
    UNSIGNED-PAYLOAD, which S3 allows over TLS: refusing it would limit uploads to 1 MB.
    """
    body = request.get("body")
    if body is not None and not body["inputTruncated"]:
        data = body["data"]
        octets = base64.b64decode(data) if body["encoding"] == "base64" else data.encode()
        return hashlib.sha256(octets).hexdigest()
    if body is None and request["method"] in {"GET", "HEAD", "OPTIONS"}:
        return EMPTY_SHA256
    return UNSIGNED_PAYLOAD


def on_the_wire(text):
    """Text of the event as the signer takes it: one character for each byte."""
    return text.encode().decode("latin-1")
