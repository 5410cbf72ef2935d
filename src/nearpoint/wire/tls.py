"""The local certificate authority, and TLS contexts for both ends.

The authority lives in two files of its folder: `ca-key.pem` (key and certificate, mode 0600, created whole or not at
all, so processes that start together agree) and `ca.pem` (the certificate, for everybody). A leaf is minted when its
name is first asked for by SNI. Names below AWS's own domains share one leaf per parent (`*.cloudfront.net` covers one
label, RFC 9525 §6.3); every other name gets its own.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

KEY_FILE = "ca-key.pem"
CERTIFICATE_FILE = "ca.pem"

_CA_VALID = timedelta(days=3650)
_LEAF_VALID = timedelta(days=397)  # the longest that browsers take
_LEAF_RENEW = timedelta(days=300)
_CONTEXTS_MAX = 256
_SHARED_BELOW = ("amazonaws.com", "amazonaws.com.cn", "cloudfront.net")
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


def leaf_names(server_name: str | None) -> tuple[str, ...]:
    """The names of the leaf for an SNI name; those of the default leaf where it is missing or no host name."""
    name = (server_name or "").lower().removesuffix(".")
    if _NAME.fullmatch(name) is None or name in _DEFAULT_NAMES:
        return _DEFAULT_NAMES
    _, _, parent = name.partition(".")
    if any(parent == domain or parent.endswith("." + domain) for domain in _SHARED_BELOW):
        return (f"*.{parent}", parent)
    return (name,)


@dataclass(frozen=True, slots=True)
class _Leaf:
    context: ssl.SSLContext
    minted_at: datetime


class Authority:
    """A certificate authority of one's own: mints leaves, makes server contexts."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.certificate_pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
        self._certificate = certificate
        self._key = key
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._lock = threading.Lock()

    @classmethod
    def load_or_create(cls, folder: Path) -> Authority:
        """The authority of a folder, created with the folder where there is none.

        Raises OSError, and ValueError for a key file that holds no authority.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        path = folder / KEY_FILE
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_once(path, _new_authority())
        pem = path.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} holds no elliptic curve key")
        authority = cls(x509.load_pem_x509_certificate(pem), key)
        public = folder / CERTIFICATE_FILE
        if not public.exists() or public.read_bytes() != authority.certificate_pem:
            _replace(public, authority.certificate_pem)
        return authority

    def mint(self, names: Sequence[str]) -> bytes:
        """A new leaf for host names, wildcards or IP addresses: certificate, authority and key in PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        now = datetime.now(UTC)
        common_name = names[0] if len(names[0]) <= 64 else "nearpoint"
        public_key = self._leaf_key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(min(now + _LEAF_VALID, self._certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + self.certificate_pem + _private(self._leaf_key)

    def server_context(self, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """A context that presents to every client a leaf for the name it asks for."""
        leaves: OrderedDict[tuple[str, ...], _Leaf] = OrderedDict()

        def leaf_context(names: tuple[str, ...]) -> ssl.SSLContext:
            now = datetime.now(UTC)
            with self._lock:
                leaf = leaves.get(names)
                if leaf is None or now - leaf.minted_at > _LEAF_RENEW:
                    leaf = leaves[names] = _Leaf(_context(self.mint(names), alpn), now)
                    while len(leaves) > _CONTEXTS_MAX:
                        leaves.popitem(last=False)
                leaves.move_to_end(names)
            return leaf.context

        def on_server_name(connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
            names = leaf_names(server_name)
            if names != _DEFAULT_NAMES:
                connection.context = leaf_context(names)

        context = _context(self.mint(_DEFAULT_NAMES), alpn)
        context.sni_callback = on_server_name
        return context


def client_context(ca_pem: bytes | None = None) -> ssl.SSLContext:
    """A verifying client context: the system's authorities, and that of `ca_pem` as well."""
    context = ssl.create_default_context()
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _context(pem: bytes, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    # OpenSSL takes a chain from a file only; mkstemp's is readable by nobody else.
    descriptor, name = tempfile.mkstemp(prefix="nearpoint-leaf-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
    return context


def _new_authority() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    serial = x509.random_serial_number()
    # The serial in the name tells two worlds' authorities apart in a trust store.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nearpoint"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Nearpoint local authority {serial:x}"[:40]),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    address: IPv4Address | IPv6Address
    try:
        address = ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    return x509.IPAddress(address)


def _temporary(path: Path, data: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _write_once(path: Path, data: bytes) -> None:
    """Create a file whole, readable by its owner; without effect when another process was first."""
    temporary = _temporary(path, data, 0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _replace(path: Path, data: bytes) -> None:
    _temporary(path, data, 0o644).replace(path)
