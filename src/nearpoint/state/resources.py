"""What a user has made: one immutable struct a kind. Times are Unix seconds; ids are AWS's own.

A resource says its kind (the key prefix it is stored under) and its id (unique within the kind).
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct


class Resource(Struct, frozen=True, kw_only=True):
    """What the state store keeps. Subclasses set KIND and answer `id`."""

    KIND: ClassVar[str] = ""

    @property
    def id(self) -> str:
        raise NotImplementedError


class AccessKey(Resource, frozen=True, kw_only=True):
    """A long-lived key pair. `principal_arn` is the account root or a user."""

    KIND: ClassVar[str] = "access-key"
    access_key_id: str
    secret_key: str
    principal_arn: str

    @property
    def id(self) -> str:
        return self.access_key_id

    def __repr__(self) -> str:  # what may come into a log says no secret
        return f"AccessKey(access_key_id={self.access_key_id!r}, principal_arn={self.principal_arn!r})"


class Bucket(Resource, frozen=True, kw_only=True):
    """The global registry of bucket names; everything inside a bucket is its region's store's."""

    KIND: ClassVar[str] = "bucket"
    name: str
    region: str
    created_at: float
    # Copies of what the store was told, for the evaluation of permissions at nodes.
    policy: dict[str, Any] | None = None
    public_access_block: dict[str, bool] = {}

    @property
    def id(self) -> str:
        return self.name


class StoreLimits(Resource, frozen=True, kw_only=True):
    """What the store of a bucket would do wrong, and what is done about it, by feature with what was seen of it
    (`regions.trials`): requests that need what is `refused` get an error, answers are `mended`.

    `is_known` is False until it has been found out, `unknown` are features that it was not found out of. `lacks` is all
    that the store does not do, for people.
    """

    KIND: ClassVar[str] = "store-limits"
    region: str
    bucket: str
    endpoint: str = ""
    is_known: bool = True
    unknown: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    mended: dict[str, str] = {}
    lacks: dict[str, str] = {}

    @property
    def id(self) -> str:
        return f"{self.region}/{self.bucket}"


class Member(Struct, frozen=True, kw_only=True):
    """A bucket of an access point and the share of traffic it takes (0 to 100)."""

    bucket: str
    region: str
    dial_percent: int = 100


class AccessPoint(Resource, frozen=True, kw_only=True):
    """A Multi-Region Access Point. `alias` ends in `.mrap`; its ARN ends in the alias.

    What AWS has not: `read_fallback` reads what is missing or behind elsewhere; `hedge_reads` asks a second region when
    the first is slow; `affinity` lets a client stay at the region it names.
    """

    KIND: ClassVar[str] = "access-point"
    alias: str
    name: str
    account_id: str
    created_at: float
    members: tuple[Member, ...]
    public_access_block: dict[str, bool] = {}
    policy: dict[str, Any] | None = None
    status: str = "READY"
    read_fallback: bool = True
    hedge_reads: bool = False
    affinity: bool = True

    @property
    def id(self) -> str:
        return self.alias

    @property
    def arn(self) -> str:
        return f"arn:aws:s3::{self.account_id}:accesspoint/{self.alias}"


class Role(Resource, frozen=True, kw_only=True):
    """An IAM role with its trust policy, inline policies by name and managed policy ARNs."""

    KIND: ClassVar[str] = "role"
    name: str
    role_id: str
    arn: str
    path: str = "/"
    created_at: float
    trust: dict[str, Any]
    inline_policies: dict[str, dict[str, Any]] = {}
    managed_policy_arns: tuple[str, ...] = ()
    description: str = ""
    max_session_duration_s: int = 3600
    tags: dict[str, str] = {}

    @property
    def id(self) -> str:
        return self.name


class Function(Resource, frozen=True, kw_only=True):
    """A Lambda function ($LATEST) or one published version of it.

    `code_sha256` is the hex digest of the package, which is kept as `packages/<code_sha256>.zip` in the data folder.
    """

    KIND: ClassVar[str] = "function"
    name: str
    version: str = "$LATEST"
    account_id: str
    region: str
    role_arn: str
    runtime: str
    handler: str
    memory_mb: int = 128
    timeout_s: int = 3
    code_sha256: str
    code_size_bytes: int
    description: str = ""
    architectures: tuple[str, ...] = ("x86_64",)
    environment: dict[str, str] = {}
    last_modified: float

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def arn(self) -> str:
        """Without the version for $LATEST, with it otherwise."""
        arn = f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.name}"
        return arn if self.version == "$LATEST" else f"{arn}:{self.version}"


class Distribution(Resource, frozen=True, kw_only=True):
    """A CloudFront distribution. `config` has CloudFormation's `DistributionConfig` shape: plain lists."""

    KIND: ClassVar[str] = "distribution"
    distribution_id: str
    account_id: str
    domain: str
    config: dict[str, Any]
    etag: str
    created_at: float
    last_modified: float
    status: str = "InProgress"
    tags: dict[str, str] = {}
    caller_reference: str = ""

    @property
    def id(self) -> str:
        return self.distribution_id

    @property
    def arn(self) -> str:
        return f"arn:aws:cloudfront::{self.account_id}:distribution/{self.distribution_id}"


