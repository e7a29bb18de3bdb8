"""Reading a request's body as TensorFlow Serving's parser (RapidJSON) does: more than JSON, and in its words.

Besides JSON it takes NaN, Inf, Infinity and their negatives, a byte order mark, bytes that are not UTF-8 within
strings, and anything after the document; of a key that stands twice in an object, the first counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import orjson

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.model_server.json_fault import first_fault
from adclick.serving.model_server.json_text import debug_text

# A JSON value as Python reads it. Its lists nest to any depth.
Json = Any

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Of an integer that a double may hold, with its sign.
_MOST_DIGITS = 310
#: Beyond so many bytes, what is wrong and where is told by Python's parser, in its own words.
_MOST_SCANNED = 2**22
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?Inf(?:inity)?|-NaN', re.DOTALL)
_KEY_END = re.compile(rb'"[ \t\r\n]*:')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class DoubledObject(dict[str, Json]):
    """An object in which a key stands more than once: of each, the first value.

    Attributes:
        latest: Of each, the last value.
    """

    def __init__(self, pairs: Sequence[tuple[str, Json]]) -> None:
        super().__init__(reversed(pairs))
        self.latest = dict(pairs)


def parse_request(body: bytes) -> dict[str, Json]:
    """Parses the body of a request.

    Raises:
        InvalidArgumentError: It cannot be parsed, or is no object.
    """
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    else:
        if _may_hold_doubled_keys(document, body):
            document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def _may_hold_doubled_keys(document: Json, body: bytes) -> bool:
    """Whether the body has another number of keys than what was read of it, as far as that can be told quickly."""
    objects_left, keys = body.count(b"{"), 0
    level = [document]
    while level and objects_left:
        inner: list[Json] = []
        for value in level:
            if type(value) is dict:
                objects_left -= 1
                keys += len(value)
                inner.extend(value.values())
            elif type(value) is list:
                inner.extend(value)
        level = inner
    # The second look is for those who write blanks before their colons.
    return keys != body.count(b'":') and keys != len(_KEY_END.findall(body))


def _parse_leniently(body: bytes) -> Json:
    text = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
    if "Inf" in text or "-NaN" in text:
        text = _TOKENS.sub(_python_token, text)
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except (json.JSONDecodeError, _TooBigError) as error:
        raise _parse_error(body, error) from None
    except RecursionError:
        raise InvalidArgumentError("JSON Parse error: The document is nested too deeply.") from None
    # Python takes halves of surrogate pairs.
    if _SURROGATE.search(body) and (fault := first_fault(body)) is not None:
        raise InvalidArgumentError(f"JSON Parse error: {fault}")
    return document


def _parse_error(body: bytes, error: ValueError) -> InvalidArgumentError:
    fault = first_fault(body) if len(body) <= _MOST_SCANNED else None
    if fault is None:
        where = f" at offset: {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        words = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        fault = words + where
    return InvalidArgumentError(f"JSON Parse error: {fault}")


class _TooBigError(ValueError):
    pass


def _python_token(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] == '"':
        return token
    return {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}.get(token, token)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _TooBigError("Number too big to be stored in double.")
    return number


def _bounded(text: str) -> int | float:
    # Python converts no integers of thousands of digits.
    if len(text) > _MOST_DIGITS or abs(int(text)) >= 2**1024:
        raise _TooBigError("Number too big to be stored in double.")
    number = int(text)
    # Beyond 64 bits an integer is a floating point number.
    return number if -(2**63) <= number < 2**64 else float(number)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else DoubledObject(pairs)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, object_pairs_hook=_object)


def kind_of(value: Json) -> str:
    """The kind of a JSON value, as error messages call it."""
    if isinstance(value, bool):
        return str(value)
    kinds = {type(None): "Null", list: "Array", str: "String", int: "Number", float: "Number"}
    return kinds.get(type(value), "Object")


def format_error(value: Json, what: str) -> InvalidArgumentError:
    """The refusal of a request that is not of the form that is expected."""
    return InvalidArgumentError(f"JSON Value: {debug_text(value)} {what}")


def is_base64(value: Json) -> bool:
    """Whether the value is `{"b64": "..."}`."""
    return type(value) is dict and value.keys() == {"b64"} and isinstance(value["b64"], str)


def decode_base64(value: dict[str, Json]) -> bytes:
    """The bytes of a `{"b64": "..."}` object; padding may be left out.

    Raises:
        InvalidArgumentError: It is not such an object, or not base64.
    """
    if not is_base64(value):
        raise InvalidArgumentError(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("Unable to base64 decode") from None


def encode_text(text: str) -> bytes:
    """The bytes that a string stood for in the request's body."""
    return text.encode("utf-8", "surrogateescape")
