"""ECDSA over P-256 (FIPS 186-5, SEC 1) in pure Python, for where nothing native may be installed.

Multiplying the base point uses a signed comb (Lim and Lee 1994; all digits odd, so none is skipped): 8 teeth, 2 blocks,
256 points. They are computed at import, in some 3 ms, where a Lambda function has its time; then a product is 32
additions and 15 doublings.

Nonces follow RFC 6979 without added entropy: a signer needs no random source, so it is safe in a process that was
forked or thawed from a snapshot (as Lambda functions are), and it can be tested. Python's integers don't run in
constant time. Every product takes the same sequence of additions and doublings whatever the scalar, and the inversion
of the nonce is blinded, but where an attacker can time single signatures closely, use the native engine.
"""

from __future__ import annotations

import hmac

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5

Affine = tuple[int, int]
Jacobian = tuple[int, int, int]  # x = X/Z², y = Y/Z³; Z = 0 is the point at infinity

_INFINITY: Jacobian = (1, 1, 0)
_TEETH, _BLOCKS = 8, 2
_COLUMNS = 256 // (_TEETH * _BLOCKS)
_BLOCK_BITS = _TEETH * _COLUMNS
# A column takes every sixteenth bit of a block. A multiplication gathers them into one byte, at the bit of the last.
_ONE_COLUMN = sum(1 << _COLUMNS * tooth for tooth in range(_TEETH))
_LAST = _COLUMNS * (_TEETH - 1)
_GATHER = sum(1 << _LAST - (_COLUMNS - 1) * tooth for tooth in range(_TEETH))


def _double(point: Jacobian) -> Jacobian:
    x, y, z = point
    delta = z * z % P
    gamma = y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, ((y + z) ** 2 - gamma - delta) % P


def _add(a: Jacobian, b: Jacobian) -> Jacobian:
    x1, y1, z1 = a
    x2, y2, z2 = b
    if not z1:
        return b
    if not z2:
        return a
    zz1 = z1 * z1 % P
    zz2 = z2 * z2 % P
    u1 = x1 * zz2 % P
    s1 = y1 * zz2 * z2 % P
    h = (x2 * zz1 - u1) % P
    r = (y2 * zz1 * z1 - s1) % P
    if not h:
        return _INFINITY if r else _double(a)
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P


def _to_affine(points: list[Jacobian]) -> list[Affine]:
    """All of them with one inversion (Montgomery's trick). None may be at infinity."""
    products = [1]
    for _, _, z in points:
        products.append(products[-1] * z % P)
    inverse = pow(products[-1], -1, P)
    affine: list[Affine] = []
    for i in range(len(points) - 1, -1, -1):
        x, y, z = points[i]
        z_inverse = inverse * products[i] % P
        inverse = inverse * z % P
        squared = z_inverse * z_inverse % P
        affine.append((x * squared % P, y * squared * z_inverse % P))
    affine.reverse()
    return affine


def _build_comb() -> list[list[Affine]]:
    """Per block, the 128 sums ±B₀ ±B₁ … ±B₆ + B₇ of its teeth, B₇ always positive: bit i of the index is B_i's sign."""
    teeth: list[Jacobian] = []
    point: Jacobian = (GX, GY, 1)
    for _ in range(_TEETH * _BLOCKS):
        teeth.append(point)
        for _ in range(_COLUMNS):
            point = _double(point)
    points: list[Jacobian] = []
    for block in range(_BLOCKS):
        *low, top = teeth[block * _TEETH : (block + 1) * _TEETH]
        for x, y, z in low:
            top = _add(top, (x, P - y, z))
        sums = [top]
        for tooth in low:
            twice = _double(tooth)
            sums += [_add(each, twice) for each in sums]
        points += sums
    affine = _to_affine(points)
    size = 1 << (_TEETH - 1)
    return [affine[at : at + size] for at in range(0, len(affine), size)]


_COMB = _build_comb()


def _multiply_base(k: int) -> Jacobian:
    """k·G for 0 < k < N."""
    # For odd k, k = Σ ±2^i over i = 0 … 255, the signs being the bits of (k + 2^256 - 1) / 2. N is odd, so either k or
    # N - k is odd.
    odd = k if k & 1 else N - k
    signs = (odd + (1 << 256) - 1) >> 1
    blocks = [(signs >> _BLOCK_BITS * block & (1 << _BLOCK_BITS) - 1, _COMB[block]) for block in range(_BLOCKS)]
    x1 = y1 = z1 = 0
    for column in range(_COLUMNS - 1, -1, -1):
        if z1:
            x1, y1, z1 = _double((x1, y1, z1))
        for bits, table in blocks:
            digit = ((bits >> column & _ONE_COLUMN) * _GATHER >> _LAST) & 255
            if digit & 128:
                x2, y2 = table[digit & 127]
            else:
                x2, y2 = table[~digit & 127]
                y2 = P - y2
            if not z1:
                x1, y1, z1 = x2, y2, 1
                continue
            zz = z1 * z1 % P
            h = (x2 * zz - x1) % P
            if not h:  # the sum so far is plus or minus the point to add
                x1, y1, z1 = _add((x1, y1, z1), (x2, y2, 1))
                continue
            r = (y2 * zz * z1 - y1) % P
            hh = h * h % P
            hhh = h * hh % P
            v = x1 * hh % P
            x1 = (r * r - hhh - 2 * v) % P
            y1 = (r * (v - x1) - y1 * hhh) % P
            z1 = z1 * h % P
    return (x1, y1, z1) if k & 1 else (x1, P - y1, z1)


