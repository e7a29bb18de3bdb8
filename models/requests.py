"""Prediction requests from raw examples: what a client sends for an impression that ingestion wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from schema.feature_table import FeatureTable, MultiValued, RawType

#: What a request sends for a value that is missing.
MISSING: Mapping[RawType, Any] = {RawType.STRING: "", RawType.FLOAT: float("nan"), RawType.INT: -1}


def text_or_bytes(value: bytes) -> str | bytes:
    """Text where it is UTF-8, the bytes themselves otherwise."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def requests_from_examples(examples: Sequence[bytes], features: FeatureTable) -> list[dict[str, Any]]:
    """Rows for `serving_default` from serialized `tf.Example`s; the image is its creative's key."""
    rows = []
    for serialized in examples:
        example = tf.train.Example.FromString(serialized)
        row: dict[str, Any] = {}
        for name, column in features.model_inputs.items():
            values = _values(example.features.feature.get(name))
            if isinstance(column, MultiValued):
                row[name] = values
            else:
                row[name] = values[0] if values else MISSING[features.raw_type(name)]
        rows.append(row)
    return pad_multi_valued(rows, features)


def pad_multi_valued(rows: Sequence[Mapping[str, Any]], features: FeatureTable) -> list[dict[str, Any]]:
    """Fills the lists of multi-valued columns with empty values to one length, as a tensor needs it."""
    padded = [dict(row) for row in rows]
    for name in features.of(MultiValued):
        longest = max([1, *(len(row[name]) for row in padded)])
        for row in padded:
            row[name] = [*row[name], *[MISSING[RawType.STRING]] * (longest - len(row[name]))]
    return padded


def _values(feature: Any) -> list[Any]:
    if feature is None:
        return []
    kind = feature.WhichOneof("kind")
    if kind is None:
        return []
    values = getattr(feature, kind).value
    return [text_or_bytes(value) for value in values] if kind == "bytes_list" else list(values)
