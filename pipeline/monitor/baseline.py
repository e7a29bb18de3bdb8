"""What a served version was trained on, by its lineage: the run that pushed it names the artifacts it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from adclick.components.splits import EVALUATION, SPLITS, TRAIN, VALIDATION
from adclick.models.analysis import Distribution, boundaries, merge, read_analysis
from adclick.models.features import MISSING_VALUE
from adclick.models.preprocessing import read_vocabularies
from adclick.pipeline.config.schema_file import read_schema
from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.record import RunRecord, read_records
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import Categorical, FeatureTable
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy

Floats = npt.NDArray[np.float64]

_ANALYSIS = "StatisticsGen-{}.analysis"
_BINS = 10
#: As TFX calls it.
_STATISTICS_FILE = "FeatureStats.pb"
_OK, _NONE = b"ok", b"none"


class BaselineGone(ConfigError):
    """What a version was trained on cannot be told: no run of the project pushed it, or its artifacts were deleted."""


@dataclass(frozen=True)
class CategoricalBaseline:
    """A categorical column in training.

    Attributes:
        vocabulary: The values that the model knows; None where it hashes them.
        counts: By value, how often it occurs in training, the most frequent thousand of each month.
        unknown_rate: The share of the held-out values that the model does not know; None without a vocabulary.
        threshold: The schema's `infinity_norm` of its skew comparator; None if it has none.
    """

    vocabulary: frozenset[bytes] | None
    counts: Mapping[bytes, float]
    unknown_rate: float | None
    threshold: float | None


@dataclass(frozen=True)
class NumericBaseline:
    """A quantity in training.

    Attributes:
        edges: The inner edges of its bins, ascending: about a tenth of the values lies in each bin.
        counts: How many values lie in each, [edges + 1].
        threshold: The schema's `jensen_shannon_divergence` of its skew comparator; None if it has none.
    """

    edges: Floats
    counts: Floats
    threshold: float | None


@dataclass(frozen=True)
class TrafficBaseline:
    """What a version was trained on.

    Attributes:
        version: The pushed version.
        run_id: The run that pushed it.
        months: The months of its window.
        features: Its columns.
        rows: Training impressions.
        held_out_rows: Held-out impressions.
        click_rate: The share that was clicked, corrected for the sampling of unclicked ones as predictions are.
        missing: By column that a request carries, the share of training impressions without a value.
        categorical: By column.
        numeric: By column.
        unknown_images: The share of held-out images that could not be used; None without an image column.
        evaluation: The Evaluator's metrics of the version on held-out impressions.
    """

    version: int
    run_id: str
    months: tuple[str, ...]
    features: FeatureTable
    rows: int
    held_out_rows: int
    click_rate: float
    missing: Mapping[str, float]
    categorical: Mapping[str, CategoricalBaseline]
    numeric: Mapping[str, NumericBaseline]
    unknown_images: float | None
    evaluation: Mapping[str, float | None]


def pushing_run(output: str, version: int) -> RunRecord:
    """The run that pushed a version.

    Raises:
        BaselineGone: None did.
    """
    for record in reversed(read_records(output)):
        if record.pushed_version == version:
            return record
    known = sorted({record.pushed_version for record in read_records(output) if record.pushed_version is not None})
    raise BaselineGone(
        f"{output}: no run has pushed version {version}, so that nothing is known of what it was trained on",
        f"Known versions: {', '.join(map(str, known)) or 'none'}. Is this the config of the project that serves it?",
    )


def known_baseline(config: Config, version: int) -> TrafficBaseline | None:
    """What a version was trained on; None where that cannot be told: what became of its predictions still can."""
    try:
        return load_baseline(config, version)
    except BaselineGone:
        return None


def load_baseline(config: Config, version: int) -> TrafficBaseline:
    """Reads what a version was trained on from the artifacts of the run that pushed it.

    Thresholds are those of the schema as it is now, which a person may have changed since.

    Raises:
        BaselineGone: No run pushed the version, or its artifacts are gone.
        ConfigError: The schema cannot be read.
    """
    record = pushing_run(config.output, version)
    run_config = Config.model_validate(record.config)
    features = run_config.features
    months = [drop.name for drop in record.drops]
    training = [(month, split) for month in months[:-1] for split in _splits(record, month)] + [(months[-1], TRAIN)]
    parts = [_statistics(record, month, split) for month, split in training]
    held_out = _statistics(record, months[-1], EVALUATION)
    (graph,) = record.artifacts["Transform.transform_graph"]
    analysis = merge([read_analysis(_folder(record, _ANALYSIS.format(month), split)) for month, split in training])
    held_out_values = read_analysis(_folder(record, _ANALYSIS.format(months[-1]), EVALUATION)).values
    schema = {feature.name: feature for feature in read_schema(config).feature}
    rows = sum(part.rows for part in parts)
    vocabularies = _vocabularies(graph, features)
    categorical = {}
    for name in features.of(Categorical):
        known = vocabularies.get(name)
        categorical[name] = CategoricalBaseline(
            vocabulary=known,
            counts=_added(_value_counts(part.features.get(name)) for part in parts),
            unknown_rate=None if known is None else _unknown_rate(held_out_values[name], known),
            threshold=_threshold(schema.get(name), "infinity_norm"),
        )
    numeric = {}
    for name, column in features.model_inputs.items():
        if column.is_quantity:
            histogram = _tenths(analysis.distributions.get(name, ()))
            if histogram is not None:
                threshold = _threshold(schema.get(name), "jensen_shannon_divergence")
                numeric[name] = NumericBaseline(*histogram, threshold)
    clicks = sum(_sum_of(part.features[features.label_name]) for part in parts)
    rate, kept = clicks / rows, run_config.training.negative_sampling_rate
    return TrafficBaseline(
        version=version,
        run_id=record.run_id,
        months=tuple(months),
        features=features,
        rows=rows,
        held_out_rows=held_out.rows,
        click_rate=rate / (rate + (1 - rate) / kept),
        missing={
            name: 1 - sum(_present(part.features.get(name)) for part in parts) / rows for name in features.model_inputs
        },
        categorical=categorical,
        numeric=numeric,
        unknown_images=_unknown_images(held_out, features),
        evaluation={
            name: metric.value
            for found in record.evaluation
            if (found.slice, found.model) == ("overall", "candidate")
            for name, metric in found.metrics.items()
        },
    )


@dataclass(frozen=True)
class _Part:
    """TFDV's statistics of a split of a month."""

    rows: int
    features: Mapping[str, Any]