def _odd_multiples(point: Affine) -> list[Jacobian]:
    """1, 3, 5 … 15 times the point."""
    multiples: list[Jacobian] = [(*point, 1)]
    twice = _double(multiples[0])
    while len(multiples) < 8:
        multiples.append(_add(multiples[-1], twice))
    return multiples


def _multiply(multiples: list[Jacobian], k: int) -> Jacobian:
    """k times the point of these odd multiples, by windows of signed digits (wNAF, width 5). Public scalars only."""
    digits: list[int] = []
    while k:
        digit = 0
        if k & 1:
            digit = k & 31
            if digit > 16:
                digit -= 32
            k -= digit
        digits.append(digit)
        k >>= 1
    result = _INFINITY
    for digit in reversed(digits):
        result = _double(result)
        if digit > 0:
            result = _add(result, multiples[digit >> 1])
        elif digit < 0:
            x, y, z = multiples[-digit >> 1]
            result = _add(result, (x, P - y, z))
    return result


def public_point(scalar: int) -> Affine:
    """The public key of a private scalar 0 < d < N."""
    return _to_affine([_multiply_base(scalar)])[0]


def is_on_curve(point: Affine) -> bool:
    """Whether x and y are coordinates of a point of the curve."""
    x, y = point
    return 0 <= x < P and 0 <= y < P and (y * y - (x * x * x - 3 * x + B)) % P == 0


class _Nonces:
    """The generator of RFC 6979 §3.2 with HMAC-SHA-256."""

    __slots__ = ("_k", "_started", "_v")

    def __init__(self, scalar: int, digest: bytes) -> None:
        seed = scalar.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
        self._k, self._v, self._started = b"\0" * 32, b"\1" * 32, False
        for separator in (b"\0", b"\1"):
            self._step(separator + seed)

    def _step(self, seed: bytes) -> None:
        self._k = hmac.digest(self._k, self._v + seed, "sha256")
        self._v = hmac.digest(self._k, self._v, "sha256")

    def next(self) -> int:
        while True:
            if self._started:
                self._step(b"\0")
            self._started = True
            self._v = hmac.digest(self._k, self._v, "sha256")
            nonce = int.from_bytes(self._v, "big")
            if 0 < nonce < N:
                return nonce


def sign(scalar: int, digest: bytes) -> bytes:
    """The DER signature of a SHA-256 digest (32 bytes) by the private scalar 0 < d < N. Equal input, equal output."""
    nonces = _Nonces(scalar, digest)
    e = int.from_bytes(digest, "big")
    while True:
        k = nonces.next()
        x, _, z = _multiply_base(k)
        r = x * pow(z, -2, P) % P % N
        blind = nonces.next()
        s = pow(k * blind % N, -1, N) * blind * (e + r * scalar) % N
        if r and s:
            return encode_der(r, s)


class Verifier:
    """Checks signatures against one public point. Raises ValueError if the point is not on the curve."""

    __slots__ = ("_multiples",)

    def __init__(self, point: Affine) -> None:
        if not is_on_curve(point):
            raise ValueError("not a point of P-256")
        self._multiples = _odd_multiples(point)

    def verify(self, digest: bytes, signature: bytes) -> bool:
        """Whether the DER signature is one of this SHA-256 digest. A malformed signature is a wrong one."""
        parsed = decode_der(signature)
        if parsed is None:
            return False
        r, s = parsed
        if not (0 < r < N and 0 < s < N):
            return False
        inverse = pow(s, -1, N)
        u1 = int.from_bytes(digest, "big") * inverse % N
        u2 = r * inverse % N
        point = _multiply(self._multiples, u2)
        if u1:
            point = _add(_multiply_base(u1), point)
        x, _, z = point
        if not z:
            return False
        zz = z * z % P
        return x == r * zz % P or (r + N < P and x == (r + N) * zz % P)


def encode_der(r: int, s: int) -> bytes:
    """`SEQUENCE { INTEGER r, INTEGER s }` (X.690, distinguished)."""
    body = b""
    for number in (r, s):
        octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
        body += bytes((2, len(octets))) + octets
    return bytes((48, len(body))) + body


def decode_der(data: bytes) -> tuple[int, int] | None:
    """(r, s) of a DER signature, or None unless it is the one encoding that DER allows, with nothing after it."""
    if not 8 <= len(data) <= 72 or data[0] != 48 or data[1] != len(data) - 2:
        return None
    numbers: list[int] = []
    at = 2
    for _ in range(2):
        if at + 2 > len(data) or data[at] != 2:
            return None
        octets = data[at + 2 : at + 2 + data[at + 1]]
        if not octets or len(octets) != data[at + 1] or octets[0] & 0x80:
            return None
        if len(octets) > 1 and octets[0] == 0 and not octets[1] & 0x80:
            return None
        numbers.append(int.from_bytes(octets, "big"))
        at += 2 + len(octets)
    return (numbers[0], numbers[1]) if at == len(data) else None
