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

from adclick.models.features import MISSING_VALUE, vocabulary_columns
from adclick.models.outliers import usual_range
from adclick.schema.feature_table import FeatureTable

Floats = npt.NDArray[np.float64]

_SUMMARY = "analysis.json"
#: A distribution is kept as so many evenly spaced quantiles, which is also the error of a bucket's share.
_QUANTILES = 1_000
_SKETCH_ERROR = 1 / _QUANTILES
_SKETCH_ROWS = 1 << 40
#: How far beyond the range of training a quantity is believed, as a share of that range.
_MARGIN = 0.1
#: Smaller standard deviations are none: a float32 cannot be divided by them.
_SMALLEST_DEVIATION = 1e-30


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
        self._vocabularies = {name: features.root[name] for name in vocabulary_columns(features)}
        inputs = features.model_inputs
        self._scalings = {
            name: column.quantity_scaling
            for name, column in inputs.items()
            if column.quantity_scaling not in (None, "none")
        }
        # The buckets of the Transform graph need some; the others say later whether traffic is as it was in training.
        quantities = [name for name, column in inputs.items() if column.is_quantity]
        self._values: dict[str, list[pa.Table]] = {name: [] for name in self._vocabularies}
        self._moments = {name: Moments(0, 0.0, 0.0) for name in self._scalings}
        self._sketches = {name: sketches.QuantilesSketch(_SKETCH_ERROR, _SKETCH_ROWS, 1) for name in quantities}
        self._sketched = dict.fromkeys(quantities, 0)

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts a batch: a column of lists per feature, a list without a value where it is missing."""
        for name, column in self._vocabularies.items():
            lists = batch[name]
            if column.is_list:
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
    """What separates `buckets` buckets with about as many values each; fewer where values repeat.

    A value that fills a bucket alone, as the 0 of a count that is mostly 0, has it alone; the others share the rest.
    """
    if not parts:
        return [0.0]
    values, weights = _weighted_quantiles(parts)
    distinct, where = np.unique(values, return_inverse=True)
    share = np.bincount(where, weights) / weights.sum()
    edges: set[float] = set()
    own: list[int] = []
    for index in np.argsort(-share, kind="stable").tolist():
        around = {float(edge) for edge in distinct[index : index + 2].astype(np.float32)} - {float(distinct[0])}
        if share[index] * buckets < 1 or len(edges | around) >= buckets:
            break
        edges |= around
        own.append(index)
    rest = np.isin(where, own, invert=True)
    left = buckets - len(edges)
    if rest.any() and left > 1:
        place = (np.cumsum(weights[rest]) - weights[rest] / 2) / weights[rest].sum()
        edges |= set(np.interp(np.arange(1, left) / left, place, values[rest]).astype(np.float32).tolist())
    return sorted(edges) or [float(np.float32(distinct[0]))]


@dataclass(frozen=True)
class QuantityScale:
    """How a quantity is clipped and scaled.

    Attributes:
        low: What the model reads of any lower value; in the column's own unit.
        high: What it reads of any higher one.
        mean: Subtracted from the clipped value, after its logarithm where that is taken.
        deviation: What is left is divided by; above 0.
    """

    low: float
    high: float
    mean: float
    deviation: float


def quantity_scale(moments: Moments | None, parts: Sequence[Distribution], scaling: str) -> QuantityScale:
    """What a quantity is clipped to, and how it is scaled: what training held, with a margin, but for outliers.

    A few sentinels or infinities would otherwise decide mean and deviation, and press all other values together.

    Args:
        moments: Of the values scaled by `scale`; None where the column is not centred.
        parts: The distributions of the months that are trained on.
        scaling: The column's.
    """
    if not parts:
        return QuantityScale(0.0, 0.0, 0.0, 1.0)
    values, weights = _weighted_quantiles(parts)
    values = scale(values, scaling)
    usual_low, usual_high = usual_range(values, weights)
    least, most = values[0], values[-1]
    margin = _MARGIN * (most - least)
    low, high = max(least - margin, usual_low), min(most + margin, usual_high)
    mean, deviation = 0.0, 1.0
    if moments is not None:
        mean, deviation = moments.mean, moments.deviation
        if least < low or most > high:
            kept = (values >= low) & (values <= high)
            mean = float(np.average(values[kept], weights=weights[kept]))
            deviation = math.sqrt(np.average(np.square(values[kept] - mean), weights=weights[kept]))
        if deviation < _SMALLEST_DEVIATION:
            deviation = 1.0
    largest = float(np.finfo(np.float32).max)
    limits = np.clip(_unscale(np.array([low, high]), scaling), -largest, largest)
    return QuantityScale(float(limits[0]), float(limits[1]), mean, deviation)


def _unscale(quantities: Floats, scaling: str) -> Floats:
    if scaling == "log":
        return np.asarray(np.sign(quantities) * np.expm1(np.abs(quantities)))
    return quantities


def _weighted_quantiles(parts: Sequence[Distribution]) -> tuple[Floats, Floats]:
    """The quantiles of several distributions in order, and how many values each stands for."""
    values = np.concatenate([part.quantiles for part in parts])
    weights = np.concatenate([np.full(len(part.quantiles), part.count / len(part.quantiles)) for part in parts])
    order = np.argsort(values, kind="stable")
    return values[order], weights[order]


def write_analysis(analysis: Analysis, folder: str) -> None:
    """Writes an analysis to a folder of its own."""
    tf.io.gfile.makedirs(folder)
    # Names may be longer than a file system's, and hold what it cannot.
    files = {name: f"values-{number}.parquet" for number, name in enumerate(sorted(analysis.values))}
    for name, file in files.items():
        with tf.io.gfile.GFile(os.path.join(folder, file), "wb") as stream:
            sink = pa.BufferOutputStream()
            pq.write_table(analysis.values[name], sink)
            stream.write(sink.getvalue().to_pybytes())
    summary: dict[str, Any] = {
        "values": files,
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
    files = summary["values"]
    if isinstance(files, list):  # As it was written before any text could be a column's name.
        files = {name: f"{name}.parquet" for name in files}
    for name, file in files.items():
        with tf.io.gfile.GFile(os.path.join(folder, file), "rb") as stream:
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
