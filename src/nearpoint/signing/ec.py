"""Chooses the engine for P-256: AWS-LC through `awscrt` where it is installed, else the pure one.

The choice is made at the first key, not at import: importing awscrt costs tens of milliseconds, and a process that only
signs with SigV4 never needs either.
"""

from __future__ import annotations

from nearpoint.signing import p256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class PublicKey(Protocol):
        """Checks signatures of one key."""

        @property
        def point(self) -> p256.Affine:
            """Its affine coordinates."""

        def verify(self, digest: bytes, signature: bytes) -> bool:
            """Whether the DER signature is one of this SHA-256 digest; False for anything malformed."""

    class PrivateKey(Protocol):
        """Signs with one key."""

        @property
        def public(self) -> PublicKey:
            """The other half."""

        def sign(self, digest: bytes) -> bytes:
            """The DER signature of a SHA-256 digest."""


# SEC 1 and X.509 wrap a key of this curve in constant bytes.
_PRIVATE_HEAD = bytes.fromhex("30770201010420")
_PRIVATE_TAIL = bytes.fromhex("a00a06082a8648ce3d030107a14403420004")
_PUBLIC_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def _raw(point: p256.Affine) -> bytes:
    return point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


class PurePublicKey:
    """`PublicKey` without anything native."""

    __slots__ = ("_verifier", "point")

    def __init__(self, point: p256.Affine) -> None:
        self.point = point
        self._verifier = p256.Verifier(point)

    def verify(self, digest: bytes, signature: bytes) -> bool:
        return self._verifier.verify(digest, signature)


class PurePrivateKey:
    """`PrivateKey` without anything native; the public half is computed when asked for."""

    __slots__ = ("_public", "_scalar")

    def __init__(self, scalar: int) -> None:
        self._scalar = scalar
        self._public: PublicKey | None = None

    @property
    def public(self) -> PublicKey:
        if self._public is None:
            self._public = PurePublicKey(p256.public_point(self._scalar))
        return self._public

    def sign(self, digest: bytes) -> bytes:
        return p256.sign(self._scalar, digest)


class NativePublicKey:
    """`PublicKey` on AWS-LC."""

    __slots__ = ("_key", "point")

    def __init__(self, point: p256.Affine, key: Any = None) -> None:
        from awscrt.crypto import EC

        if not p256.is_on_curve(point):
            raise ValueError("not a point of P-256")
        self.point = point
        self._key = key if key is not None else EC.new_key_from_der_data(_PUBLIC_HEAD + _raw(point))

    def verify(self, digest: bytes, signature: bytes) -> bool:
        try:
            return bool(self._key.verify(digest, signature))
        except RuntimeError:  # how awscrt says that it is not DER
            return False


class NativePrivateKey:
    """`PrivateKey` on AWS-LC, which insists on the public half: one product in Python when the key is made."""

    __slots__ = ("public", "sign")

    def __init__(self, scalar: int) -> None:
        from awscrt.crypto import EC

        point = p256.public_point(scalar)
        key = EC.new_key_from_der_data(_PRIVATE_HEAD + scalar.to_bytes(32, "big") + _PRIVATE_TAIL + _raw(point))
        self.public: PublicKey = NativePublicKey(point, key)
        self.sign = key.sign


def has_native() -> bool:
    """Whether awscrt can be imported (this imports it)."""
    try:
        import awscrt.crypto  # noqa: F401
    except ImportError:
        return False
    return True


def private_key(scalar: int) -> PrivateKey:
    """A key of the best engine there is, for 0 < d < N."""
    return NativePrivateKey(scalar) if has_native() else PurePrivateKey(scalar)


def public_key(point: p256.Affine) -> PublicKey:
    """Likewise. Raises ValueError for a point that is not on the curve."""
    return NativePublicKey(point) if has_native() else PurePublicKey(point)
