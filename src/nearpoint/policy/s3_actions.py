"""Names the IAM action of an S3 request (Service Authorization Reference, "Actions, resources, and condition keys for
Amazon S3").

What a request does follows from its method, whether it names a key, and its sub-resource parameter.
"""

from __future__ import annotations

from collections.abc import Collection

# (method, names a key, sub-resource) → action without `s3:`. An empty sub-resource is the plain call.
_ACTIONS: dict[tuple[str, bool, str], str] = {
    ("GET", True, ""): "GetObject",
    ("HEAD", True, ""): "GetObject",
    ("PUT", True, ""): "PutObject",
    ("DELETE", True, ""): "DeleteObject",
    ("GET", True, "acl"): "GetObjectAcl",
    ("PUT", True, "acl"): "PutObjectAcl",
    ("GET", True, "attributes"): "GetObjectAttributes",
    ("GET", True, "torrent"): "GetObjectTorrent",
    ("GET", True, "tagging"): "GetObjectTagging",
    ("PUT", True, "tagging"): "PutObjectTagging",
    ("DELETE", True, "tagging"): "DeleteObjectTagging",
    ("GET", True, "legal-hold"): "GetObjectLegalHold",
    ("PUT", True, "legal-hold"): "PutObjectLegalHold",
    ("GET", True, "retention"): "GetObjectRetention",
    ("PUT", True, "retention"): "PutObjectRetention",
    ("POST", True, "restore"): "RestoreObject",
    ("POST", True, "select"): "GetObject",
    ("POST", True, "uploads"): "PutObject",
    ("PUT", True, "uploadId"): "PutObject",
    ("POST", True, "uploadId"): "PutObject",
    ("GET", True, "uploadId"): "ListMultipartUploadParts",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
    ("GET", False, ""): "ListBucket",
    ("HEAD", False, ""): "ListBucket",
    ("GET", False, "versions"): "ListBucketVersions",
    ("GET", False, "uploads"): "ListBucketMultipartUploads",
    ("GET", False, "location"): "GetBucketLocation",
    ("POST", False, "delete"): "DeleteObject",
    ("GET", False, "acl"): "GetBucketAcl",
    ("GET", False, "versioning"): "GetBucketVersioning",
    ("GET", False, "tagging"): "GetBucketTagging",
    ("GET", False, "policy"): "GetBucketPolicy",
    ("GET", False, "cors"): "GetBucketCORS",
    ("GET", False, "lifecycle"): "GetLifecycleConfiguration",
    ("GET", False, "encryption"): "GetEncryptionConfiguration",
    ("GET", False, "object-lock"): "GetBucketObjectLockConfiguration",
    ("GET", False, "replication"): "GetReplicationConfiguration",
    ("GET", False, "notification"): "GetBucketNotification",
    ("GET", False, "website"): "GetBucketWebsite",
    ("GET", False, "logging"): "GetBucketLogging",
    ("GET", False, "ownershipControls"): "GetBucketOwnershipControls",
    ("GET", False, "publicAccessBlock"): "GetBucketPublicAccessBlock",
    ("GET", False, "policyStatus"): "GetBucketPolicyStatus",
    ("GET", False, "accelerate"): "GetAccelerateConfiguration",
    ("GET", False, "analytics"): "GetAnalyticsConfiguration",
    ("GET", False, "intelligent-tiering"): "GetIntelligentTieringConfiguration",
    ("GET", False, "inventory"): "GetInventoryConfiguration",
    ("GET", False, "metrics"): "GetMetricsConfiguration",
    ("GET", False, "requestPayment"): "GetBucketRequestPayment",
    ("PUT", False, ""): "CreateBucket",
    ("DELETE", False, ""): "DeleteBucket",
    ("PUT", False, "acl"): "PutBucketAcl",
    ("PUT", False, "versioning"): "PutBucketVersioning",
    ("PUT", False, "tagging"): "PutBucketTagging",
    ("DELETE", False, "tagging"): "PutBucketTagging",
    ("PUT", False, "policy"): "PutBucketPolicy",
    ("DELETE", False, "policy"): "DeleteBucketPolicy",
    ("PUT", False, "cors"): "PutBucketCORS",
    ("DELETE", False, "cors"): "PutBucketCORS",
    ("PUT", False, "lifecycle"): "PutLifecycleConfiguration",
    ("DELETE", False, "lifecycle"): "PutLifecycleConfiguration",
    ("PUT", False, "encryption"): "PutEncryptionConfiguration",
    ("DELETE", False, "encryption"): "PutEncryptionConfiguration",
    ("PUT", False, "object-lock"): "PutBucketObjectLockConfiguration",
    ("PUT", False, "replication"): "PutReplicationConfiguration",
    ("DELETE", False, "replication"): "PutReplicationConfiguration",
    ("PUT", False, "notification"): "PutBucketNotification",
    ("PUT", False, "website"): "PutBucketWebsite",
    ("DELETE", False, "website"): "DeleteBucketWebsite",
    ("PUT", False, "logging"): "PutBucketLogging",
    ("PUT", False, "ownershipControls"): "PutBucketOwnershipControls",
    ("DELETE", False, "ownershipControls"): "PutBucketOwnershipControls",
    ("PUT", False, "publicAccessBlock"): "PutBucketPublicAccessBlock",
    ("DELETE", False, "publicAccessBlock"): "PutBucketPublicAccessBlock",
    ("PUT", False, "accelerate"): "PutAccelerateConfiguration",
    ("PUT", False, "analytics"): "PutAnalyticsConfiguration",
    ("DELETE", False, "analytics"): "PutAnalyticsConfiguration",
    ("PUT", False, "intelligent-tiering"): "PutIntelligentTieringConfiguration",
    ("DELETE", False, "intelligent-tiering"): "PutIntelligentTieringConfiguration",
    ("PUT", False, "inventory"): "PutInventoryConfiguration",
    ("DELETE", False, "inventory"): "PutInventoryConfiguration",
    ("PUT", False, "metrics"): "PutMetricsConfiguration",
    ("DELETE", False, "metrics"): "PutMetricsConfiguration",
    ("PUT", False, "requestPayment"): "PutBucketRequestPayment",
}
# Sub-resources that S3 has and that are served nowhere here: they must not pass for the plain call.
_OTHERS = frozenset(
    {
        "abac",
        "annotation",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "renameObject",
        "session",
    }
)
_SUBRESOURCES = _OTHERS | {subresource for _, _, subresource in _ACTIONS if subresource}
# With `versionId`, these act on one version.
_OF_A_VERSION = {
    "GetObject": "GetObjectVersion",
    "DeleteObject": "DeleteObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "PutObjectAcl": "PutObjectVersionAcl",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectTagging": "PutObjectVersionTagging",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
}


def s3_action(method: str, *, has_key: bool, parameters: Collection[str]) -> str | None:
    """The action (`s3:GetObject`) of a request with these query parameter names, or None for a call that is not known.

    `parameters` are decoded names. A request that names two sub-resources is none of S3's.
    """
    if not parameters:
        action = _ACTIONS.get((method, has_key, ""))
    else:
        named = [name for name in _SUBRESOURCES if name in parameters]
        if len(named) > 1:
            return None
        action = _ACTIONS.get((method, has_key, named[0] if named else ""))
        if action is not None and has_key and "versionId" in parameters:
            action = _OF_A_VERSION.get(action, action)
    return None if action is None else f"s3:{action}"
