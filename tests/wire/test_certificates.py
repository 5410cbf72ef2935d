"""Certificates of one's own, in a folder that may change while it is served from."""

from __future__ import annotations

import ssl
from pathlib import Path

from nearpoint.wire.certificates import CertificateFolder, names_of
from nearpoint.wire.tls import Authority


def put(folder: Path, name: str, authority: Authority, *names: str) -> None:
    pem = authority.mint(names)
    at = pem.index(b"-----BEGIN PRIVATE KEY")
    (folder / f"{name}.crt").write_bytes(pem[:at])
    (folder / f"{name}.key").write_bytes(pem[at:])


def shown(context: ssl.SSLContext, server_name: str) -> list[str]:
    """The names of the certificate that a viewer is shown who asks for this one."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    viewer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    viewer.check_hostname, viewer.verify_mode = False, ssl.CERT_NONE
    client = viewer.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    done = {"client": False, "server": False}
    while not all(done.values()):
        for name, side in (("client", client), ("server", server)):
            try:
                side.do_handshake()
                done[name] = True
            except ssl.SSLWantReadError:
                continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return names_of(ssl.DER_cert_to_PEM_cert(der).encode())


def test_own_certificates_come_first_and_may_come_later(tmp_path: Path) -> None:
    authority = Authority.load_or_create(tmp_path / "ca")
    folder = tmp_path / "certificates"
    folder.mkdir()
    now = [0.0]
    wrong: list[str] = []
    context = authority.server_context()
    CertificateFolder(folder, wrong.append, clock=lambda: now[0]).before(context)
    assert shown(context, "www.shop.example") == ["www.shop.example"]  # minted
    put(folder, "shop", authority, "*.shop.example", "shop.example", "mine.example")
    (folder / "broken.crt").write_text("no certificate")
    (folder / "broken.key").write_text("no key")
    assert shown(context, "www.shop.example") == ["www.shop.example"]  # not looked at again yet
    now[0] = 2
    assert "mine.example" in shown(context, "www.shop.example")
    assert "mine.example" in shown(context, "SHOP.example")
    assert shown(context, "a.b.shop.example") == ["a.b.shop.example"]  # a wildcard is for one label
    assert shown(context, "d1.cloudfront.net") == ["*.cloudfront.net", "cloudfront.net"]
    assert len(wrong) == 1
    assert "broken.crt" in wrong[0]
    (folder / "shop.crt").unlink()
    now[0] = 4
    assert shown(context, "www.shop.example") == ["www.shop.example"]
