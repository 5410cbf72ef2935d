"""From a request to a visit: its distribution by Host, its behavior by path, and what of it is in the cache key."""

from __future__ import annotations

from nearpoint.edge.answers import own_page
from nearpoint.edge.behavior import choose_behavior
from nearpoint.edge.config import Behavior, Distribution
from nearpoint.edge.hosts import Hosts
from nearpoint.edge.key import cache_key
from nearpoint.edge.signed_url import check_access, without_cookies, without_parameters
from nearpoint.edge.storable import Why
from nearpoint.edge.viewer import Whereabouts, with_viewer_fields
from nearpoint.edge.visit import Answer, Visit
from nearpoint.wire.message import BytesBody, Request


def receive(
    request: Request,
    request_id: str,
    hosts: Hosts,
    *,
    now: float,
    via: str,
    where: Whereabouts | None = None,
) -> Visit | Answer:
    """The visit that a request is, or the page for one that no distribution is asked for. `where` viewers are."""
    target = request.target
    if not target.startswith("/") and not (target == "*" and request.method == "OPTIONS"):
        return own_page(400, request_id, reason="bad-target", via=via)
    distribution = hosts.find(request.host)
    if distribution is None:
        detail = "No distribution has this host name."
        return own_page(403, request_id, reason="unknown-host", via=via, detail=detail)
    asked, _, query = target.partition("?")
    path = _rooted(asked, distribution)
    behavior = choose_behavior(distribution.behaviors, path)
    known = with_viewer_fields(request, behavior.added, where)
    visit = visit_of(known, request_id, distribution, path=path, query=query, behavior=behavior)
    keys = visit.behavior.keys
    if keys is not None:
        visit.refused = check_access(
            scheme=request.scheme,
            host=request.headers.get("host") or "",
            path=asked,
            query=query,
            headers=request.headers,
            keys=keys,
            now=now,
            ip=request.client_ip,
        )
    return visit


def visit_of(
    request: Request,
    request_id: str,
    distribution: Distribution,
    *,
    path: str,
    query: str,
    behavior: Behavior | None = None,
    inner: bool = False,
) -> Visit:
    """A visit of a distribution; the behavior is chosen by the path if none is given."""
    if behavior is None:
        behavior = choose_behavior(distribution.behaviors, path)
    if behavior.keys is not None:
        # What signs a request is for the edge alone: the same object is the same whoever has signed for it.
        query = without_parameters(query)
        request = Request(
            request.method,
            request.target,
            without_cookies(request.headers),
            request.body,
            scheme=request.scheme,
            client_ip=request.client_ip,
        )
    why_not: Why | None = None
    if request.method not in behavior.cached_methods:
        why_not = Why.METHOD
    elif not isinstance(request.body, BytesBody) or request.body.data:
        why_not = Why.REQUEST_BODY
    elif behavior.cache.disabled and not distribution.errors:
        why_not = Why.CACHING_DISABLED
    return Visit(
        request=request,
        request_id=request_id,
        distribution=distribution,
        behavior=behavior,
        path=path,
        query=query,
        inner=inner,
        why_not=why_not,
        key=cache_key(
            distribution_id=distribution.id,
            policy=behavior.cache,
            method="GET" if request.method in ("PUT", "POST", "PATCH", "DELETE") else request.method,
            path=path,
            query=query,
            headers=request.headers,
        ),
    )


def go_on_with(visit: Visit, request: Request) -> None:
    """Let a visit be one of the request that a function has made of the viewer's; its behavior stays."""
    path, _, query = request.target.partition("?")
    path = _rooted(path, visit.distribution)
    made = visit_of(request, visit.request_id, visit.distribution, path=path, query=query, behavior=visit.behavior)
    visit.request, visit.path, visit.query = made.request, made.path, made.query
    visit.key, visit.why_not = made.key, made.why_not


def _rooted(path: str, distribution: Distribution) -> str:
    """The path with the default root object put in."""
    return "/" + distribution.default_root_object if path == "/" and distribution.default_root_object else path
