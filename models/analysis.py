"""What the Transform graph must know of the data: counts of values, moments and quantiles of quantities.

All of it adds up, over batches, workers and months, so that a month is read once and its analysis is reused as long as
the month lies in the window.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tfx_bsl import sketches

from models.features import MISSING_VALUE, vocabulary_columns
from schema.feature_table import Bucketised, FeatureTable, MultiValued, Numeric

Floats = npt.NDArray[np.float64]

_SUMMARY = "analysis.json"
#: A distribution is kept as so many evenly spaced quantiles, which is also the error of a bucket's share.
_QUANTILES = 1_000
_SKETCH_ERROR = 1 / _QUANTILES
_SKETCH_ROWS = 1 << 40


@dataclass(frozen=True)
class Moments:
    """How a quantity, scaled as its column says, is distributed.

    Attributes:
        count: Number of values.
        mean: Their mean.
        squares: The sum of their squared distances from the mean.
    """

    count: int
    mean: float
    squares: float

    @property
    def deviation(self) -> float:
        """The population's standard deviation; 0 without a value."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def __add__(self, other: Moments) -> Moments:
        # Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart**2 * self.count * other.count / count,
        )


@dataclass(frozen=True)
class Distribution:
    """Evenly spaced quantiles of a quantity, from the least value to the largest, and the number of its values."""

    count: int
    quantiles: Floats


@dataclass(frozen=True)
class Analysis:
    """What is known of a set of impressions.

    Attributes:
        values: By vocabulary column a table of `value` (binary) and `count`, a row per distinct value.
        moments: By numeric column that is scaled.
        distributions: By column that holds a quantity.
    """

    values: Mapping[str, pa.Table]
    moments: Mapping[str, Moments]
    distributions: Mapping[str, tuple[Distribution, ...]]


