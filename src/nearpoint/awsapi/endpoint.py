"""Which service, region and bucket a request is for: from its host name, or from its signing scope at other hosts.

Hosts as in the AWS General Reference, "Service endpoints and quotas"; pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GLOBAL_REGION = "us-east-1"

_REGION = r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}"
_S3 = re.compile(rf"(?:(?P<bucket>.+)\.)?s3(?:[.-]dualstack)?(?:[.-](?P<region>{_REGION}))?\.amazonaws\.com", re.ASCII)
_S3_CONTROL = re.compile(
    rf"(?:(?P<account>[0-9]+)\.)?s3-control(?:\.dualstack)?\.(?P<region>{_REGION})\.amazonaws\.com", re.ASCII
)
_OTHER = re.compile(rf"(?P<service>[a-z0-9-]+)(?:\.(?P<region>{_REGION}))?\.(?:amazonaws\.com|api\.aws)", re.ASCII)
# host or signing name → botocore's name of the service
_NAMES = {
    "cloudformation": "cloudformation",
    "cloudfront": "cloudfront",
    "iam": "iam",
    "lambda": "lambda",
    "s3": "s3",
    "s3-control": "s3control",
    "sts": "sts",
}
_GLOBAL = frozenset({"cloudfront", "iam"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a call has arrived.

    `service` is botocore's name, or the host's own word for a service that is not known here (`known` False). `region`
    is None where neither host nor scope says one; `regional` tells that the host says it. `bucket` and `account_id` are
    those in the host name.
    """

    service: str
    region: str | None
    known: bool = True
    regional: bool = False
    bucket: str | None = None
    account_id: str | None = None


def find_endpoint(host: str, path: str, scope_service: str | None, scope_region: str | None) -> Endpoint:
    """The endpoint of a request. `host` is in lower case, without port; the scope is that of its signature, if any."""
    s3 = _S3.fullmatch(host)
    if s3 is not None:
        return Endpoint(
            service="s3", region=s3["region"] or GLOBAL_REGION, regional=bool(s3["region"]), bucket=s3["bucket"]
        )
    control = _S3_CONTROL.fullmatch(host)
    if control is not None:
        return Endpoint(service="s3control", region=control["region"], regional=True, account_id=control["account"])
    other = _OTHER.fullmatch(host)
    if other is not None:
        word = other["service"]
        name = _NAMES.get(word)
        region = GLOBAL_REGION if word in _GLOBAL else other["region"] or GLOBAL_REGION
        return Endpoint(service=name or word, region=region, known=name is not None)
    if host.endswith((".amazonaws.com", ".api.aws")):
        return Endpoint(service=host.split(".", 1)[0], region=None, known=False)
    # A client that was given an endpoint of its own: only its signature tells what it wants. S3 control signs as s3.
    word = scope_service or ("s3-control" if path.startswith("/v20180820/") else "s3")
    if word == "s3" and path.startswith("/v20180820/"):
        word = "s3-control"
    name = _NAMES.get(word)
    account = host.split(".", 1)[0]
    return Endpoint(
        service=name or word,
        region=scope_region,
        known=name is not None,
        account_id=account if name == "s3control" and account.isdigit() and len(account) == 12 else None,
    )
