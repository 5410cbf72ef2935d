"""What is in the cache key, how long answers are kept and what goes to the origin, whichever way that was configured.

Cache policies and origin request policies (AWS::CloudFront::CachePolicy, ::OriginRequestPolicy) and the older
ForwardedValues with its TTLs compile to the same two values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nearpoint.edge.properties import ConfigError, flag_of, number_of, required_text, text_of, texts_of
from nearpoint.edge.viewer import added_fields

YEAR_S = 31_536_000
DAY_S = 86_400
TTL_S_MAX = 3_153_600_000  # a hundred years

Mode = Literal["none", "all", "some", "all-except"]
Policies = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which headers, cookies or query parameters count. Header names are in lower case."""

    mode: Mode = "none"
    names: frozenset[str] = frozenset()

    def takes(self, name: str) -> bool:
        """Whether the name counts."""
        match self.mode:
            case "none":
                return False
            case "all":
                return True
            case "some":
                return name in self.names
            case _:
                return name not in self.names

    def __or__(self, other: Selection) -> Selection:
        """What either of the two takes."""
        if "all" in (self.mode, other.mode):
            return ALL
        if self.mode == "none" or other.mode == "none":
            return other if self.mode == "none" else self
        if self.mode == other.mode == "some":
            return some(self.names | other.names)
        if self.mode == other.mode:
            return Selection(mode="all-except", names=self.names & other.names)
        taken, dropped = (self, other) if self.mode == "some" else (other, self)
        return Selection(mode="all-except", names=dropped.names - taken.names)


NONE = Selection()
ALL = Selection(mode="all")


