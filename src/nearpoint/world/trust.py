"""The bundle of certificate authorities that programs in the shell trust: the system's and the local one."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from nearpoint.world.layout import Layout, write_private


def system_authorities() -> bytes:
    """The system's own bundle, by SSL_CERT_FILE or OpenSSL's default places, or certifi's as botocore carries it."""
    paths = ssl.get_default_verify_paths()
    candidates = [os.environ.get("SSL_CERT_FILE"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt"]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    import botocore

    carried = Path(botocore.__file__).with_name("cacert.pem")
    return carried.read_bytes() if carried.is_file() else b""


def write_bundle(layout: Layout, authority_pem: bytes) -> None:
    """Write the trust bundle of this world."""
    write_private(layout.trust_bundle, system_authorities().rstrip() + b"\n" + authority_pem)
