"""What a distribution does not serve at all: decided before anything is looked up."""

from __future__ import annotations

from nearpoint.edge.answers import own_page
from nearpoint.edge.errors import access_refused, redirect_to_https
from nearpoint.edge.storable import Why
from nearpoint.edge.visit import ERROR, REDIRECT, Answer, Visit, answer_of

URL_BYTES_MAX = 8_192  # CloudFront quotas: the length of a URL, and of a request's header fields
HEADERS_BYTES_MAX = 20_480
BODY_BYTES_MAX = 50_000_000_000  # the largest file for POST and PUT


def refuse(visit: Visit, *, country: str | None, via: str) -> Answer | None:
    """The page for a request that is not served, or None. `country` is where the viewer is, as far as that is known."""
    request, behavior = visit.request, visit.behavior

    def page(status: int, reason: str, detail: str = "") -> Answer:
        return own_page(status, visit.request_id, reason=reason, via=via, detail=detail)

    if request.method == "CONNECT":
        return page(405, "method")
    if visit.distribution.standalone:
        return None
    if not visit.distribution.enabled:
        return page(403, "disabled", "The distribution is disabled.")
    geo = visit.distribution.geo
    if geo is not None and not geo.admits(country):
        detail = "The Amazon CloudFront distribution is configured to block access from your country."
        return page(403, "country", detail)
    if (request.body.length or 0) > BODY_BYTES_MAX:
        return page(413, "body-too-large")
    if len(request.target) > URL_BYTES_MAX:
        return page(414, "url-too-long")
    if sum(len(name) + len(value) + 4 for name, value in request.headers) > HEADERS_BYTES_MAX:
        return page(494, "headers-too-large")
    if request.scheme == "http" and behavior.viewer_protocol == "redirect-to-https":
        response = redirect_to_https(request.method, request.host, request.target)
        return answer_of(response, result=REDIRECT, note="fwd=bypass; detail=redirect", via=via)
    if request.scheme == "http" and behavior.viewer_protocol == "https-only":
        return page(403, "https-only", "This address is served over HTTPS only.")
    if behavior.allowed_methods is not None and request.method not in behavior.allowed_methods:
        return page(403, "method", "The distribution does not allow the HTTP method of this request.")
    if visit.why_not is Why.REQUEST_BODY and request.method in ("GET", "HEAD"):
        return page(403, "request-body", "A GET request must not have a body.")
    if visit.refused is not None:
        response = access_refused(visit.refused.code, visit.refused.message)
        note = f"fwd=bypass; detail={visit.refused.code}"
        return answer_of(response, result=ERROR, note=note, via=via)
    return None