def some(names: Sequence[str] | frozenset[str]) -> Selection:
    """A selection of exactly these names."""
    return Selection(mode="some", names=frozenset(names)) if names else NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """What is in the cache key, and how long an answer may be kept, in seconds.

    `explicit_only` is the stand-alone edge's way: an answer without freshness of its own is not kept, no TTL is
    imposed, and RFC 9111 is followed where CloudFront departs from it.
    """

    min_ttl_s: float = 0
    default_ttl_s: float = DAY_S
    max_ttl_s: float = YEAR_S
    gzip: bool = False
    brotli: bool = False
    headers: Selection = NONE
    cookies: Selection = NONE
    queries: Selection = NONE
    explicit_only: bool = False
    added: frozenset[str] = frozenset()  # fields of the edge's own that are in the key

    @property
    def disabled(self) -> bool:
        """Whether nothing at all is to be kept."""
        return self.max_ttl_s <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What of the viewer's request goes to the origin, besides what is in the cache key.

    `standalone` is the stand-alone edge's way: Authorization goes along, X-Forwarded-Proto is said, and the viewer's
    User-Agent, or none, is the request's.
    """

    headers: Selection = NONE
    cookies: Selection = NONE
    queries: Selection = NONE
    legacy_headers: bool = False  # ForwardedValues: every header goes but those that CloudFront drops or replaces
    added: frozenset[str] = frozenset()  # fields of the edge's own
    viewer_host: bool = False
    standalone: bool = False


def forwarded_values(item: Mapping[str, Any], legacy: Mapping[str, Any], where: str) -> tuple[CachePolicy, Forwarding]:
    inside = f"{where}.ForwardedValues"
    keys = texts_of(legacy, "QueryStringCacheKeys", inside)
    forwards_query = flag_of(legacy, "QueryString", False, inside)
    queries = NONE if not forwards_query else some(keys) if keys and keys != ["*"] else ALL
    cookies_config = legacy.get("Cookies") or {}
    forward_cookies = text_of(cookies_config, "Forward", "none", f"{inside}.Cookies")
    names = texts_of(cookies_config, "WhitelistedNames", f"{inside}.Cookies")
    cookies = {"none": NONE, "all": ALL, "whitelist": some(names)}.get(forward_cookies)
    if cookies is None:
        raise ConfigError(f"{inside}.Cookies.Forward", f"{forward_cookies!r} is not none, whitelist or all")
    header_names = [name.lower() for name in texts_of(legacy, "Headers", inside)]
    headers = ALL if "*" in header_names else some(header_names)
    min_ttl_s = ttl_of(item, "MinTTL", 0, where)
    max_ttl_s = ttl_of(item, "MaxTTL", max(YEAR_S, min_ttl_s), where)
    default_ttl_s = ttl_of(item, "DefaultTTL", min(max(DAY_S, min_ttl_s), max_ttl_s), where)
    _check_ttls(min_ttl_s, default_ttl_s, max_ttl_s, where)
    if headers == ALL:
        # Forwarding every header keeps nothing (Developer Guide, "Cache content based on request headers").
        min_ttl_s = default_ttl_s = max_ttl_s = 0
    cache = CachePolicy(
        min_ttl_s=min_ttl_s,
        default_ttl_s=default_ttl_s,
        max_ttl_s=max_ttl_s,
        gzip=True,
        brotli=True,
        headers=headers,
        cookies=cookies,
        queries=queries,
        added=added_fields(headers.names),
    )
    # With QueryStringCacheKeys the whole query is forwarded; only the named parameters are in the key.
    forward = Forwarding(
        headers=headers,
        cookies=cookies,
        queries=ALL if forwards_query else NONE,
        legacy_headers=True,
        viewer_host=headers.takes("host"),
    )
    return cache, forward


def compile_cache_policy(policy: Mapping[str, Any]) -> CachePolicy:
    """Compile a CachePolicyConfig (AWS::CloudFront::CachePolicy). Raises ConfigError."""
    parameters = policy.get("ParametersInCacheKeyAndForwardedToOrigin")
    where = "CachePolicyConfig"
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{where}.ParametersInCacheKeyAndForwardedToOrigin", "is required")
    min_ttl_s = ttl_of(policy, "MinTTL", 0, where)
    max_ttl_s = ttl_of(policy, "MaxTTL", max(YEAR_S, min_ttl_s), where)
    default_ttl_s = ttl_of(policy, "DefaultTTL", min(max(DAY_S, min_ttl_s), max_ttl_s), where)
    _check_ttls(min_ttl_s, default_ttl_s, max_ttl_s, where)
    headers = _selection(parameters, "Headers", where)
    return CachePolicy(
        min_ttl_s=min_ttl_s,
        default_ttl_s=default_ttl_s,
        max_ttl_s=max_ttl_s,
        gzip=flag_of(parameters, "EnableAcceptEncodingGzip", False, where),
        brotli=flag_of(parameters, "EnableAcceptEncodingBrotli", False, where),
        headers=headers,
        cookies=_selection(parameters, "Cookies", where),
        queries=_selection(parameters, "QueryStrings", where),
        added=added_fields(headers.names if headers.mode == "some" else ()),
    )


def origin_request_policy(policy_id: str, policies: Policies, where: str) -> Forwarding:
    if not policy_id:
        return Forwarding()
    policy = policies.get(policy_id)
    if policy is None or "HeadersConfig" not in policy:
        raise ConfigError(f"{where}.OriginRequestPolicyId", f"no origin request policy has the id {policy_id!r}")
    headers = _selection(policy, "Headers", where)
    return Forwarding(
        headers=headers,
        cookies=_selection(policy, "Cookies", where),
        queries=_selection(policy, "QueryStrings", where),
        added=_added(policy),
        viewer_host=headers.takes("host"),
    )


def _added(policy: Mapping[str, Any]) -> frozenset[str]:
    config = policy["HeadersConfig"]
    if config["HeaderBehavior"] not in ("whitelist", "allViewerAndWhitelistCloudFront"):
        return frozenset()
    return added_fields(name.lower() for name in texts_of(config, "Headers", "HeadersConfig"))


# The words that policies use: HeaderBehavior, CookieBehavior and QueryStringBehavior.
_MODES: Mapping[str, Mode] = {
    "none": "none",
    "all": "all",
    "allViewer": "all",
    "allViewerAndWhitelistCloudFront": "all",
    "whitelist": "some",
    "allExcept": "all-except",
}


def _selection(policy: Mapping[str, Any], what: Literal["Headers", "Cookies", "QueryStrings"], where: str) -> Selection:
    """Reads `HeadersConfig {HeaderBehavior, Headers}` and its two sisters."""
    config = policy.get(f"{what}Config")
    if not isinstance(config, Mapping):
        raise ConfigError(f"{where}.{what}Config", "is required")
    word = f"{what.removesuffix('s')}Behavior"
    behavior = required_text(config, word, f"{where}.{what}Config")
    mode = _MODES.get(behavior)
    if mode is None:
        raise ConfigError(f"{where}.{what}Config.{word}", f"{behavior!r} is not known")
    names = texts_of(config, what, f"{where}.{what}Config") if mode in ("some", "all-except") else []
    return Selection(mode=mode, names=frozenset(name.lower() if what == "Headers" else name for name in names))


def _check_ttls(min_ttl_s: float, default_ttl_s: float, max_ttl_s: float, where: str) -> None:
    if not min_ttl_s <= default_ttl_s <= max_ttl_s:
        raise ConfigError(where, f"MinTTL {min_ttl_s} <= DefaultTTL {default_ttl_s} <= MaxTTL {max_ttl_s} must hold")


def ttl_of(item: Mapping[str, Any], name: str, default: float, where: str) -> float:
    """A time to live in seconds."""
    return number_of(item, name, default, where, between=(0, TTL_S_MAX))