class EdgeSetting(Resource, frozen=True, kw_only=True):
    """What distributions refer to by id. `config` has CloudFormation's shape and holds the name, unique in the kind."""

    setting_id: str
    config: dict[str, Any]
    etag: str
    created_at: float
    last_modified: float

    @property
    def id(self) -> str:
        return self.setting_id

    @property
    def name(self) -> str:
        return str(self.config["Name"])


class CachePolicy(EdgeSetting, frozen=True, kw_only=True):
    """What of a request is in the cache key, and how long answers are kept."""

    KIND: ClassVar[str] = "cache-policy"


class OriginRequestPolicy(EdgeSetting, frozen=True, kw_only=True):
    """What of a request goes to the origin besides what is in the cache key."""

    KIND: ClassVar[str] = "origin-request-policy"


class ResponseHeadersPolicy(EdgeSetting, frozen=True, kw_only=True):
    """Which fields the edge puts into answers, and which it takes out."""

    KIND: ClassVar[str] = "response-headers-policy"


class OriginAccessControl(EdgeSetting, frozen=True, kw_only=True):
    """How the edge signs its requests to an S3 origin."""

    KIND: ClassVar[str] = "origin-access-control"


class PublicKey(EdgeSetting, frozen=True, kw_only=True):
    """The public half (PEM) of a key that signs URLs and cookies."""

    KIND: ClassVar[str] = "public-key"


class KeyGroup(EdgeSetting, frozen=True, kw_only=True):
    """Public keys, by id, any of which may have signed."""

    KIND: ClassVar[str] = "key-group"


class Invalidation(Resource, frozen=True, kw_only=True):
    """An invalidation of cached paths: an entry stored before `created_at` that matches a path is gone."""

    KIND: ClassVar[str] = "invalidation"
    invalidation_id: str
    distribution_id: str
    paths: tuple[str, ...]
    caller_reference: str
    created_at: float
    status: str = "InProgress"

    @property
    def id(self) -> str:
        return self.invalidation_id


class Snapshot(Struct, frozen=True, kw_only=True):
    """All that a node needs to serve, as one numbered value. A higher generation replaces a lower one, never back."""

    generation: int
    account_id: str
    session_secret: str
    access_keys: dict[str, AccessKey] = {}
    roles: dict[str, Role] = {}  # by ARN
    buckets: dict[str, Bucket] = {}
    access_points: dict[str, AccessPoint] = {}  # by alias, `.mrap` included
    store_limits: dict[str, StoreLimits] = {}  # by `REGION/BUCKET`, of stores that have any
    distributions: dict[str, Distribution] = {}  # by domain
    functions: dict[str, Function] = {}  # published versions, by ARN with version
    invalidations: tuple[Invalidation, ...] = ()
    # by id
    cache_policies: dict[str, CachePolicy] = {}
    origin_request_policies: dict[str, OriginRequestPolicy] = {}
    response_headers_policies: dict[str, ResponseHeadersPolicy] = {}
    origin_access_controls: dict[str, OriginAccessControl] = {}
    public_keys: dict[str, PublicKey] = {}
    key_groups: dict[str, KeyGroup] = {}

    def __repr__(self) -> str:  # it holds secrets
        return f"Snapshot(generation={self.generation}, account_id={self.account_id!r})"


class Fault(Resource, frozen=True, kw_only=True):
    """What has been broken on purpose: `how` is refuse, blackhole, slow, errors (503), or stop (the store process)."""

    KIND: ClassVar[str] = "fault"
    region: str
    how: str
    since: float

    @property
    def id(self) -> str:
        return self.region
