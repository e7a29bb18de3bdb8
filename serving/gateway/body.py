"""Bodies of requests: JSON decoded by a type, or a refusal that says what is wrong and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import msgspec

from adclick.serving.gateway.errors import GatewayError, invalid

_Body = TypeVar("_Body")


def decode_body(
    body: bytes, decode: Callable[[bytes], _Body], *, hint: str = "", named: Callable[[str], str] = str
) -> _Body:
    """Decodes a body.

    Args:
        body: What was sent.
        decode: Decodes it by msgspec.
        hint: What a refusal of a value adds, such as where to look for what is taken.
        named: Puts the client's own names into msgspec's words.

    Raises:
        GatewayError: It is no JSON (400), or not what is expected (422, with the field).
    """
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        # In msgspec's words, which end in the place: "Expected `str`, got `int` - at `$.ads[0].os`".
        what, _, place = named(str(error)).partition(" - at `$")
        raise invalid(f"{what}{hint}", place.rstrip("`").lstrip(".")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if (place_of_surrogate := _surrogate_place(body)) is not None:
            raise invalid(
                "A text holds half of a surrogate pair, such as \\ud83d alone, and is no Unicode text; "
                "was it cut within an emoji?",
                place_of_surrogate,
            ) from None
        raise GatewayError(HTTPStatus.BAD_REQUEST, "malformed_json", f"The body is not JSON: {error}") from None
    except RecursionError:
        raise invalid("The body is nested too deeply") from None


def _surrogate_place(body: bytes) -> str | None:
    """Where JSON, which allows it, holds half of a surrogate pair; None if it does not, or is no JSON."""
    try:
        found = [(json.loads(body.decode()), "")]
    except (ValueError, RecursionError):
        return None
    while found:
        value, place = found.pop()
        if isinstance(value, dict):
            found += [(part, place) for part in value]
            found += [(part, f"{place}.{name}".lstrip(".")) for name, part in value.items()]
        elif isinstance(value, list):
            found += [(part, f"{place}[{index}]") for index, part in enumerate(value)]
        elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            # A name of a field that holds one could not be written into the answer either.
            return place.encode("utf-8", "replace").decode()
    return None