class Analyzer:
    """Takes batches of impressions and gives their analysis."""

    def __init__(self, features: FeatureTable) -> None:
        self._vocabularies = vocabulary_columns(features)
        inputs = features.model_inputs
        self._scalings = {
            name: column.scaling
            for name, column in inputs.items()
            if isinstance(column, Numeric) and column.scaling != "none"
        }
        # The buckets of the Transform graph need some; the others say later whether traffic is as it was in training.
        quantities = [name for name, column in inputs.items() if isinstance(column, Numeric | Bucketised)]
        self._values: dict[str, list[pa.Table]] = {name: [] for name in self._vocabularies}
        self._moments = {name: Moments(0, 0.0, 0.0) for name in self._scalings}
        self._sketches = {name: sketches.QuantilesSketch(_SKETCH_ERROR, _SKETCH_ROWS, 1) for name in quantities}
        self._sketched = dict.fromkeys(quantities, 0)

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts a batch: a column of lists per feature, a list without a value where it is missing."""
        for name, column in self._vocabularies.items():
            lists = batch[name]
            if isinstance(column, MultiValued):
                values = pc.list_flatten(lists)
                missing = 0
            else:
                rows, values = first_values(lists)
                missing = len(lists) - len(rows)
            self._values[name].append(_count(values, missing))
            if len(self._values[name]) >= 16:
                self._values[name] = [_add_counts(self._values[name])]
        for name, scaling in self._scalings.items():
            self._moments[name] += _moments(scale(_quantities(batch[name]), scaling))
        for name, sketch in self._sketches.items():
            quantities = _quantities(batch[name])
            self._sketched[name] += len(quantities)
            if len(quantities):
                sketch.AddValues(pa.array(quantities))

    def result(self) -> Analysis:
        """The analysis of all batches so far."""
        return Analysis(
            {name: _add_counts(tables) for name, tables in self._values.items()},
            dict(self._moments),
            {
                name: (Distribution(self._sketched[name], _quantiles(sketch)),) if self._sketched[name] else ()
                for name, sketch in self._sketches.items()
            },
        )


def merge(parts: Sequence[Analysis]) -> Analysis:
    """The analysis of all parts together; there must be one at least."""
    first = parts[0]
    return Analysis(
        {name: _add_counts([part.values[name] for part in parts]) for name in first.values},
        {name: sum((part.moments[name] for part in parts[1:]), first.moments[name]) for name in first.moments},
        {
            name: tuple(found for part in parts for found in part.distributions[name])
            for name in first.distributions
            if all(name in part.distributions for part in parts)
        },
    )


def scale(quantities: Floats, scaling: str) -> Floats:
    """Scales quantities before they are centred, as the Transform graph does."""
    if scaling == "log":
        return np.asarray(np.sign(quantities) * np.log1p(np.abs(quantities)))
    return quantities


def vocabulary(counts: pa.Table, min_count: int, max_size: int) -> list[bytes]:
    """The values of a vocabulary, the most frequent first, ties the larger text first as in TensorFlow Transform.

    An empty value, or one with a line break, has no place in a vocabulary file. Where no value is frequent enough, the
    missing one stands alone: a lookup table cannot be empty.
    """
    frequent = counts.filter(pc.greater_equal(counts["count"], min_count))
    order = pc.sort_indices(frequent, [("count", "descending"), ("value", "descending")])
    values = [value for value in frequent["value"].take(order).to_pylist() if value and not {10, 13} & {*value}]
    return values[:max_size] or [MISSING_VALUE.encode()]


def boundaries(parts: Sequence[Distribution], buckets: int) -> list[float]:
    """What separates `buckets` buckets with about as many values each; fewer where values repeat."""
    if not parts:
        return [0.0]
    values = np.concatenate([part.quantiles for part in parts])
    weights = np.concatenate([np.full(len(part.quantiles), part.count / len(part.quantiles)) for part in parts])
    order = np.argsort(values, kind="stable")
    share = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    wanted = np.arange(1, buckets) / buckets
    return sorted(set(np.interp(wanted, share, values[order]).astype(np.float32).tolist()))


def write_analysis(analysis: Analysis, folder: str) -> None:
    """Writes an analysis to a folder of its own."""
    tf.io.gfile.makedirs(folder)
    for name, table in analysis.values.items():
        with tf.io.gfile.GFile(os.path.join(folder, f"{name}.parquet"), "wb") as stream:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            stream.write(sink.getvalue().to_pybytes())
    summary: dict[str, Any] = {
        "values": sorted(analysis.values),
        "moments": {name: [found.count, found.mean, found.squares] for name, found in analysis.moments.items()},
        "distributions": {
            name: [{"count": part.count, "quantiles": part.quantiles.tolist()} for part in parts]
            for name, parts in analysis.distributions.items()
        },
    }
    with tf.io.gfile.GFile(os.path.join(folder, _SUMMARY), "w") as stream:
        stream.write(json.dumps(summary))


def read_analysis(folder: str) -> Analysis:
    """Reads what `write_analysis` wrote."""
    with tf.io.gfile.GFile(os.path.join(folder, _SUMMARY), "r") as stream:
        summary = json.loads(stream.read())
    values = {}
    for name in summary["values"]:
        with tf.io.gfile.GFile(os.path.join(folder, f"{name}.parquet"), "rb") as stream:
            values[name] = pq.read_table(pa.BufferReader(stream.read()))
    return Analysis(
        values,
        {name: Moments(*found) for name, found in summary["moments"].items()},
        {
            name: tuple(Distribution(part["count"], np.array(part["quantiles"], np.float64)) for part in parts)
            for name, parts in summary["distributions"].items()
        },
    )


def first_values(lists: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The rows of the lists that hold a value, and the first value of each."""
    values = pc.list_flatten(lists)
    parents = np.asarray(pc.list_parent_indices(lists), np.int64)
    rows, first = np.unique(parents, return_index=True)
    return rows, values if len(first) == len(values) else values.take(pa.array(first))


def _count(values: pa.Array, missing: int) -> pa.Table:
    counts = pc.value_counts(values)
    found, number = counts.field(0).cast(pa.large_binary()), counts.field(1)
    if missing:
        found = pa.concat_arrays([found, pa.array([MISSING_VALUE.encode()], pa.large_binary())])
        number = pa.concat_arrays([number, pa.array([missing], pa.int64())])
    return pa.table({"value": found, "count": number})


def _add_counts(tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        return pa.table({"value": pa.array([], pa.large_binary()), "count": pa.array([], pa.int64())})
    summed = pa.concat_tables(tables).group_by("value").aggregate([("count", "sum")])
    return pa.table({"value": summed["value"], "count": summed["count_sum"]})


def _quantities(lists: pa.Array) -> Floats:
    values = np.asarray(first_values(lists)[1], np.float64)
    return values[np.isfinite(values)]


def _moments(values: Floats) -> Moments:
    if not len(values):
        return Moments(0, 0.0, 0.0)
    mean = float(values.mean())
    return Moments(len(values), mean, float(np.square(values - mean).sum()))


def _quantiles(sketch: Any) -> Floats:
    return np.asarray(sketch.GetQuantiles(_QUANTILES).flatten(), np.float64)
