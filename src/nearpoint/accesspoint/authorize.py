"""Proves who sent a request and decides whether they may (S3 User Guide, "Multi-Region Access Point permissions").

The caller's policies and the access point's policy are asked about the access point, the caller's policies about the
bucket behind it; both have to say yes. The account root may do all that the access point's policy does not deny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from nearpoint.accesspoint.routes import RouteTable, compile_routes
from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.evaluate import Decision, RequestContext, evaluate
from nearpoint.policy.managed import managed_policy
from nearpoint.signing import Claim, Message, SignatureError, Verified, read_claim, region_set_matches, verify
from nearpoint.state.resources import AccessPoint, Role, Snapshot
from nearpoint.state.sessions import ROOT_SUFFIX, Identity, find_identity
from nearpoint.wire.message import Request

_ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
_UNREADABLE = parse_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}},
    kind="identity",
    name="unreadable policy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
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
        return self.identity.principal_arn.endswith(ROOT_SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One thing that a request needs to be allowed: `action` on `key` (the bucket itself when None)."""

    action: str
    key: str | None


class View:
    """A snapshot as requests need it: route tables and policies, compiled when they are first asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._tables: dict[str, tuple[AccessPoint, RouteTable]] = {}
        self._policies: dict[str, tuple[Role, tuple[Policy, ...]]] = {}

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

    def policies_of(self, identity: Identity) -> tuple[Policy, ...]:
        """The identity policies of a caller. A policy that cannot be read denies everything."""
        if identity.role_arn is None and identity.principal_arn.endswith(ROOT_SUFFIX):
            administrator = managed_policy(_ADMINISTRATOR)
            assert administrator is not None
            return (administrator,)
        arn = identity.role_arn or identity.principal_arn  # a user's policies are kept under the user's ARN
        kept = self._policies.get(arn)
        if kept is None:
            role = self.snapshot.roles.get(arn)
            if role is None:
                return ()
            kept = self._policies[arn] = (role, _compile_role(role))
        return kept[1]


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


def authenticate(request: Request, snapshot: Snapshot, now: datetime) -> Caller:
    """Who signed the request. Raises AwsError; an anonymous request is AccessDenied (S3: no anonymous access here)."""
    try:
        message = Message(request.method, request.path, request.query, list(request.headers))
        claim = read_claim(message)
        if claim is None:
            raise AwsError("AccessDenied", "Anonymous access is not supported by Multi-Region Access Points")
        identity = find_identity(snapshot, claim.access_key_id, claim.session_token)
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
    names = [("AWS", identity.principal_arn), ("AWS", f"arn:aws:iam::{account_id}:root")]
    if identity.role_arn is not None:
        names.append(("AWS", identity.role_arn))
    return tuple(dict.fromkeys(names))


def condition_values(request: Request, caller: Caller, table: RouteTable, now: datetime) -> dict[str, Sequence[str]]:
    """The condition keys of a request (Service Authorization Reference, Amazon S3; IAM global condition keys)."""
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
    if request.client_ip:
        values["aws:sourceip"] = (request.client_ip,)
    if ":user/" in identity.principal_arn:
        values["aws:username"] = (identity.principal_arn.rsplit("/", 1)[1],)
    for name, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        value = headers.get(name)
        if value is not None:
            values[key] = (value,)
    for name, value in headers:
        lowered = name.lower()
        if lowered.startswith("x-amz-"):
            values.setdefault(f"s3:{lowered}", (value,))
    for name, value in parse_qsl(request.query, keep_blank_values=True, max_num_fields=1000):
        if name in ("prefix", "delimiter", "max-keys"):
            values[f"s3:{name}"] = (value,)
        elif name == "versionId":
            values["s3:versionid"] = (value,)
    return values


class Permissions:
    """What one request may do at one access point. Asks the policies only where they can matter."""

    __slots__ = ("_caller", "_conditions", "_now", "_policies", "_principals", "_request", "_table")

    def __init__(self, view: View, request: Request, caller: Caller, table: RouteTable, now: datetime) -> None:
        self._request = request
        self._caller = caller
        self._table = table
        self._now = now
        self._policies = view.policies_of(caller.identity)
        self._conditions: Mapping[str, Sequence[str]] | None = None
        self._principals: tuple[tuple[str, str], ...] = ()

    def at(self, table: RouteTable) -> Permissions:
        """What the same request may do at another access point (the source of a copy)."""
        other = Permissions.__new__(Permissions)
        other._request, other._caller, other._now = self._request, self._caller, self._now
        other._policies, other._principals, other._conditions = self._policies, (), None
        other._table = table
        return other

    @property
    def matter(self) -> bool:
        """False when everything is allowed: the account root, at an access point without a policy."""
        return not self._caller.is_root or self._table.policy is not None

    def check_access_point(self, access: Access) -> None:
        """Raises AccessDenied unless the access point may be asked for this."""
        table = self._table
        if not self.matter:
            return
        resource = table.arn if access.key is None else f"{table.arn}/object/{access.key}"
        resource_policies = () if table.policy is None else (table.policy,)
        decision = self._decide((*self._policies, *resource_policies), access.action, resource)
        if not decision.allowed:
            raise self._denied(access.action, resource, decision)

    def check_bucket(self, access: Access, bucket: str) -> None:
        """Raises AccessDenied unless the bucket behind the access point may be asked for this."""
        if self._caller.is_root:
            return
        resource = f"arn:aws:s3:::{bucket}" if access.key is None else f"arn:aws:s3:::{bucket}/{access.key}"
        decision = self._decide(self._policies, access.action, resource)
        if not decision.allowed:
            raise self._denied(access.action, resource, decision)

    def _decide(self, policies: Sequence[Policy], action: str, resource: str) -> Decision:
        if self._conditions is None:
            self._conditions = condition_values(self._request, self._caller, self._table, self._now)
            self._principals = principals_of(self._caller.identity, self._table.account_id)
        return evaluate(
            policies,
            RequestContext(action=action, resource=resource, principals=self._principals, conditions=self._conditions),
        )

    def _denied(self, action: str, resource: str, decision: Decision) -> AwsError:
        # The sentence that S3 gives a caller of the bucket's own account.
        why = (
            f"with an explicit deny in {decision.policy or 'a policy'}"
            if decision.verdict == "explicit deny"
            else "because no identity-based policy allows the action"
        )
        return AwsError(
            "AccessDenied",
            f"User: {self._caller.identity.principal_arn} is not authorized to perform: {action} on resource: "
            f'"{resource}" {why}',
        )
