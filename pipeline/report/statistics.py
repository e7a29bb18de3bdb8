"""Each column's statistics in the newest month beside the window's earlier months, from what TFDV counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from adclick.components.splits import SPLITS
from adclick.pipeline.report.facts import FeatureFacts, HistogramFacts, ValueShare
from adclick.pipeline.runs.record import RunRecord
from adclick.schema.feature_table import FeatureTable, Label, Timestamp
from adclick.storage import filesystem

_STATISTICS_FILE = "FeatureStats.pb"
_VALUES_SHOWN = 6
_CELLS = 24
#: What lies further out than this many times the range of the middle four fifths is not drawn.
_FAR = 3.0

_Floats = npt.NDArray[np.float64]


def read_features(record: RunRecord, features: FeatureTable) -> list[FeatureFacts]:
    """The columns of the newest month whose statistics there are, in declared order."""
    statistics = [_read(record.artifacts.get(f"StatisticsGen-{drop.name}.statistics", [])) for drop in record.drops]
    if not statistics:
        return []
    before = [dataset for datasets in statistics[:-1] for dataset in datasets]
    return describe_features(statistics[-1], before, features)


def _read(uris: Iterable[str]) -> list[statistics_pb2.DatasetFeatureStatistics]:
    found: list[statistics_pb2.DatasetFeatureStatistics] = []
    for uri in uris:
        for split in SPLITS:
            path = filesystem.join(uri, f"Split-{split}", _STATISTICS_FILE)
            if filesystem.exists(path):
                with filesystem.open_read(path) as stream:
                    found += statistics_pb2.DatasetFeatureStatisticsList.FromString(stream.read()).datasets
    return found


def describe_features(
    newest: Sequence[statistics_pb2.DatasetFeatureStatistics],
    before: Sequence[statistics_pb2.DatasetFeatureStatistics],
    features: FeatureTable,
) -> list[FeatureFacts]:
    """Puts two sets of impressions, each given as the statistics of its parts, beside each other by column."""
    now, then = _columns(newest), _columns(before)
    roles = {name: column.role.replace("_", "-") for name, column in features.used.items()}
    descriptions = {name: column.description for name, column in features.used.items()}
    if features.image_name is not None:
        roles[features.image_status_name] = "image status"
        descriptions[features.image_status_name] = "Added by ingestion: whether the image could be read."
    unlike = {features.identifier_name, *features.of(Timestamp)}
    return [
        _describe(
            FeatureFacts(name, role, descriptions[name], now[name].missing_share, None),
            now[name],
            then.get(name),
            is_shown=name != features.identifier_name and name not in features.of(Label),
            is_comparable=name not in unlike,
        )
        for name, role in roles.items()
        if name in now
    ]


@dataclass
class _Counts:
    """A column's counts over several parts of the impressions."""

    missing: int = 0
    present: int = 0
    is_quantity: bool = False
    ranked: Counter[str] = field(default_factory=Counter)
    unique: int = 0
    is_cut: bool = False
    total: float = 0.0
    #: By quantile bucket, its lower and upper edge and how many values lie in it.
    quantiles: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def missing_share(self) -> float:
        return self.missing / max(self.missing + self.present, 1)

    @property
    def mean(self) -> float | None:
        return self.total / self.present if self.is_quantity and self.present else None

    def add(self, found: statistics_pb2.FeatureNameStatistics) -> None:
        if found.WhichOneof("stats") == "num_stats":
            common = found.num_stats.common_stats
            self.is_quantity = True
            self.total += found.num_stats.mean * common.num_non_missing
            self.quantiles += [
                (bucket.low_value, bucket.high_value, bucket.sample_count)
                for histogram in found.num_stats.histograms
                if histogram.type == statistics_pb2.Histogram.HistogramType.QUANTILES
                for bucket in histogram.buckets
            ]
        else:
            common = found.string_stats.common_stats
            counts = {bucket.label: int(bucket.sample_count) for bucket in found.string_stats.rank_histogram.buckets}
            self.ranked.update(counts)
            self.unique = max(self.unique, int(found.string_stats.unique))
            self.is_cut = self.is_cut or len(counts) < found.string_stats.unique
        self.missing += int(common.num_missing)
        self.present += int(common.num_non_missing)


def _columns(datasets: Sequence[statistics_pb2.DatasetFeatureStatistics]) -> dict[str, _Counts]:
    columns: dict[str, _Counts] = {}
    for dataset in datasets:
        for found in dataset.features:
            if found.WhichOneof("stats") in ("num_stats", "string_stats"):
                columns.setdefault(".".join(found.path.step), _Counts()).add(found)
    return columns


def _describe(
    bare: FeatureFacts, now: _Counts, then: _Counts | None, is_shown: bool, is_comparable: bool
) -> FeatureFacts:
    compared = then if is_comparable else None
    return FeatureFacts(
        name=bare.name,
        role=bare.role,
        description=bare.description,
        missing=bare.missing,
        missing_before=None if then is None else then.missing_share,
        distinct=None if now.is_quantity else max(now.unique, len(now.ranked)),
        distinct_is_exact=not now.is_cut,
        values=_values(now, compared) if is_shown else (),
        histogram=_histogram(now, compared) if is_shown else None,
        mean=now.mean,
        mean_before=None if compared is None else compared.mean,
    )


def _values(now: _Counts, then: _Counts | None) -> tuple[ValueShare, ...]:
    return tuple(
        ValueShare(
            value, count / max(now.present, 1), None if then is None else then.ranked[value] / max(then.present, 1)
        )
        for value, count in sorted(now.ranked.items(), key=lambda item: (-item[1], item[0]))[:_VALUES_SHOWN]
    )


def _histogram(now: _Counts, then: _Counts | None) -> HistogramFacts | None:
    if not now.quantiles:
        return None
    low, high = _range(now.quantiles)
    edges = np.linspace(low, high, _CELLS + 1)
    before = None if then is None or not then.quantiles else tuple(_cells(then.quantiles, edges).tolist())
    return HistogramFacts(low, high, tuple(_cells(now.quantiles, edges).tolist()), before)


def _range(quantiles: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """From the lowest to the highest value, but for outliers that would squeeze the others into one cell."""
    lows, highs = [low for low, _, _ in quantiles], [high for _, high, _ in quantiles]
    low, high = min(lows), max(highs)
    inner = sorted(edge for edge in (*lows, *highs) if low < edge < high)
    if inner:
        width = max(inner[-1] - inner[0], 1e-9)
        low, high = max(low, inner[0] - _FAR * width), min(high, inner[-1] + _FAR * width)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _cells(quantiles: Sequence[tuple[float, float, float]], edges: _Floats) -> _Floats:
    """The share of values in each cell; values lie evenly between two quantiles."""
    counts = np.zeros(len(edges) - 1)
    total = sum(count for _, _, count in quantiles)
    for low, high, count in quantiles:
        if high > low:
            counts += count * np.diff(np.clip((edges - low) / (high - low), 0, 1))
        elif edges[0] <= low <= edges[-1]:
            counts[min(int(np.searchsorted(edges, low, side="right")) - 1, len(counts) - 1)] += count
    return np.asarray(counts / max(total, 1e-9))
