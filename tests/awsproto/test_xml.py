"""What the reader of untrusted XML refuses, before it has cost anything."""

from __future__ import annotations

import pytest

from nearpoint.awsproto import xml


def test_what_protocols_send_is_read() -> None:
    long = "k" * 20_000
    root = xml.parse(f'<a:Delete xmlns:a="u"><Key x="&lt;">{long}&amp;</Key><b/></a:Delete>'.encode())
    key = root.child("Key")
    assert key is not None
    assert (root.tag, key.text, key.attributes) == ("Delete", f"{long}&", {"x": "<"})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b'<!DOCTYPE d [<!ENTITY a "b">]><d>&a;</d>', "document types"),
        (b"<?x y?><d/>", "processing instructions"),
        (b"<a>" * 40, "levels"),
        (b"<d>" + b"<a/>" * 200_000 + b"</d>", "elements"),
        (b"<d " + b" ".join(b'a%d=">"' % at for at in range(100_000)) + b"/>", "too long"),
        (b"<d>" + b'<a b="" c=""/>' * 600 + b"</d>", "attributes"),
        (b"<d>" + b" " * 70_000 + b"</d>", "too long"),
        (b"<d/>" + b" " * (xml.BYTES_MAX + 1), "bytes"),
        (b"<d>\xff</d>", "invalid token"),
    ],
)
def test_what_attackers_send_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(xml.XmlError, match=why):
        xml.parse(document)
