"""A bucket's configuration as its store keeps it: which call takes which document (S3 API Reference).

A document that is put is the one that the Get of the same name answers, so the service's model writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.awsproto import load_service
from nearpoint.wire.message import BytesBody


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`query` names the sub-resource, `get` the operation that answers the same document; `wrapped` is the member of
    its answer that is the document, where that is not the answer itself. `default` is put in the place of none."""

    query: str
    get: str
    wrapped: str | None = None
    default: Mapping[str, Any] | None = None

    def document(self, value: Mapping[str, Any]) -> bytes:
        """The body of a Put, from what boto3 would be given."""
        s3 = load_service("s3")
        answer = value if self.wrapped is None else {self.wrapped: value}
        body = s3.serialize(s3.operations[self.get], answer, "-").body
        assert isinstance(body, BytesBody)
        return body.data


# A new bucket has all of it on since April 2023 (S3 User Guide, "Blocking public access").
BLOCK_ALL = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
PUBLIC_ACCESS = "PublicAccessBlock"
SETTINGS: Mapping[str, Setting] = {
    # Versions that have been kept can only be suspended (S3 User Guide, "Using versioning").
    "Versioning": Setting(query="versioning", get="GetBucketVersioning", default={"Status": "Suspended"}),
    PUBLIC_ACCESS: Setting(
        query="publicAccessBlock",
        get="GetPublicAccessBlock",
        wrapped="PublicAccessBlockConfiguration",
        default=BLOCK_ALL,
    ),
    "OwnershipControls": Setting(
        query="ownershipControls",
        get="GetBucketOwnershipControls",
        wrapped="OwnershipControls",
        default={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
    ),
    "Encryption": Setting(query="encryption", get="GetBucketEncryption", wrapped="ServerSideEncryptionConfiguration"),
    "Lifecycle": Setting(query="lifecycle", get="GetBucketLifecycleConfiguration"),
    "Cors": Setting(query="cors", get="GetBucketCors"),
    "Tagging": Setting(query="tagging", get="GetBucketTagging"),
}
