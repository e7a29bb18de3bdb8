"""The fields of a request, made from a served model's metadata, and the tensors made of a request.

Every column that the model takes is a field of the context, which all ads share, and of each ad, whose value counts
where both give one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

from schema.feature_table import FeatureTable
from serving.gateway.errors import GatewayError, invalid
from serving.gateway.settings import LimitSettings

Array = np.ndarray[Any, Any]
UNSET = msgspec.UNSET

#: What stands for a missing value in the model's inputs, by type.
_MISSING: Mapping[str, Any] = {"string": b"", "float32": float("nan"), "int64": -1}
_PYTHON_TYPES = {"string": str, "float32": float, "int64": int}


@dataclass(frozen=True)
class Field:
    """A column that the model takes, or the impression's name.

    Attributes:
        name: Its name.
        dtype: string, float32 or int64.
        is_list: Whether it takes several values.
        is_timestamp: Whether it is the time of the impression, in seconds since 1970.
        is_image: Whether it is the creative.
        is_identifier: Whether it names the impression; it goes to the prediction log, not to the model.
        is_required: Whether a request must give it.
        description: What it means.
    """

    name: str
    dtype: str
    is_list: bool = False
    is_timestamp: bool = False
    is_image: bool = False
    is_identifier: bool = False
    is_required: bool = False
    description: str = ""

    @property
    def default(self) -> str:
        """What stands for it where a request leaves it out."""
        if self.is_required:
            return "required"
        if self.is_timestamp:
            return "now"
        if self.is_identifier:
            return "none"
        return "the unknown creative" if self.is_image else "missing"


def fields_of(inputs: Mapping[str, tuple[str, int]], features: FeatureTable | None, image: str | None) -> list[Field]:
    """The fields of a model, and the identifier of its feature table where there is one.

    Args:
        inputs: The type and the rank of each input of `serving_default`.
        features: The feature table in the model's description, if it is at hand.
        image: The name of the image input, if there is one.
    """
    columns = features.root if features is not None else {}
    identifier = features.identifier_name if features is not None else None
    taken = [
        Field(
            name,
            dtype,
            is_list=rank == 2,
            is_timestamp=features is not None and name == features.timestamp_name,
            is_image=name == image,
            is_required=columns[name].required if name in columns else False,
            description=columns[name].description if name in columns else "",
        )
        for name, (dtype, rank) in inputs.items()
    ]
    if identifier is not None and identifier not in inputs:
        taken.append(Field(identifier, "string", is_identifier=True, description=columns[identifier].description))
    return taken


class Base64(msgspec.Struct, forbid_unknown_fields=True):
    """An image's bytes."""

    b64: bytes


