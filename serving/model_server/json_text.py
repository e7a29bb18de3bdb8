"""JSON as TensorFlow Serving lays it out: RapidJSON's pretty form, in error messages and answers."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_INDENT = "    "
#: A message shows this much of a value, and what its last part is more.
_MOST_SHOWN_BYTES = 256
_MOST_DEPTH = 200
#: Up to so many numbers are written one by one.
_FEW = 32
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_TOKENS = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def debug_text(value: Any) -> str:
    """A value as messages show it: lists in a line, nothing more after 256 bytes."""
    shown: list[str] = []
    size = 0
    for part in _parts(value, 0):
        shown.append(part)
        size += len(part.encode("utf-8", "surrogateescape"))
        if size >= _MOST_SHOWN_BYTES:
            break
    return "".join(shown).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _parts(value: Any, depth: int) -> Iterator[str]:
    """The text in the parts that are written as a whole: a bracket, a key or a value, with what stands before it."""
    if isinstance(value, dict):
        yield "{"
        inner = "\n" + _INDENT * (depth + 1)
        for index, (name, item) in enumerate(value.items()):
            yield ("," if index else "") + inner + quoted(name)
            yield from _after(": ", item, depth + 1)
        yield "\n" + _INDENT * depth + "}" if value else "}"
    elif isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield from _after(", " if index else "", item, depth + 1)
        yield "]"
    elif isinstance(value, float):
        yield double_text(value)
    elif isinstance(value, str):
        yield quoted(value)
    else:
        yield json.dumps(value)


def _after(prefix: str, value: Any, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        yield prefix + "..."
        return
    parts = _parts(value, depth)
    yield prefix + next(parts)
    yield from parts


def quoted(text: str) -> str:
    """A string of JSON; what is not ASCII stands for itself."""
    return json.dumps(text, ensure_ascii=False)


def double_text(value: float) -> str:
    """The digits of a double as RapidJSON writes them: the fewest, with an exponent beyond 21 places."""
    if not math.isfinite(value):
        return ""
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits)) + ".0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{point - 1}"


def decimals(array: Array) -> list[str]:
    """The numbers of a float32 or float64 array [n]: six digits where they suffice, else 9 or 17; NaN and Infinity."""
    values = array.tolist()
    precision = "%.9g" if array.dtype == np.float32 else "%.17g"
    if len(values) <= _FEW:
        packed = _FLOAT if array.dtype == np.float32 else _DOUBLE
        return [_decimal(value, precision, packed) for value in values]
    texts = ("%.6g," * len(values) % tuple(values)).split(",")[:-1]
    for index in np.flatnonzero(np.array(texts, np.float64).astype(array.dtype) != array).tolist():
        texts[index] = precision % values[index]
    for index in np.flatnonzero(~np.isfinite(array)).tolist():
        texts[index] = _TOKENS[texts[index]]
    return [text if "." in text or "e" in text or text[-1] in "Ny" else text + ".0" for text in texts]


def _decimal(value: float, precision: str, packed: struct.Struct) -> str:
    """The same for one number: NumPy does not pay for a few."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    try:
        is_lossless = packed.unpack(packed.pack(float(text)))[0] == value
    except OverflowError:
        is_lossless = False
    if not is_lossless:
        text = precision % value
    return text if "." in text or "e" in text else text + ".0"
