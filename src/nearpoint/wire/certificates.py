"""Certificates from files: each viewer is shown the one that is for the name it asks for (SNI, RFC 6066 §3)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LOOK_S = 1.0


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


def _context(certificate: Path, key: Path, alpn: Sequence[str]) -> tuple[ssl.SSLContext, list[str]]:
    """A context with this pair, and the names it is for. Raises as `context_from_files`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    chain = certificate.read_bytes()
    key.read_bytes()  # `load_cert_chain` does not say which of the two it can't read
    try:
        context.load_cert_chain(certificate, key)
        return context, names_of(chain)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{certificate} and {key} are not a certificate and its key: {error}") from error


class CertificateFolder:
    """The certificates of a folder, `NAME.crt` beside `NAME.key`, by the names that they are for.

    The folder is looked at again when it has changed, at most once a second. `failed` hears of a pair that is none; the
    others are used.
    """

    def __init__(
        self,
        folder: Path,
        failed: Callable[[str], None],
        *,
        alpn: Sequence[str] = ("h2", "http/1.1"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._failed = failed
        self._alpn = alpn
        self._clock = clock
        self._look_at = 0.0
        self._seen: list[tuple[str, int, int]] = []
        self._by_name: dict[str, ssl.SSLContext] = {}

    def find(self, name: str | None) -> ssl.SSLContext | None:
        """The context for a name that a viewer asks for, if there is one."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look()
        found: ssl.SSLContext | None = choose(self._by_name, name)
        return found

    def before(self, context: ssl.SSLContext) -> None:
        """Let a server's context show these certificates first; where there is none, what it showed before."""
        otherwise: Any = context.sni_callback

        def on_server_name(connection: ssl.SSLObject, server_name: str | None, given: ssl.SSLContext) -> Any:
            found = self.find(server_name)
            if found is not None:
                connection.context = found
                return None
            return otherwise(connection, server_name, given) if otherwise is not None else None

        context.sni_callback = on_server_name

    def _look(self) -> None:
        try:
            files = sorted(self._folder.glob("*.crt")) + sorted(self._folder.glob("*.key"))
            seen = [(each.name, (said := each.stat()).st_mtime_ns, said.st_size) for each in files]
        except OSError:
            return
        if seen == self._seen:
            return
        self._seen = seen
        by_name: dict[str, ssl.SSLContext] = {}
        for certificate in (each for each in files if each.suffix == ".crt"):
            try:
                context, names = _context(certificate, certificate.with_suffix(".key"), self._alpn)
            except (OSError, ValueError) as error:
                self._failed(str(error))
                continue
            for name in names:
                by_name.setdefault(name, context)
        self._by_name = by_name


def context_from_files(pairs: Sequence[tuple[Path, Path]], alpn: Sequence[str] = ("h2", "http/1.1")) -> ssl.SSLContext:
    """A server's context with these pairs of certificate chain and key, in PEM; the first is for who names no other.

    Raises OSError for a file that can't be read, and ValueError for a pair that is none; both name the file.
    """
    contexts: list[ssl.SSLContext] = []
    by_name: dict[str, ssl.SSLContext] = {}
    for certificate, key in pairs:
        context, names = _context(certificate, key, alpn)
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
