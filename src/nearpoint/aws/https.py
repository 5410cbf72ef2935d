"""HTTPS connections of this package that boto3 does not make: through the proxy and by the authorities that are given,
or those of the environment, as boto3 and curl take them."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

import urllib3

_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def pool(
    *, proxy_url: str | None, ca_bundle: str | None, connect_timeout_s: float, read_timeout_s: float
) -> urllib3.PoolManager:
    """A pool that neither follows redirects nor tries again. `proxy_url` may name a user and a password."""
    ca_bundle = ca_bundle or next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), None)
    proxy_url = proxy_url or getproxies_environment().get("https")
    timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
    if proxy_url is None:
        return urllib3.PoolManager(timeout=timeout, retries=False, ca_certs=ca_bundle)
    proxy = urlsplit(proxy_url if "://" in proxy_url else f"http://{proxy_url}")
    headers = None
    if proxy.username is not None:
        who = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=who)
    address = f"{proxy.scheme}://{proxy.hostname}:{proxy.port or (443 if proxy.scheme == 'https' else 80)}"
    return urllib3.ProxyManager(address, proxy_headers=headers, timeout=timeout, retries=False, ca_certs=ca_bundle)
