"""Web cache deception: a private page that is asked for under the name of a public file (`/account/x.css`).

CloudFront would keep it for the DefaultTTL if the origin says nothing about keeping. Here it is not kept where three
things come together: the name is that of a file that is the same for everybody, the answer is a page or data, and the
origin was sent cookies that are not in the cache key.
"""

from __future__ import annotations

from nearpoint.wire.message import Headers

# What browsers load beside a page; a page is hardly ever called so.
FILES = frozenset(
    ("avif", "bmp", "css", "eot", "gif", "ico", "jpeg", "jpg", "js", "map", "mjs", "mp3", "mp4", "otf", "pdf", "png",
     "svg", "swf", "tif", "tiff", "ttf", "wasm", "webm", "webp", "woff", "woff2", "zip")
)  # fmt: skip
_PAGES = ("text/html", "application/xhtml+xml", "application/json", "text/plain")


def is_deceptive(path: str, *, content_type: str, forwarded: Headers, keyed_cookies: str) -> bool:
    """Whether a private answer may hide behind a public name.

    `forwarded` are the fields that the origin was sent, `keyed_cookies` the cookies that are in the cache key.
    """
    name = path.rpartition("/")[2].lower()
    if name.rpartition(".")[2] not in FILES or "." not in name:
        return False
    if not content_type.lower().startswith(_PAGES):
        return False
    return (forwarded.joined("cookie") or "") != keyed_cookies