class RequestForm:
    """The form of requests for one model: reads them, and makes the model's inputs of them."""

    def __init__(self, fields: Sequence[Field], limits: LimitSettings) -> None:
        self.fields = tuple(fields)
        self._columns = [field for field in fields if not field.is_image and not field.is_identifier]
        self._image = next((field for field in fields if field.is_image), None)
        self._identifier = next((field for field in fields if field.is_identifier), None)
        # What is an ad's alone, and no context's.
        own = {field.name for field in (self._image, self._identifier) if field is not None}
        self._limits = limits
        kinds = {field.name: _annotation(field) for field in fields}
        context = msgspec.defstruct(
            "Context",
            [(name, kind, UNSET) for name, kind in kinds.items() if name not in own],
            forbid_unknown_fields=True,
        )
        ad = msgspec.defstruct("Ad", [(name, kind, UNSET) for name, kind in kinds.items()], forbid_unknown_fields=True)
        ads = Annotated[list[ad], msgspec.Meta(min_length=1, max_length=limits.ads)]  # type: ignore[valid-type]
        self.score_type = msgspec.defstruct(
            "ScoreRequest",
            [
                ("ads", ads),
                ("context", context, msgspec.field(default_factory=context)),
                ("creative_status", bool, False),
            ],
            forbid_unknown_fields=True,
        )
        contexts = Annotated[list[self.score_type], msgspec.Meta(min_length=1, max_length=limits.contexts)]  # type: ignore[name-defined]
        self.batch_type = msgspec.defstruct("BatchRequest", [("requests", contexts)], forbid_unknown_fields=True)
        self._score_decoder = msgspec.json.Decoder(self.score_type)
        self._batch_decoder = msgspec.json.Decoder(self.batch_type)
        names = [field.name for field in self._columns]
        self._values_of = attrgetter(*names) if len(names) > 1 else lambda one: (getattr(one, names[0]),)

    def read(self, body: bytes) -> Any:
        """Reads the body of `score`; raises `GatewayError` that names what is wrong."""
        return _decoded(self._score_decoder, body)

    def read_batch(self, body: bytes) -> list[Any]:
        """Reads the body of `score:batch`; raises `GatewayError` that names what is wrong."""
        requests: list[Any] = _decoded(self._batch_decoder, body).requests
        return requests

    def images(self, request: Any) -> list[Any]:
        """What a request gives as the image of each ad: UNSET, None, text or `Base64`."""
        if self._image is None:
            return [UNSET] * len(request.ads)
        name = self._image.name
        return [getattr(ad, name) for ad in request.ads]

    def identifiers(self, request: Any) -> list[bytes]:
        """What a request names the impression of each ad; empty where it does not."""
        if self._identifier is None:
            return [b""] * len(request.ads)
        given = [getattr(ad, self._identifier.name, UNSET) for ad in request.ads]
        return [one.encode() if isinstance(one, str) else b"" for one in given]

    def columns(self, requests: Sequence[Any]) -> dict[str, Array]:
        """The model's inputs but the image, a row for each ad of each request.

        Raises:
            GatewayError: A required field is missing.
        """
        shared = [self._values_of(request.context) for request in requests]
        given = [[self._values_of(ad) for ad in request.ads] for request in requests]
        columns = {}
        for index, field in enumerate(self._columns):
            values = [
                ad[index] if ad[index] is not UNSET else context[index]
                for context, ads in zip(shared, given, strict=True)
                for ad in ads
            ]
            columns[field.name] = self._column(field, values, requests)
        return columns

    def _column(self, field: Field, values: list[Any], requests: Sequence[Any]) -> Array:
        missing = _MISSING[field.dtype]
        if field.is_required and any(value is UNSET or value is None for value in values):
            place = _place(next(i for i, v in enumerate(values) if v is UNSET or v is None), requests)
            raise invalid(f"{field.name} is required: give it in the context or in the ad", f"{place}.{field.name}")
        if field.is_timestamp:
            missing = int(time.time())
        if field.is_list:
            width = max([1, *(len(value) for value in values if value)])
            lists = [[*(_encoded(field, one) for one in value or ())] for value in values]
            return _array([one + [missing] * (width - len(one)) for one in lists], field.dtype, (len(values), width))
        if field.dtype == "string":
            return _array([value.encode() if value else missing for value in values], "string", (len(values),))
        whole = [missing if value is UNSET or value is None else value for value in values]
        return np.array(whole, field.dtype)

    def value(self, request: Any, name: str) -> str:
        """The value of a context's text field; empty if it has none."""
        value = getattr(request.context, name, None)
        return value if isinstance(value, str) else ""


def _encoded(field: Field, value: Any) -> Any:
    return value.encode() if field.dtype == "string" else value


def _array(values: list[Any], dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype != "string":
        return np.array(values, dtype)
    flat = values if len(shape) == 1 else [one for row in values for one in row]
    strings = np.empty(len(flat), object)
    strings[:] = flat
    return strings.reshape(shape)


def _annotation(field: Field) -> Any:
    python_type: Any = _PYTHON_TYPES[field.dtype]
    text = field.description or ("The creative." if field.is_image else "")
    if field.is_image:
        text += ' A creative\'s key, an address to fetch it from, or its bytes as {"b64": "..."}.'
        kind: Any = str | Base64 | None
    elif field.is_list:
        kind = list[python_type] | None
    else:
        kind = python_type | None
    if field.is_identifier:
        text += " Names the impression in the prediction log, so that a click can be told to belong to it."
    if field.is_timestamp:
        text += " Seconds since 1970-01-01 in the data's own clock."
    text = f"{text} If left out: {field.default}.".strip()
    return Annotated[kind | msgspec.UnsetType, msgspec.Meta(description=text)]


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayError(400, "malformed_json", f"The body is not JSON: {error}") from None  # type: ignore[arg-type]
    except RecursionError:
        raise invalid("The body is nested too deeply") from None


def _refusal(message: str) -> GatewayError:
    """A refusal in msgspec's words, which end in the place: `Expected `str`, got `int` - at `$.ads[0].os``."""
    what, _, place = message.partition(" - at `$")
    field = place.rstrip("`").lstrip(".")
    return invalid(f"{what}; see GET /v1/fields for what each field takes", field)


def _place(row: int, requests: Sequence[Any]) -> str:
    for number, request in enumerate(requests):
        if row < len(request.ads):
            return f"ads[{row}]" if len(requests) == 1 else f"requests[{number}].ads[{row}]"
        row -= len(request.ads)
    raise IndexError(row)
