"""Distances between the distributions that TFDV's statistics hold, and the thresholds of the curated schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from adclick.schema.curated import DRIFT_STOPS_RUN

Measure = Literal["l_infinity", "jensen_shannon"]

_Floats = npt.NDArray[np.float64]
_MISSING = "\0missing"
_REST = "\0rest"
#: TFDV keeps deciles.
_CELLS = 10


class FeatureDrift(BaseModel):
    """How far one feature moved.

    Attributes:
        feature: The column.
        measure: `l_infinity`, the largest change of one value's share, for names; `jensen_shannon`, the Jensen-Shannon
            divergence in bits, for quantities. Both lie between 0 and 1.
        distance: The distance. A missing value counts as a value of its own.
        threshold: The schema's bound; None if it has none.
        action: What a distance beyond the threshold does: `report` or `stop`.
        beyond: Whether the distance lies beyond the threshold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature: str
    measure: Measure
    distance: float
    threshold: float | None
    action: Literal["report", "stop"]
    beyond: bool

    def describe(self) -> str:
        """The drift in one line."""
        what = {"l_infinity": "one value's share moved by", "jensen_shannon": "its distribution moved by"}[self.measure]
        bound = "" if self.threshold is None else f", more than {self.threshold:g}" if self.beyond else ""
        return f"{self.feature}: {what} {self.distance:.3f}{bound}"


class DriftReport(BaseModel):
    """What DriftDetector writes.

    Attributes:
        month: The month that is compared.
        compared_with: The months of the window before it.
        features: A line per feature.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    month: str
    compared_with: tuple[str, ...]
    features: tuple[FeatureDrift, ...]

    @property
    def beyond(self) -> list[FeatureDrift]:
        return [found for found in self.features if found.beyond]


def measure_drift(
    now: Sequence[statistics_pb2.DatasetFeatureStatistics],
    before: Sequence[statistics_pb2.DatasetFeatureStatistics],
    schema: schema_pb2.Schema,
    columns: Container[str],
) -> list[FeatureDrift]:
    """Measures features of the schema between two sets of impressions.

    Args:
        now: The statistics of the parts of the one set.
        before: The statistics of the parts of the other.
        schema: Says how far each feature may move.
        columns: The features to measure.
    """
    found = []
    for feature in schema.feature:
        if feature.name not in columns:
            continue
        parts, earlier = _of(now, feature.name), _of(before, feature.name)
        if not parts or not earlier:
            continue
        comparator = feature.drift_comparator
        measure: Measure
        if all(part.WhichOneof("stats") == "num_stats" for part in parts + earlier):
            measure, distance = "jensen_shannon", _quantities_apart(parts, earlier)
            bound = comparator.jensen_shannon_divergence
        else:
            measure, distance = "l_infinity", l_infinity(_shares(parts), _shares(earlier))
            bound = comparator.infinity_norm
        threshold = bound.threshold if bound.HasField("threshold") else None
        found.append(
            FeatureDrift(
                feature=feature.name,
                measure=measure,
                distance=distance,
                threshold=threshold,
                action="stop" if DRIFT_STOPS_RUN in feature.annotation.tag else "report",
                beyond=threshold is not None and not distance <= threshold,
            )
        )
    return found


def l_infinity(shares: dict[str, float], others: dict[str, float]) -> float:
    """The largest difference of one value's share."""
    return max((abs(shares.get(name, 0.0) - others.get(name, 0.0)) for name in {*shares, *others}), default=0.0)


def jensen_shannon(shares: _Floats, others: _Floats) -> float:
    """The Jensen-Shannon divergence in bits, 0 to 1, of two distributions over the same cells (Lin 1991)."""
    middle = (shares + others) / 2

    def relative_entropy(part: _Floats) -> float:
        held = part > 0
        return float(np.sum(part[held] * np.log2(part[held] / middle[held])))

    return max(0.0, (relative_entropy(shares) + relative_entropy(others)) / 2)


def _of(
    datasets: Sequence[statistics_pb2.DatasetFeatureStatistics], name: str
) -> list[statistics_pb2.FeatureNameStatistics]:
    found = [feature for dataset in datasets for feature in dataset.features if list(feature.path.step) == [name]]
    return [feature for feature in found if feature.WhichOneof("stats") in ("num_stats", "string_stats")]


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    stats: statistics_pb2.CommonStatistics = getattr(feature, feature.WhichOneof("stats") or "").common_stats
    return stats


def _shares(parts: Sequence[statistics_pb2.FeatureNameStatistics]) -> dict[str, float]:
    """The share of each value; of values beyond TFDV's most frequent thousand only their sum."""
    counts: Counter[str] = Counter()
    for part in parts:
        common = _common(part)
        ranked = {bucket.label: int(bucket.sample_count) for bucket in part.string_stats.rank_histogram.buckets}
        counts.update(ranked)
        counts[_REST] += int(common.tot_num_values) - sum(ranked.values())
        counts[_MISSING] += int(common.num_missing)
    total = counts.total() or 1
    return {name: count / total for name, count in counts.items()}


def _quantities_apart(
    parts: Sequence[statistics_pb2.FeatureNameStatistics], others: Sequence[statistics_pb2.FeatureNameStatistics]
) -> float:
    """Compares by the deciles of both together: equal widths would let one outlier put all values into one cell."""
    edges = np.unique([edge for part in (*parts, *others) for edge in _quantiles(part)])
    now, before = _cells(parts, edges), _cells(others, edges)
    both = (now + before) / 2
    middle = np.cumsum(both) - both / 2
    tenth = np.minimum((middle[:-1] * _CELLS / max(both[:-1].sum(), 1e-9)).astype(np.int64), _CELLS - 1)
    groups = np.append(tenth, _CELLS)
    gathered = [np.asarray(np.bincount(groups, cells), np.float64) for cells in (now, before)]
    return jensen_shannon(*gathered)


def _quantiles(feature: statistics_pb2.FeatureNameStatistics) -> list[float]:
    histograms = [
        found
        for found in feature.num_stats.histograms
        if found.type == statistics_pb2.Histogram.HistogramType.QUANTILES
    ]
    return [edge for found in histograms for bucket in found.buckets for edge in (bucket.low_value, bucket.high_value)]


def _cells(parts: Sequence[statistics_pb2.FeatureNameStatistics], edges: _Floats) -> _Floats:
    """The share of values at each edge and between it and the next, in their order, and last of missing ones."""
    at, between, missing = np.zeros(len(edges)), np.zeros(len(edges)), 0.0
    for part in parts:
        missing += _common(part).num_missing
        for found in part.num_stats.histograms:
            if found.type != statistics_pb2.Histogram.HistogramType.QUANTILES:
                continue
            for bucket in found.buckets:
                low, high = np.searchsorted(edges, [bucket.low_value, bucket.high_value])
                if low == high:
                    at[low] += bucket.sample_count
                else:
                    widths = np.diff(edges[low : high + 1])
                    between[low:high] += bucket.sample_count * widths / widths.sum()
    cells = np.append(np.stack([at, between], axis=1).ravel(), missing)
    return cells / (cells.sum() or 1.0)


def read_drift(content: str | bytes) -> DriftReport:
    """Reads `drift.json`."""
    return DriftReport.model_validate_json(content)
