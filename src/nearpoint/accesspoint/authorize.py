"""Proves who sent a request and decides whether they may (S3 User Guide, "Multi-Region Access Point permissions").

The caller's policies and the access point's policy are asked about the access point, the caller's policies and the
bucket's policy about the bucket behind it; both have to say yes. The account root may do all that no policy denies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from nearpoint.accesspoint.routes import DENY_ALL, RouteTable, compile_routes
from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.evaluate import Decision, RequestContext, decide, narrowed
from nearpoint.policy.managed import administrator, managed_policy
from nearpoint.policy.s3_conditions import document_conditions, request_conditions
from nearpoint.signing import Claim, Message, SignatureError, Verified, read_claim, region_set_matches, verify
from nearpoint.state.resources import AccessPoint, Bucket, Role, Snapshot, StoreLimits
from nearpoint.state.sessions import ROOT_SUFFIX, Identity, find_identity
from nearpoint.wire.message import Request

_UNREADABLE = parse_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}},
    kind="identity",
    name="unreadable policy",
)


# What is remembered between requests of one snapshot; more callers and keys than that start anew.
_IDENTITIES_MAX = 4_096
_RULES_MAX = 16_384


Limits = Mapping[str, StoreLimits]  # of one access point's buckets, by region


class Caller(Struct, frozen=True, kw_only=True):
    """Who signed a request, proved."""

    identity: Identity
    verified: Verified

    @property
    def claim(self) -> Claim:
        """What the request said of itself."""
        return self.verified.claim

    @property
    def is_root(self) -> bool:
        """True for the account root."""
        identity = self.identity
        return identity.role_arn is None and identity.service is None and identity.principal_arn.endswith(ROOT_SUFFIX)


class Access(Struct, frozen=True, kw_only=True):
    """One thing that a request needs to be allowed: `action` on `key` (the bucket itself when None)."""

    action: str
    key: str | None


class Rules(Struct, frozen=True, kw_only=True):
    """What policies say to one caller of one action. `are_plain`: they look at nothing else but the resource."""

    policies: tuple[Policy, ...]
    are_plain: bool


class View:
    """A snapshot as requests need it: route tables and policies, compiled when they are first asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._tables: dict[str, tuple[AccessPoint, RouteTable]] = {}
        self._policies: dict[str, tuple[Role, tuple[Policy, ...]]] = {}
        self._bucket_policies: dict[str, tuple[Bucket, Policy | None]] = {}
        self._limits: dict[str, Limits | None] = {}
        self._open: dict[str, bool] = {}
        self._identities: dict[tuple[str, str | None], Identity] = {}
        self._rules: dict[tuple[str | None, ...], Rules] = {}

    def after(self, snapshot: Snapshot) -> View:
        """The view of a later snapshot; what has not changed stays compiled."""
        view = View(snapshot)
        view._tables = {
            alias: kept for alias, kept in self._tables.items() if snapshot.access_points.get(alias) == kept[0]
        }
        view._policies = {arn: kept for arn, kept in self._policies.items() if snapshot.roles.get(arn) == kept[0]}
        return view

    def table(self, alias: str) -> RouteTable | None:
        """The route table of an alias, or None."""
        kept = self._tables.get(alias)
        if kept is None:
            access_point = self.snapshot.access_points.get(alias)
            if access_point is None:
                return None
            kept = self._tables[alias] = (access_point, compile_routes(access_point))
        return kept[1]

    def identity(self, access_key_id: str, session_token: str | None) -> Identity | None:
        """Who signs with this access key id (and token), or None."""
        key = (access_key_id, session_token)
        found = self._identities.get(key)
        if found is None:
            found = find_identity(self.snapshot, access_key_id, session_token)
            if found is not None:
                if len(self._identities) >= _IDENTITIES_MAX:
                    self._identities.clear()
                self._identities[key] = found
        return found

    def limits(self, table: RouteTable) -> Limits | None:
        """What the stores behind an access point would do wrong, by region; None where there is nothing to mind."""
        if not self.snapshot.store_limits:
            return None
        if table.alias not in self._limits:
            known = {
                route.region: self.snapshot.store_limits.get(f"{route.region}/{route.bucket}") for route in table.routes
            }
            found = {
                region: one
                for region, one in known.items()
                if one is not None and (one.refused or one.mended or one.unknown or not one.is_known)
            }
            self._limits[table.alias] = found or None
        return self._limits[table.alias]

    def bucket_policy(self, name: str) -> Policy | None:
        """The policy of a bucket, or None. One that cannot be read denies everything."""
        bucket = self.snapshot.buckets.get(name)
        if bucket is None or bucket.policy is None:
            return None
        kept = self._bucket_policies.get(name)
        if kept is None:
            try:
                policy = parse_policy(bucket.policy, kind="resource", name="bucket policy")
            except MalformedPolicyError:
                policy = DENY_ALL
            kept = self._bucket_policies[name] = (bucket, policy)
        return kept[1]

    def is_open(self, table: RouteTable) -> bool:
        """Whether neither the access point nor any bucket behind it has a policy."""
        found = self._open.get(table.alias)
        if found is None:
            found = self._open[table.alias] = table.policy is None and all(
                self.bucket_policy(route.bucket) is None for route in table.routes
            )
        return found

    def blocks(self, bucket: str, table: RouteTable, setting: str) -> bool:
        """Whether Block Public Access of the access point or of the bucket behind it has this setting on."""
        known = self.snapshot.buckets.get(bucket)
        return bool(
            table.public_access_block.get(setting) or (known is not None and known.public_access_block.get(setting))
        )

    def policies_of(self, identity: Identity) -> tuple[Policy, ...]:
        """The identity policies of a caller. A policy that cannot be read denies everything."""
        if identity.role_arn is None and identity.service is None and identity.principal_arn.endswith(ROOT_SUFFIX):
            return (administrator(),)
        arn = identity.role_arn or identity.principal_arn  # a user's policies are kept under the user's ARN
        kept = self._policies.get(arn)
        if kept is None:
            role = self.snapshot.roles.get(arn)
            if role is None:
                return ()
            kept = self._policies[arn] = (role, _compile_role(role))
        return kept[1]

    def rules(self, identity: Identity, action: str, table: RouteTable, owner: str, policy: Policy | None) -> Rules:
        """What the caller's policies and `policy`, which is that of the resource with the ARN `owner`, say of it."""
        key = (identity.principal_arn, identity.role_arn, identity.service, table.account_id, action, owner)
        found = self._rules.get(key)
        if found is None:
            policies = self.policies_of(identity)
            about = narrowed(
                policies if policy is None else (*policies, policy), action, principals_of(identity, table.account_id)
            )
            found = Rules(policies=about, are_plain=_are_plain(about))
            if len(self._rules) >= _RULES_MAX:
                self._rules.clear()
            self._rules[key] = found
        return found


