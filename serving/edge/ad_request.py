"""Requests to score ads, read and refused as the gateway's `POST /v1/score` does: the same fields, codes and places.

A request is JSON: `{"context": {…}, "ads": [{…}, …], "creative_status": false}`. Any column of the model may stand in
the context, which all ads share, or in an ad, whose value counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

#: From there on a number is infinite in float32.
_TOO_LARGE = 2.0**128 - 2.0**103
_DAY_SECONDS = 86_400
#: Whole numbers of more digits are none of int64, and cost time to read.
_MOST_DIGITS = 400
_EXPECTED = {"string": "str", "float32": "float", "int64": "int"}
_JSON_NAMES = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}


class RequestRefused(Exception):
    """A request that is not answered.

    Attributes:
        code: A short name of the reason, which does not change: the gateway's.
        message: What is wrong.
        field: The field that is wrong, such as `ads[3].ad_id`; empty if it is none.
    """

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field


@dataclass(frozen=True)
class RequestField:
    """A column that a request may give.

    Attributes:
        name: Its name.
        dtype: string, float32 or int64.
        is_list: Whether it takes several values.
        role: `timestamp`, `image`, `identifier` (names the impression; the model does not see it), or an empty text.
        is_required: Whether a request must give it.
    """

    name: str
    dtype: str
    is_list: bool = False
    role: str = ""
    is_required: bool = False


@dataclass(frozen=True)
class Limits:
    """What is taken on, as the gateway's settings `limits` say.

    Attributes:
        ads: Ads of one request.
        past_days: An impression's time may lie so many days before now; None for any.
        future_days: The same after now.
    """

    ads: int
    past_days: float | None
    future_days: float | None


@dataclass(frozen=True)
class AdRequest:
    """A request that was found good.

    Attributes:
        columns: By column but the image, a value for each ad; None where it is missing, the time never.
        images: What each ad gives as its image: text, bytes, or None.
        wants_status: Whether the answer is to say what came of images.
    """

    columns: Mapping[str, list[Any]]
    images: list[Any]
    wants_status: bool


class AdRequestForm:
    """Reads requests for one model.

    Args:
        fields: What they may give.
        limits: How much of it.
    """

    def __init__(self, fields: tuple[RequestField, ...], limits: Limits) -> None:
        self._limits = limits
        self._of_ad = {field.name: field for field in fields}
        # What is an ad's alone, and no context's.
        self._of_context = {field.name: field for field in fields if field.role not in ("image", "identifier")}
        self._image = next((field.name for field in fields if field.role == "image"), None)

    def read(self, body: bytes) -> AdRequest:
        """Reads a request.

        Raises:
            RequestRefused: It is no JSON, or a field is wrong.
        """
        document = _parsed(body)
        _check_kind(document, dict, "object", "")
        for name in document:
            if name not in ("ads", "context", "creative_status"):
                raise _invalid(f"Object contains unknown field `{name}`", "")
        if "ads" not in document:
            raise _invalid("Object missing required field `ads`", "")
        ads, context = document["ads"], document.get("context", {})
        _check_kind(ads, list, "array", "ads")
        if not 1 <= len(ads) <= self._limits.ads:
            bound = "at least 1" if not ads else f"at most {self._limits.ads}"
            raise _invalid(f"Expected `array` of length {bound}", "ads")
        for number, ad in enumerate(ads):
            self._check(ad, self._of_ad, f"ads[{number}]")
        self._check(context, self._of_context, "context")
        _check_kind(document.get("creative_status", False), bool, "bool", "creative_status")
        columns = {name: self._column(field, ads, context) for name, field in self._of_context.items()}
        images = [None if self._image is None else ad.get(self._image) for ad in ads]
        return AdRequest(columns, images, document.get("creative_status", False))

    def _check(self, given: Any, fields: Mapping[str, RequestField], place: str) -> None:
        _check_kind(given, dict, "object", place)
        for name, value in given.items():
            if name not in fields:
                raise _invalid(f"Object contains unknown field `{name}`", place)
            given[name] = _value(value, fields[name], f"{place}.{name}")

    def _column(self, field: RequestField, ads: list[Any], context: Mapping[str, Any]) -> list[Any]:
        values = [ad[field.name] if field.name in ad else context.get(field.name) for ad in ads]
        if field.is_required and None in values:
            raise _invalid(
                f"{field.name} is required: give it in the context or in the ad",
                f"ads[{values.index(None)}].{field.name}",
            )
        if field.role != "timestamp":
            return values
        now = time.time()
        times = [int(now) if value is None else value for value in values]
        earliest = -math.inf if self._limits.past_days is None else now - self._limits.past_days * _DAY_SECONDS
        latest = math.inf if self._limits.future_days is None else now + self._limits.future_days * _DAY_SECONDS
        for number, seconds in enumerate(times):
            if not earliest <= seconds <= latest:
                place = f"ads[{number}]" if field.name in ads[number] else "context"
                raise RequestRefused(
                    "invalid_request", _time_refusal(seconds, earliest, latest), f"{place}.{field.name}"
                )
        return times


def _parsed(body: bytes) -> Any:
    """The JSON document; numbers that float64 cannot hold are infinite."""

    def whole(digits: str) -> Any:
        return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)

    def none(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    try:
        document = json.loads(body.decode(), parse_int=whole, parse_constant=none)
    except RecursionError:
        raise _invalid("The body is nested too deeply", "") from None
    except ValueError as error:
        raise RequestRefused("malformed_json", f"The body is not JSON: {error}") from None
    _check_texts(document, "")
    return document


def _check_texts(value: Any, place: str) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RequestRefused(
                "invalid_request",
                "A text holds half of a surrogate pair, such as \\ud83d alone, and is no Unicode text; "
                "was it cut within an emoji?",
                place,
            ) from None
    elif isinstance(value, dict):
        for name, part in value.items():
            _check_texts(name, place)
            _check_texts(part, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_texts(part, f"{place}[{number}]")


def _value(value: Any, field: RequestField, place: str) -> Any:
    """A field's value, checked; of an image in base64 its bytes."""
    if value is None:
        return None
    if field.role == "image":
        return _picture(value, place)
    if field.is_list:
        _check_kind(value, list, "array | null", place)
        return [_one(part, field.dtype, f"{place}[{number}]") for number, part in enumerate(value)]
    return _one(value, field.dtype, place, " | null")


