"""The cache key: what of a request tells one answer from another.

CloudFront's default is the distribution and the path; the cache policy (or ForwardedValues) adds query parameters,
headers, cookies and the normalised Accept-Encoding (Developer Guide, "Understand the cache key"). GET and HEAD share.
"""

from __future__ import annotations

import re

from nearpoint.edge.policies import CachePolicy, Selection
from nearpoint.wire.message import Headers

Key = tuple[object, ...]  # hashable through and through; two requests share an answer only if their keys are equal

GZIP = 1
BROTLI = 2
ENCODINGS = ("", "gzip", "br", "br,gzip")  # by class: what goes to the origin
_CODING = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*)?")


def encoding_class(accept_encoding: str | None) -> int:
    """The set of GZIP and BROTLI that the viewer accepts, as bits (RFC 9110 §12.5.3; a weight of 0 refuses)."""
    if not accept_encoding:
        return 0
    accepted = 0
    for item in accept_encoding.split(","):
        found = _CODING.fullmatch(item)
        if found is None or (found[2] is not None and float(found[2]) == 0):
            continue
        coding = found[1].lower()
        if coding in ("gzip", "x-gzip"):
            accepted |= GZIP
        elif coding == "br":
            accepted |= BROTLI
    return accepted


def encoding_mask(policy: CachePolicy) -> int:
    """The codings that the policy tells apart."""
    return (GZIP if policy.gzip else 0) | (BROTLI if policy.brotli else 0)


def select_query(query: str, selection: Selection) -> str:
    """The parameters that the selection takes, in their order and spelling; names are compared as written."""
    if selection.mode == "all" or not query:
        return query
    if selection.mode == "none":
        return ""
    return "&".join(item for item in query.split("&") if selection.takes(item.partition("=")[0]))


def select_cookies(headers: Headers, selection: Selection) -> str:
    """The cookies that the selection takes as one Cookie value, empty when there are none (RFC 6265 §4.2)."""
    if selection.mode == "none":
        return ""
    sent = "; ".join(headers.get_all("cookie"))
    if selection.mode == "all" or not sent:
        return sent
    pairs = (item.strip() for item in sent.split(";"))
    return "; ".join(pair for pair in pairs if pair and selection.takes(pair.partition("=")[0].strip()))


def cache_key(
    *, distribution_id: str, policy: CachePolicy, method: str, path: str, query: str, headers: Headers
) -> Key:
    """The key of a request. `path` and `query` are as on the wire, after the default root object has been put in."""
    sent, selection = headers.by_name(), policy.headers
    named: tuple[tuple[str, str | None], ...] = ()
    if selection.mode != "none":
        names = selection.names if selection.mode == "some" else filter(selection.takes, sent)
        named = tuple([(name, headers.joined(name)) for name in sorted(names)])
    return (
        distribution_id,
        "OPTIONS" if method == "OPTIONS" else "GET",
        path,
        select_query(query, policy.queries) if query else "",
        encoding_class(", ".join(sent["accept-encoding"])) & encoding_mask(policy) if "accept-encoding" in sent else 0,
        named,
        select_cookies(headers, policy.cookies) if "cookie" in sent else "",
    )


def key_path(key: Key) -> str:
    """The path and the query that are in the key, as an invalidation names them."""
    path, query = str(key[2]), str(key[3])
    return f"{path}?{query}" if query else path


def key_cookies(key: Key) -> str:
    """The cookies that are in the key."""
    return str(key[6])


def key_distribution(key: Key) -> str:
    """The distribution that the key belongs to."""
    return str(key[0])