def _compile_role(role: Role) -> tuple[Policy, ...]:
    policies: list[Policy] = []
    for name, document in role.inline_policies.items():
        try:
            policies.append(parse_policy(document, kind="identity", name=name))
        except MalformedPolicyError:
            policies.append(_UNREADABLE)
    for arn in role.managed_policy_arns:
        managed = managed_policy(arn)
        if managed is not None:
            policies.append(managed)
    return tuple(policies)


def authenticate(request: Request, identity_of: Callable[[str, str | None], Identity | None], now: datetime) -> Caller:
    """Who signed the request; `identity_of` knows access key ids and session tokens.

    Raises AwsError; an anonymous request is AccessDenied (S3: no anonymous access here).
    """
    try:
        headers = request.headers
        path, _, query = request.target.partition("?")
        message = Message(request.method, path, query, list(headers), headers.by_name())
        claim = read_claim(message)
        if claim is None:
            raise AwsError("AccessDenied", "Anonymous access is not supported by Multi-Region Access Points")
        identity = identity_of(claim.access_key_id, claim.session_token)
        if identity is None:
            if claim.session_token is not None:
                raise AwsError("InvalidToken")
            raise AwsError("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.access_key_id})
        verified = verify(claim, message, identity.secret_key, now=now, service="s3")
    except SignatureError as error:
        raise AwsError(error.code, error.text, extra=error.fields) from None
    if identity.expires_at is not None and now.timestamp() >= identity.expires_at:
        raise AwsError("ExpiredToken")
    return Caller(identity=identity, verified=verified)


def check_region_set(claim: Claim, table: RouteTable) -> None:
    """Refuse a SigV4A region set that takes in none of the access point's regions. Plain SigV4 may name any region."""
    if claim.region_set is None or claim.region_set == "*":
        return
    if not any(region_set_matches(claim.region_set, route.region) for route in table.routes):
        raise AwsError(
            "AuthorizationHeaderMalformed" if claim.form == "header" else "AuthorizationQueryParametersError",
            f"The region set '{claim.region_set}' names no Region of this access point",
        )


def principals_of(identity: Identity, account_id: str) -> tuple[tuple[str, str], ...]:
    """The names under which a resource policy may know the caller."""
    if identity.service is not None:
        return (("Service", identity.service),)
    names = [("AWS", identity.principal_arn), ("Account", f"arn:aws:iam::{account_id}:root")]
    if identity.role_arn is not None:
        names.append(("AWS", identity.role_arn))
    return tuple(dict.fromkeys(names))


def condition_values(request: Request, caller: Caller, table: RouteTable, now: datetime) -> dict[str, Sequence[str]]:
    """The condition keys of a request that do not depend on what it asks for (IAM global condition keys, and S3's of
    the access point and the signature)."""
    identity, claim = caller.identity, caller.claim
    headers = request.headers
    values: dict[str, Sequence[str]] = {
        "aws:principalarn": (identity.role_arn or identity.principal_arn,),
        "aws:principalaccount": (table.account_id,),
        "aws:principaltype": ("AssumedRole" if identity.role_arn else "Account" if caller.is_root else "User",),
        "aws:securetransport": ("true" if request.scheme == "https" else "false",),
        "aws:currenttime": (now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(now.timestamp())),),
        "s3:dataaccesspointarn": (table.arn,),
        "s3:dataaccesspointaccount": (table.account_id,),
        "s3:accesspointnetworkorigin": ("Internet",),
        "s3:authtype": ("REST-HEADER" if claim.form == "header" else "REST-QUERY-STRING",),
        "s3:signatureversion": ("AWS4-HMAC-SHA256" if claim.algorithm == "v4" else "AWS4-ECDSA-P256-SHA256",),
        "s3:signatureage": (str(int((now - claim.signed_at).total_seconds() * 1000)),),
        "s3:resourceaccount": (table.account_id,),
    }
    if request.peer is not None and request.peer.tls.startswith("TLSv"):
        values["s3:tlsversion"] = (request.peer.tls[4:],)
    if identity.service is not None:
        # A service has no ARN of its own; it says for which resource it asks (IAM, "AWS global condition keys").
        for absent in ("aws:principalarn", "aws:principalaccount", "aws:principaltype"):
            del values[absent]
        values["aws:principalisawsservice"] = ("true",)
        values["aws:principalservicename"] = (identity.service,)
        values["aws:sourcearn"] = (identity.principal_arn,)
        values["aws:sourceaccount"] = (identity.principal_arn.split(":")[4],)
    if request.client_ip:
        values["aws:sourceip"] = (request.client_ip,)
    if ":user/" in identity.principal_arn:
        values["aws:username"] = (identity.principal_arn.rsplit("/", 1)[1],)
    for name, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        value = headers.get(name)
        if value is not None:
            values[key] = (value,)
    return values