def _one(value: Any, dtype: str, place: str, otherwise: str = "") -> Any:
    kind = type(value)
    fits = kind is {"string": str, "int64": int}.get(dtype) or (dtype == "float32" and kind in (int, float))
    if not fits:
        raise _invalid(f"Expected `{_EXPECTED[dtype]}{otherwise}`, got `{_JSON_NAMES[kind]}`", place)
    if dtype == "int64" and not -(2**63) <= value < 2**63:
        raise _invalid("Expected `int` of 64 bits", place)
    if dtype == "float32" and not -_TOO_LARGE < value < _TOO_LARGE:
        raise _invalid("Expected `float` that float32 can hold", place)
    return value


def _picture(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise _invalid(f"Expected `str | object | null`, got `{_JSON_NAMES[type(value)]}`", place)
    for name in value:
        if name != "b64":
            raise _invalid(f"Object contains unknown field `{name}`", place)
    if "b64" not in value:
        raise _invalid("Object missing required field `b64`", place)
    _check_kind(value["b64"], str, "str", f"{place}.b64")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Invalid base64 encoded string", f"{place}.b64") from None


def _check_kind(value: Any, kind: type, expected: str, place: str) -> None:
    if type(value) is not kind:
        raise _invalid(f"Expected `{expected}`, got `{_JSON_NAMES[type(value)]}`", place)


def _invalid(message: str, field: str) -> RequestRefused:
    return RequestRefused("invalid_request", message, field)


def _time_refusal(given: int, earliest: float, latest: float) -> str:
    taken = " to ".join("any time" if math.isinf(bound) else _date(bound) for bound in (earliest, latest))
    text = f"{given} is no time of an impression: seconds since 1970-01-01 are expected, from {taken}."
    for unit, per_second in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if earliest <= given / per_second <= latest:
            return f"{text} It looks like {unit}: divide it by {per_second:,}."
    return text


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f}"
