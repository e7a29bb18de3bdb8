"""The fields of a request, made from a served model's metadata, and the tensors made of a request.

Every column that the model takes is a field of the context, which all ads share, and of each ad, whose value counts
where both give one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

from adclick.schema.feature_table import FeatureTable
from adclick.serving.gateway.body import decode_body
from adclick.serving.gateway.errors import invalid
from adclick.serving.gateway.settings import LimitSettings

Array = np.ndarray[Any, Any]
UNSET = msgspec.UNSET
_UNSPEAKABLE = re.compile(r'["\\\x00-\x1f]')

#: What stands for a missing value in the model's inputs, by type.
_MISSING: Mapping[str, Any] = {"string": b"", "float32": float("nan"), "int64": -1}
#: From there on a number is infinite in float32.
_TOO_LARGE = 2.0**128 - 2.0**103
_PYTHON_TYPES: Mapping[str, Any] = {
    "string": str,
    "float32": Annotated[float, msgspec.Meta(gt=-_TOO_LARGE, lt=_TOO_LARGE)],
    "int64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
}
_DAY_SECONDS = 86_400


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


class _Spellings:
    """How names are spelled that msgspec cannot give a field: those with a quote, a backslash or a control character.

    Empty, and so false, where there is none such.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_name: dict[str, str] = {}
        for name in names:
            if _UNSPEAKABLE.search(name):
                spelled = _UNSPEAKABLE.sub("\N{REPLACEMENT CHARACTER}", name)
                while spelled in names or spelled in self._by_name.values():
                    spelled += "\N{REPLACEMENT CHARACTER}"
                self._by_name[name] = spelled
        self._names = {spelled: name for name, spelled in self._by_name.items()}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def of(self, name: str) -> str:
        """A name as it is spelled."""
        return self._by_name.get(name, name)

    def name_of(self, spelled: str) -> str:
        """The name that is so spelled."""
        return self._names.get(spelled, spelled)

    def named(self, message: str) -> str:
        """A message of msgspec's with the names in it."""
        for spelled, name in self._names.items():
            message = message.replace(spelled, name)
        return message

    def spelled(self, body: Any) -> Any:
        """A body, decoded, with the fields of its contexts and ads as they are spelled."""
        if isinstance(body, list):
            return [self.spelled(one) for one in body]
        if not isinstance(body, dict):
            return body
        # What a client spells so itself is no field.
        return {self._names.get(key, self.of(key)): self.spelled(value) for key, value in body.items()}


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
        # Fields have any name, attributes of Python have not. By the name alone: the forms of other versions read them.
        self._attributes = {field.name: f"field_{field.name.encode().hex()}" for field in fields}
        self._spellings = _Spellings([field.name for field in fields])
        spelled = {attribute: self._spellings.of(name) for name, attribute in self._attributes.items()}

        def structure(title: str, fields: Sequence[Field]) -> Any:
            entries = [(self._attributes[field.name], _annotation(field), UNSET) for field in fields]
            return msgspec.defstruct(title, entries, rename=spelled, forbid_unknown_fields=True)

        context = structure("Context", [field for field in fields if field.name not in own])
        self._context_type = context
        ad = structure("Ad", fields)
        self._ad_type = ad
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
        names = [self._attributes[field.name] for field in self._columns]
        self._values_of = attrgetter(*names) if len(names) > 1 else lambda one: (getattr(one, names[0]),)

    def read(self, body: bytes) -> Any:
        """Reads the body of `score`; raises `GatewayError` that names what is wrong."""
        return self._decoded(self._score_decoder, body)

    def read_batch(self, body: bytes) -> list[Any]:
        """Reads the body of `score:batch`; raises `GatewayError` that names what is wrong."""
        requests: list[Any] = self._decoded(self._batch_decoder, body).requests
        return requests

    def _decoded(self, decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
        def decode(body: bytes) -> Any:
            if self._spellings:
                return msgspec.convert(self._spellings.spelled(msgspec.json.decode(body)), decoder.type)
            return decoder.decode(body)

        hint = "; see GET /v1/fields for what each field takes"
        return decode_body(body, decode, hint=hint, named=self._spellings.named)

    def json_schemas(self, types: Sequence[Any], ref_template: str) -> tuple[list[Any], dict[str, Any]]:
        """JSON schemas of request types, and of what they refer to, by name."""
        schemas, parts = msgspec.json.schema_components(types, ref_template=ref_template)
        for part in parts.values():
            properties = part.get("properties", {})
            part["properties"] = {self._spellings.name_of(spelled): about for spelled, about in properties.items()}
        return list(schemas), parts

    def images(self, request: Any) -> list[Any]:
        """What a request gives as the image of each ad: UNSET, None, text or `Base64`."""
        if self._image is None:
            return [UNSET] * len(request.ads)
        attribute = self._attributes[self._image.name]
        return [getattr(ad, attribute) for ad in request.ads]

    def contexts(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Rows, by column, as the contexts of requests; the image, which is no context's, is left out.

        Raises:
            msgspec.ValidationError: A value is not of its column's type, or a column is none of the model's.
        """
        own = {field.name for field in (self._image, self._identifier) if field is not None}
        given = [{name: value for name, value in row.items() if name not in own} for row in rows]
        return [msgspec.convert(self._spellings.spelled(row), self._context_type) for row in given]

    def over(self, context: Any, ad: Any, contexts: Sequence[Any]) -> list[Any]:
        """One ad in each of several contexts, whose values count where a request's context gives none.

        Args:
            context: The request's context.
            ad: The ad; None for one of which nothing is given.
            contexts: From `contexts`.

        Returns:
            Requests with this one ad each.
        """
        given = {name: value for name, value in msgspec.structs.asdict(context).items() if value is not UNSET}
        ads = [self._ad_type() if ad is None else ad]
        return [self.score_type(ads, msgspec.structs.replace(other, **given)) for other in contexts]

    def given(self, part: Any) -> set[str]:
        """The columns, but the image, that a context or an ad gives."""
        values = ((field.name, getattr(part, self._attributes[field.name])) for field in self._columns)
        return {name for name, value in values if value is not UNSET}

    def identifiers(self, request: Any) -> list[bytes]:
        """What a request names the impression of each ad; empty where it does not."""
        if self._identifier is None:
            return [b""] * len(request.ads)
        attribute = self._attributes[self._identifier.name]
        given = [getattr(ad, attribute, UNSET) for ad in request.ads]
        return [one.encode() if isinstance(one, str) else b"" for one in given]

    def columns(self, requests: Sequence[Any]) -> dict[str, Array]:
        """The model's inputs but the image, a row for each ad of each request.

        Raises:
            GatewayError: A required field is missing, or the impression's time cannot be one.
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
            if field.is_timestamp:
                self._check_times(field.name, columns[field.name], [ad[index] for ads in given for ad in ads], requests)
        return columns

    def _check_times(self, name: str, times: Array, of_ads: list[Any], requests: Sequence[Any]) -> None:
        now = time.time()
        past, future = self._limits.past_days, self._limits.future_days
        earliest = -math.inf if past is None else now - past * _DAY_SECONDS
        latest = math.inf if future is None else now + future * _DAY_SECONDS
        wrong = np.flatnonzero((times < earliest) | (times > latest))
        if not len(wrong):
            return
        row = int(wrong[0])
        place = _place(row, requests)
        if of_ads[row] is UNSET:
            place = f"{place.rpartition('ads[')[0]}context"
        raise invalid(_time_refusal(int(times[row]), earliest, latest), f"{place}.{name}")

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
        value = getattr(request.context, self._attributes.get(name, ""), None)
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


def _time_refusal(given: int, earliest: float, latest: float) -> str:
    taken = " to ".join("any time" if math.isinf(bound) else _date(bound) for bound in (earliest, latest))
    text = f"{given} is no time of an impression: seconds since 1970-01-01 are expected, from {taken}."
    for unit, per_second in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if earliest <= given / per_second <= latest:
            text += f" It looks like {unit}: divide it by {per_second:,}."
            break
    return f"{text} The gateway's settings limits.past_days and limits.future_days say what is taken"


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f}"


def _place(row: int, requests: Sequence[Any]) -> str:
    for number, request in enumerate(requests):
        if row < len(request.ads):
            return f"ads[{row}]" if len(requests) == 1 else f"requests[{number}].ads[{row}]"
        row -= len(request.ads)
    raise IndexError(row)