def _are_plain(policies: Sequence[Policy]) -> bool:
    return not any(one.conditions or one.variables for policy in policies for one in policy.statements)


class Permissions:
    """What one request may do at one access point. Asks the policies only where they can matter."""

    __slots__ = ("_caller", "_conditions", "_document", "_is_root", "_now", "_request", "_table", "_view")

    def __init__(
        self,
        view: View,
        request: Request,
        caller: Caller,
        table: RouteTable,
        now: datetime,
        document: xml.Node | None = None,
    ) -> None:
        """`document` is the request's body, where it is one that policies can speak about."""
        self._view = view
        self._document = document
        self._request = request
        self._caller = caller
        self._is_root = caller.is_root
        self._table = table
        self._now = now
        self._conditions: dict[str, Mapping[str, Sequence[str]]] = {}

    def at(self, table: RouteTable) -> Permissions:
        """What the same request may do at another access point (the source of a copy)."""
        return Permissions(self._view, self._request, self._caller, table, self._now, self._document)

    @property
    def matter(self) -> bool:
        """False when everything is allowed: the account root, where nothing has a policy."""
        return not self._is_root or not self._view.is_open(self._table)

    def check_access_point(self, access: Access) -> None:
        """Raises AccessDenied unless the access point may be asked for this."""
        policy = self._table.policy
        if policy is None and self._is_root:
            return
        arn = self._table.arn
        resource = arn if access.key is None else f"{arn}/object/{access.key}"
        self._check(access.action, resource, arn, policy)

    def check_bucket(self, access: Access, bucket: str) -> None:
        """Raises AccessDenied unless the bucket behind the access point may be asked for this."""
        policy = self._view.bucket_policy(bucket)
        if policy is None and self._is_root:
            return
        arn = f"arn:aws:s3:::{bucket}"
        resource = arn if access.key is None else f"{arn}/{access.key}"
        self._check(access.action, resource, arn, policy)

    def may_ask(self, access: Access, bucket: str) -> bool:
        """Whether `check_bucket` would let this pass."""
        try:
            self.check_bucket(access, bucket)
        except AwsError:
            return False
        return True

    def may_ask_access_point(self, access: Access) -> bool:
        """Whether `check_access_point` would let this pass."""
        try:
            self.check_access_point(access)
        except AwsError:
            return False
        return True

    def _check(self, action: str, resource: str, owner: str, policy: Policy | None) -> None:
        rules = self._view.rules(self._caller.identity, action, self._table, owner, policy)
        decision = decide(rules.policies, self._context(action, resource, plain=rules.are_plain))
        if not decision.allowed:
            raise self._denied(action, resource, decision)

    def _context(self, action: str, resource: str, *, plain: bool) -> RequestContext:
        if plain:
            return RequestContext(action=action, resource=resource)
        conditions = self._conditions.get(action)
        if conditions is None:
            request, now = self._request, self._now
            conditions = self._conditions[action] = {
                **condition_values(request, self._caller, self._table, now),
                **request_conditions(action, request.headers.by_name(), request.query, now),
                **document_conditions(self._document, now),
            }
        return RequestContext(action=action, resource=resource, conditions=conditions)

    def _denied(self, action: str, resource: str, decision: Decision) -> AwsError:
        # The sentence that S3 gives a caller of the bucket's own account.
        why = (
            f"with an explicit deny in {decision.policy or 'a policy'}"
            if decision.verdict == "explicit deny"
            else "because no identity-based policy allows the action"
        )
        if self._caller.identity.service is not None:
            return AwsError("AccessDenied")
        return AwsError(
            "AccessDenied",
            f"User: {self._caller.identity.principal_arn} is not authorized to perform: {action} on resource: "
            f'"{resource}" {why}',
        )
