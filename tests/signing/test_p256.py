"""P-256 against RFC 6979, against AWS-LC, and against itself."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.signing import ec, keys, p256

# RFC 6979, A.2.5: ECDSA, 256 bits (prime field).
SCALAR = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
POINT = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
SIGNATURES = {
    b"sample": (
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    b"test": (
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
}

scalars = st.one_of(
    st.integers(1, p256.N - 1), st.integers(1, 1 << 20), st.integers(1, 1 << 20).map(lambda n: p256.N - n)
)
digests = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("message", SIGNATURES)
def test_rfc_6979_vectors(message: bytes) -> None:
    assert p256.decode_der(p256.sign(SCALAR, hashlib.sha256(message).digest())) == SIGNATURES[message]


def test_public_point_of_the_vectors() -> None:
    assert p256.public_point(SCALAR) == POINT


@pytest.mark.parametrize("scalar", [1, 2, 3, 127, 128, 255, 1 << 64, (1 << 255) - 1, p256.N - 2, p256.N - 1])
def test_comb_and_window_agree_at_the_edges(scalar: int) -> None:
    window = p256._to_affine([p256._multiply(p256._odd_multiples((p256.GX, p256.GY)), scalar)])[0]
    assert p256.public_point(scalar) == window
    assert p256.is_on_curve(window)


@given(scalars)
def test_comb_and_window_agree(scalar: int) -> None:
    window = p256._to_affine([p256._multiply(p256._odd_multiples((p256.GX, p256.GY)), scalar)])[0]
    assert p256.public_point(scalar) == window


def test_addition_knows_its_exceptions() -> None:
    base = (p256.GX, p256.GY, 1)
    opposite = (p256.GX, p256.P - p256.GY, 1)
    assert p256._add(base, opposite)[2] == 0
    assert p256._add(p256._INFINITY, base) == base
    assert p256._add(base, p256._INFINITY) == base
    assert p256._to_affine([p256._add(base, base)]) == p256._to_affine([p256._double(base)])


@given(scalars, digests)
@settings(deadline=None, max_examples=60)
def test_engines_accept_each_other(scalar: int, digest: bytes) -> None:
    pure, native = ec.PurePrivateKey(scalar), ec.NativePrivateKey(scalar)
    assert pure.public.point == native.public.point
    for signature in (pure.sign(digest), native.sign(digest)):
        assert pure.public.verify(digest, signature)
        assert native.public.verify(digest, signature)
        assert ec.NativePublicKey(pure.public.point).verify(digest, signature)


@given(scalars, digests, st.integers(0, 255), st.integers(0, 71))
@settings(deadline=None, max_examples=60)
def test_engines_refuse_alike(scalar: int, digest: bytes, bit: int, at: int) -> None:
    signature = bytearray(p256.sign(scalar, digest))
    other = bytearray(digest)
    other[bit // 8] ^= 1 << bit % 8
    pure = ec.PurePublicKey(p256.public_point(scalar))
    native = ec.NativePublicKey(pure.point)
    assert not pure.verify(bytes(other), bytes(signature))
    signature[at % len(signature)] ^= 1 << bit % 8
    assert not pure.verify(digest, bytes(signature))
    assert not native.verify(digest, bytes(signature))


@given(st.integers(0, (1 << 256) - 1), st.integers(0, (1 << 256) - 1))
def test_der_round_trip(r: int, s: int) -> None:
    assert p256.decode_der(p256.encode_der(r, s)) == (r, s)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes.fromhex("3006020101020101") + b"\0",  # something after it
        bytes.fromhex("300602010102"),  # cut off
        bytes.fromhex("3007020200010201 01".replace(" ", "")),  # a needless zero
        bytes.fromhex("3006020181020101"),  # negative
        bytes.fromhex("300502000201 01".replace(" ", "")),  # empty integer
        bytes.fromhex("308106020101020101"),  # a length in the long form
        bytes.fromhex("3106020101020101"),  # not a sequence
        bytes.fromhex("3006030101020101"),  # not an integer
        bytes.fromhex("3009020101020101020101"),  # three integers
        bytes.fromhex("3006020201010201"),  # lengths that overlap
    ],
)
def test_only_der_is_der(data: bytes) -> None:
    assert p256.decode_der(data) is None
    assert not p256.Verifier(POINT).verify(b"\0" * 32, data)
    assert not ec.NativePublicKey(POINT).verify(b"\0" * 32, data)


@given(st.binary(max_size=80))
def test_no_input_breaks_the_parser(data: bytes) -> None:
    parsed = p256.decode_der(data)
    assert parsed is None or p256.encode_der(*parsed) == data


@pytest.mark.parametrize("r_s", [(0, 1), (1, 0), (p256.N, 1), (1, p256.N), (1, 1)])
def test_numbers_out_of_range_are_refused(r_s: tuple[int, int]) -> None:
    signature = p256.encode_der(*r_s)
    assert not p256.Verifier(POINT).verify(b"\1" * 32, signature)
    assert not ec.NativePublicKey(POINT).verify(b"\1" * 32, signature)


@pytest.mark.parametrize("point", [(0, 0), (POINT[0], POINT[1] + 1), (POINT[0] + p256.P, POINT[1]), (-1, 5)])
@pytest.mark.parametrize("kind", [ec.PurePublicKey, ec.NativePublicKey])
def test_points_off_the_curve_are_refused(kind: type, point: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="P-256"):
        kind(point)


def test_keys_are_derived_once() -> None:
    assert keys.v4a_key("AKID", "secret") is keys.v4a_key("AKID", "secret")
    assert keys.v4a_key("AKID", "secret") is not keys.v4a_key("AKID", "other")
    assert keys.v4a_scalar("AKID", "secret") != keys.v4a_scalar("AKID2", "secret")


def test_a_machine_without_awscrt_gets_the_pure_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec, "has_native", lambda: False)
    assert isinstance(ec.private_key(SCALAR), ec.PurePrivateKey)
    assert isinstance(ec.public_key(POINT), ec.PurePublicKey)
    monkeypatch.setattr(ec, "has_native", lambda: True)
    assert isinstance(ec.private_key(SCALAR), ec.NativePrivateKey)
    assert isinstance(ec.public_key(POINT), ec.NativePublicKey)
