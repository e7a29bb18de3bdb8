"""FarmHash's `Fingerprint64`, by which the model's hashed columns and words are numbered.

https://github.com/google/farmhash, namespace farmhashna; `tf.strings.to_hash_bucket_fast` takes it modulo the buckets.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_MASK = (1 << 64) - 1
_U64 = Struct("<Q").unpack_from
_U32 = Struct("<I").unpack_from


def bucket_of(content: bytes, buckets: int) -> int:
    """The number of a text's bucket, from 0 to `buckets` - 1."""
    return fingerprint64(content) % buckets


@lru_cache(maxsize=65_536)
def fingerprint64(content: bytes) -> int:
    """The fingerprint of bytes, from 0 to 2^64 - 1."""
    length = len(content)
    if length <= 16:
        return _of_0_to_16(content, length)
    if length <= 32:
        return _of_17_to_32(content, length)
    if length <= 64:
        return _of_33_to_64(content, length)
    return _of_more(content, length)


def _rotate(value: int, by: int) -> int:
    value &= _MASK
    return (value >> by | value << (64 - by)) & _MASK


def _mix(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _hash_16(low: int, high: int, factor: int) -> int:
    first = _mix((low ^ high) * factor)
    return _mix((high ^ first) * factor) * factor & _MASK


def _of_0_to_16(content: bytes, length: int) -> int:
    factor = _K2 + length * 2
    if length >= 8:
        a, b = _U64(content)[0] + _K2 & _MASK, _U64(content, length - 8)[0]
        c, d = _rotate(b, 37) * factor + a & _MASK, (_rotate(a, 25) + b) * factor & _MASK
        return _hash_16(c, d, factor)
    if length >= 4:
        return _hash_16(length + (_U32(content)[0] << 3), _U32(content, length - 4)[0], factor)
    if length > 0:
        y = content[0] + (content[length >> 1] << 8)
        z = length + (content[length - 1] << 2)
        return _mix(y * _K2 ^ z * _K0) * _K2 & _MASK
    return _K2


def _of_17_to_32(content: bytes, length: int) -> int:
    factor = _K2 + length * 2
    a, b = _U64(content)[0] * _K1, _U64(content, 8)[0]
    c, d = _U64(content, length - 8)[0] * factor, _U64(content, length - 16)[0] * _K2
    low = _rotate(a + b, 43) + _rotate(c, 30) + d & _MASK
    return _hash_16(low, a + _rotate(b + _K2, 18) + c & _MASK, factor)


def _of_33_to_64(content: bytes, length: int) -> int:
    factor = _K2 + length * 2
    a, b = _U64(content)[0] * _K2, _U64(content, 8)[0]
    c, d = _U64(content, length - 8)[0] * factor, _U64(content, length - 16)[0] * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d & _MASK
    z = _hash_16(y, a + _rotate(b + _K2, 18) + c & _MASK, factor)
    e, f = _U64(content, 16)[0] * factor, _U64(content, 24)[0]
    g, h = (y + _U64(content, length - 32)[0]) * factor, (z + _U64(content, length - 24)[0]) * factor
    low = _rotate(e + f, 43) + _rotate(g, 30) + h & _MASK
    return _hash_16(low, e + _rotate(f + a, 18) + g & _MASK, factor)


def _weak(content: bytes, place: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_U64(content, place + 8 * word)[0] for word in range(4))
    a += w
    b = _rotate(b + a + z, 21)
    c = a
    a += x + y
    b += _rotate(a, 44)
    return a + z & _MASK, b + c & _MASK


def _round(
    content: bytes, place: int, x: int, y: int, z: int, v: tuple[int, int], w: tuple[int, int], factors: tuple[int, int]
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    factor, nine = factors
    x = _rotate(x + y + v[0] + _U64(content, place + 8)[0], 37) * factor
    y = _rotate(y + v[1] + _U64(content, place + 48)[0], 42) * factor
    x ^= w[1] * nine
    y += v[0] * nine + _U64(content, place + 40)[0]
    z = _rotate(z + w[0], 33) * factor
    x, y, z = x & _MASK, y & _MASK, z & _MASK
    v = _weak(content, place, v[1] * factor, x + w[0])
    w = _weak(content, place + 32, z + w[1], y + _U64(content, place + 16)[0])
    return z, y, x, v, w


def _of_more(content: bytes, length: int) -> int:
    seed = 81
    x, y = seed * _K2 + _U64(content)[0] & _MASK, seed * _K1 + 113 & _MASK
    z = _mix(y * _K2 + 113) * _K2 & _MASK
    v = w = (0, 0)
    end = (length - 1) // 64 * 64
    for place in range(0, end, 64):
        x, y, z, v, w = _round(content, place, x, y, z, v, w, (_K1, 1))
    factor = _K1 + ((z & 0xFF) << 1)
    w = (w[0] + (length - 1 & 63), w[1])
    v = (v[0] + w[0] & _MASK, v[1])
    w = (w[0] + v[0] & _MASK, w[1])
    x, y, z, v, w = _round(content, length - 64, x, y, z, v, w, (factor, 9))
    low = _hash_16(v[0], w[0], factor) + _mix(y) * _K0 + z & _MASK
    return _hash_16(low, _hash_16(v[1], w[1], factor) + x & _MASK, factor)
