"""Draws the audience that a pushed version keeps: a uniform sample of traffic like the held-out impressions."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.held_out import AUDIENCE_BYTES, AUDIENCE_ROWS
from adclick.schema.feature_table import FeatureTable

#: Serialized examples, each after the random number by which it was drawn, ascending.
Draw = list[tuple[float, bytes]]


def draw(
    examples: Sequence[bytes],
    clicked: npt.NDArray[np.bool_],
    negative_sampling_rate: float,
    random: np.random.Generator,
) -> Draw:
    """Draws from a batch.

    A log that kept a share of its unclicked impressions has that many too few of them. As many clicked ones are left
    out here, so that the audience is like all traffic without a weight, which would tell who clicked.

    Args:
        examples: Serialized examples [rows].
        clicked: Whether each was clicked [rows].
        negative_sampling_rate: The share of unclicked impressions that the log kept.
        random: Draws.
    """
    numbers = random.random(len(examples))
    stays = ~clicked | (random.random(len(examples)) < negative_sampling_rate)
    rows = np.flatnonzero(stays)
    chosen = rows[np.argsort(numbers[rows], kind="stable")[:AUDIENCE_ROWS]]
    return [(float(numbers[row]), examples[row]) for row in chosen]


def merge_draws(draws: Iterable[Draw]) -> Draw:
    """One draw from all that was drawn from."""
    return heapq.nsmallest(AUDIENCE_ROWS, (drawn for each in draws for drawn in each))


def audience_rows(
    examples: Iterable[bytes], features: FeatureTable, most_bytes: int = AUDIENCE_BYTES
) -> tuple[tuple[dict[str, Any], ...], int, int]:
    """The rows of an audience as a request's context gives them.

    Args:
        examples: Serialized `tf.Example`s, as ingestion wrote them.
        features: The feature table.
        most_bytes: Beyond so many bytes of texts, 16 for each other value, rows are left out.

    Returns:
        The rows, of the columns that the model takes, without missing values; how many of their values are no Unicode
        text; how many rows are left out.
    """
    rows: list[dict[str, Any]] = []
    replaced = left_out = size = 0
    for serialized in examples:
        example = tf.train.Example.FromString(serialized)
        row: dict[str, Any] = {}
        unreadable = 0
        for name, column in features.model_inputs.items():
            feature = example.features.feature.get(name)
            values, wrong = _values(feature)
            unreadable += wrong
            if values:
                row[name] = values if column.is_list else values[0]
        of_row = sum(map(_size, row.values()))
        if size + of_row > most_bytes:
            left_out += 1
            continue
        size += of_row
        rows.append(row)
        replaced += unreadable
    return tuple(rows), replaced, left_out


def _values(feature: Any) -> tuple[list[Any], int]:
    """The values of a feature, and how many are no Unicode text."""
    kind = None if feature is None else feature.WhichOneof("kind")
    if kind == "bytes_list":
        texts = [value.decode("utf-8", "replace") for value in feature.bytes_list.value]
        return texts, sum(text.encode() != value for text, value in zip(texts, feature.bytes_list.value, strict=True))
    if kind == "float_list":
        # As the shortest decimal numbers that are the same in float32.
        return [float(str(np.float32(value))) for value in feature.float_list.value if math.isfinite(value)], 0
    return (list(feature.int64_list.value), 0) if kind == "int64_list" else ([], 0)


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value.encode()) if isinstance(value, str) else 16
