"""What a server refuses by itself is said in S3's words."""

from __future__ import annotations

import pytest

from nearpoint.regions.refusals import error_page
from nearpoint.wire.message import BytesBody


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (400, 400, b"BadRequest"),
        (408, 400, b"RequestTimeout"),
        (413, 400, b"EntityTooLarge"),
        (414, 414, b"BadRequest"),
        (431, 400, b"RequestHeaderSectionTooLarge"),
        (503, 503, b"SlowDown"),
    ],
)
def test_an_error_page_has_the_code_of_s3_and_escapes_the_reason(status: int, expected: int, code: bytes) -> None:
    page = error_page(status, "<why>", "0123")
    assert isinstance(page.body, BytesBody)
    assert (page.status, page.headers.get("x-amz-request-id")) == (expected, "0123")
    assert b"<Code>" + code + b"</Code><Message>&lt;why&gt;</Message>" in page.body.data