def _splits(record: RunRecord, month: str) -> tuple[str, ...]:
    """The splits of a month that there are; in older runs none is for validation."""
    rows = next(drop.rows_validation for drop in record.drops if drop.name == month)
    return SPLITS if rows else tuple(split for split in SPLITS if split != VALIDATION)


def _folder(record: RunRecord, key: str, split: str) -> str:
    for uri in record.artifacts.get(key, []):
        folder = filesystem.join(uri, f"Split-{split}")
        if filesystem.isdir(folder):
            return local_copy(folder)
    raise BaselineGone(
        f"the artifact {key} of run {record.run_id} is gone, and with it what version {record.pushed_version} was "
        "trained on",
        "Run `adclick run` again: it makes anew what is missing.",
    )


def _statistics(record: RunRecord, month: str, split: str) -> _Part:
    path = filesystem.join(_folder(record, f"StatisticsGen-{month}.statistics", split), _STATISTICS_FILE)
    with filesystem.open_read(path) as stream:
        (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(stream.read()).datasets
    return _Part(found.num_examples, {feature.path.step[0]: feature for feature in found.features})


def _common(feature: Any) -> Any:
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def _present(feature: Any) -> int:
    return 0 if feature is None else int(_common(feature).num_non_missing)


def _sum_of(feature: Any) -> float:
    return float(feature.num_stats.mean * _common(feature).tot_num_values)


def _value_counts(feature: Any) -> dict[bytes, float]:
    """How often a column's most frequent thousand values occur."""
    if feature is None:
        return {}
    return {bucket.label.encode(): bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}


def _added(parts: Iterable[Mapping[bytes, float]]) -> dict[bytes, float]:
    total: dict[bytes, float] = {}
    for part in parts:
        for value, count in part.items():
            total[value] = total.get(value, 0.0) + count
    return total


def _threshold(feature: schema_pb2.Feature | None, measure: str) -> float | None:
    comparator = feature.skew_comparator if feature is not None else None
    return getattr(comparator, measure).threshold if comparator is not None and comparator.HasField(measure) else None


def _vocabularies(graph: str, features: FeatureTable) -> dict[str, frozenset[bytes]]:
    try:
        found = read_vocabularies(f"{graph}/transform_fn", features)
    except tf.errors.NotFoundError as error:
        raise BaselineGone(
            f"{graph}: the vocabularies are gone, or of an older release: {error.message}",
            "Run `adclick run` again: it makes them anew.",
        ) from None
    return {name: frozenset(values) for name, values in found.items()}


def _unknown_rate(counts: Any, known: frozenset[bytes]) -> float:
    values, numbers = counts["value"].to_pylist(), counts["count"].to_pylist()
    present = [(v, n) for v, n in zip(values, numbers, strict=True) if v != MISSING_VALUE.encode()]
    total = sum(number for _, number in present)
    return sum(number for value, number in present if value not in known) / total if total else 0.0


def _unknown_images(part: _Part, features: FeatureTable) -> float | None:
    if features.image_name is None or features.image_status_name not in part.features:
        return None
    statuses = _value_counts(part.features[features.image_status_name])
    given = sum(count for status, count in statuses.items() if status != _NONE)
    return 1 - statuses.get(_OK, 0.0) / given if given else 0.0


def _tenths(parts: Sequence[Distribution]) -> tuple[Floats, Floats] | None:
    """Edges and counts of bins that hold about a tenth of a quantity's values each; fewer where values repeat."""
    if not parts:
        return None
    edges = np.array(boundaries(parts, _BINS), np.float64)
    values = np.concatenate([part.quantiles for part in parts])
    weights = np.concatenate([np.full(len(part.quantiles), part.count / len(part.quantiles)) for part in parts])
    counts = np.bincount(np.searchsorted(edges, values, side="right"), weights, len(edges) + 1)
    return edges, np.asarray(counts, np.float64)
