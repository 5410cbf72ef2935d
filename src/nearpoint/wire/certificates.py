"""Certificates from files: each viewer is shown the one that is for the name it asks for (SNI, RFC 6066 §3)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def names_of(pem: bytes) -> list[str]:
    """The host names that a certificate (the first of a chain) is for, in lower case. Raises ValueError."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


def choose(by_name: Mapping[str, Any], name: str | None) -> Any | None:
    """What is for a name: by the name itself, or by a wildcard for its first label (RFC 9525 §6.3)."""
    if name is None:
        return None
    lowered = name.lower()
    return by_name.get(lowered) or by_name.get("*." + lowered.partition(".")[2])


def context_from_files(pairs: Sequence[tuple[Path, Path]], alpn: Sequence[str] = ("h2", "http/1.1")) -> ssl.SSLContext:
    """A server's context with these pairs of certificate chain and key, in PEM; the first is for who names no other.

    Raises OSError for a file that can't be read, and ValueError for a pair that is none; both name the file.
    """
    contexts: list[ssl.SSLContext] = []
    by_name: dict[str, ssl.SSLContext] = {}
    for certificate, key in pairs:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(list(alpn))
        try:
            context.load_cert_chain(certificate, key)
            names = names_of(certificate.read_bytes())
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"{certificate} and {key} are not a certificate and its key: {error}") from error
        contexts.append(context)
        for name in names:
            by_name.setdefault(name, context)
    if not contexts:
        raise ValueError("no certificate")

    def on_server_name(connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        chosen = choose(by_name, server_name)
        if chosen is not None:
            connection.context = chosen

    contexts[0].sni_callback = on_server_name
    return contexts[0]
