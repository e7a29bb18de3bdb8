"""What the prediction log says of each version's traffic, added up a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl import sketches
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from adclick.models.analysis import first_values
from adclick.models.metrics.counts import FOLDS, SliceCounts, add, count
from adclick.models.training_data import record_datasets
from adclick.pipeline.monitor.baseline import TrafficBaseline
from adclick.pipeline.monitor.clicks import Keys, Named, impression_keys, request_keys
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import FeatureTable, RawType
from adclick.serving.gateway.prediction_log import (
    AD_INDEX,
    CLICK_PROBABILITY,
    CONTEXT_INDEX,
    CREATIVE_STATUS,
    HASHED_COLUMNS,
    IMPRESSION_ID,
    LOGGED_AT,
    MODEL_VERSION,
    REQUEST_ID,
    SAMPLE_PERCENT,
    logged_name,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BATCH_ROWS = 8_192
#: So many distinct values of a column are counted exactly; beyond them shares are too low by at most its reciprocal
#: (Misra & Gries 1982, "Finding repeated elements").
_SKETCHED_VALUES = 16_384
_TYPES = {RawType.STRING: schema_pb2.BYTES, RawType.INT: schema_pb2.INT, RawType.FLOAT: schema_pb2.FLOAT}
_ARROW_TYPES = {schema_pb2.BYTES: pa.binary(), schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32()}
_LOG_TYPES = {
    CLICK_PROBABILITY: schema_pb2.FLOAT,
    MODEL_VERSION: schema_pb2.INT,
    REQUEST_ID: schema_pb2.BYTES,
    CONTEXT_INDEX: schema_pb2.INT,
    AD_INDEX: schema_pb2.INT,
    IMPRESSION_ID: schema_pb2.BYTES,
    CREATIVE_STATUS: schema_pb2.BYTES,
    HASHED_COLUMNS: schema_pb2.BYTES,
    SAMPLE_PERCENT: schema_pb2.FLOAT,
    LOGGED_AT: schema_pb2.INT,
}


@dataclass(frozen=True)
class LoggedBatch:
    """Some predictions of the log.

    Attributes:
        columns: Arrow lists by `logged_name` of a column of the model, or by name of the log's own; a list without a
            value where it is missing.
    """

    columns: pa.RecordBatch

    def __len__(self) -> int:
        return self.columns.num_rows

    def numbers(self, name: str, default: float) -> Floats:
        """One number for each prediction, float64 [rows]."""
        rows, values = first_values(self.columns[name])
        found = np.full(len(self), default)
        found[rows] = values.to_numpy(zero_copy_only=False)
        return found

    def texts(self, name: str) -> list[bytes]:
        """One text for each prediction, empty where it has none."""
        rows, values = first_values(self.columns[name])
        found = [b""] * len(self)
        for row, value in zip(rows.tolist(), values.to_pylist(), strict=True):
            found[row] = value
        return found

    def filtered(self, rows: Bools) -> LoggedBatch:
        """Some of the predictions."""
        return self if rows.all() else LoggedBatch(self.columns.filter(pa.array(rows)))


def _types(features: FeatureTable) -> dict[str, int]:
    return {logged_name(name): _TYPES[features.raw_type(name)] for name in features.model_inputs} | _LOG_TYPES


def batch_of(rows: int, columns: Mapping[str, Sequence[list[Any] | None]], features: FeatureTable) -> LoggedBatch:
    """Predictions that are not of the gateway's log, in the same form.

    Args:
        rows: How many.
        columns: By name as in `LoggedBatch`, for each prediction its values, or None where they are missing; a column
            that is left out is missing in all.
        features: The columns that requests carry.
    """
    missing = [None] * rows
    lists = {
        name: pa.array(columns.get(name, missing), pa.list_(_ARROW_TYPES[kind]))
        for name, kind in _types(features).items()
    }
    return LoggedBatch(pa.RecordBatch.from_pydict(lists))


def read_log(files: Sequence[Path], features: FeatureTable) -> Iterator[LoggedBatch]:
    """Reads a prediction log in batches.

    Args:
        files: TFRecord files of the gateway.
        features: The columns that requests carry.

    Raises:
        DataRefused: A file is damaged, or a column has another type than the features say; names the file.
    """
    schema = schema_pb2.Schema()
    for name, kind in _types(features).items():
        schema.feature.add(name=name, type=kind)
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    for file in files:
        try:
            for records in record_datasets([str(file)]):
                for examples in records.batch(_BATCH_ROWS).prefetch(2):
                    yield LoggedBatch(decoder.DecodeBatch(examples.numpy().tolist()))
        except tf.errors.DataLossError as error:
            raise DataRefused(f"{file}: damaged: {error.message}", "Leave the file out.") from None
        except (ValueError, RuntimeError) as error:
            raise DataRefused(
                f"{file}: not predictions of a model with the config's columns: {error}",
                "Give the config that the served model was trained with.",
            ) from None


class ServedTraffic:
    """The traffic of one version.

    Args:
        version: The version.
        baseline: What it was trained on; None where that is not known.

    Attributes:
        predictions: Predictions.
        requests: Contexts that they were asked for; what is known of a request's ads is not independent.
        first: When the first was made, in seconds since 1970.
        last: When the last was made.
        missing: By column but the image's, predictions without a value.
        present: By categorical column, values.
        unknown: By vocabulary column, values that the model does not know.
        bins: By quantity, values in each bin of the baseline.
        creative_statuses: Predictions by what came of their image.
        hashed: Columns whose values were hashed.
        sample_percents: The shares of requests that were logged.
        labelled: Predictions whose window has passed or whose click has come.
        clicked: Predictions whose click has come.
        counts: Of predictions whose window has passed, what the metrics are computed from; None if there is none.
    """

    def __init__(self, version: int, baseline: TrafficBaseline | None) -> None:
        self.version = version
        self.baseline = baseline
        self.predictions = 0
        self.requests = 0
        self.first = np.inf
        self.last = -np.inf
        self.missing: Counter[str] = Counter()
        self.present: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.bins: dict[str, Floats] = {}
        self.creative_statuses: Counter[str] = Counter()
        self.hashed: set[str] = set()
        self.sample_percents: set[float] = set()
        self.labelled = 0
        self.clicked = 0
        self.counts: SliceCounts | None = None
        self._sums = np.zeros(2)
        self._last_request: tuple[bytes, float] | None = None
        self._sketches: dict[str, Any] = {}
        if baseline is not None:
            self.bins = {name: np.zeros(len(one.counts)) for name, one in baseline.numeric.items()}
            self._sketches = {
                name: sketches.MisraGriesSketch(_SKETCHED_VALUES)
                for name, one in baseline.categorical.items()
                if one.threshold is not None
            }

    @property
    def mean_prediction(self) -> float:
        return float(self._sums[0] / self.predictions)

    @property
    def prediction_deviation(self) -> float:
        """The standard deviation of the predictions."""
        return float(np.sqrt(max(0.0, self._sums[1] / self.predictions - self.mean_prediction**2)))

    def value_counts(self, name: str) -> dict[bytes, float]:
        """How often each value of a column with a comparator occurs."""
        found = self._sketches[name].Estimate()
        return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))

    def add(self, batch: LoggedBatch, is_clicked: Bools | None, has_passed: Bools | None) -> None:
        """Adds predictions of this version.

        Args:
            batch: The predictions; one at least.
            is_clicked: Whether each was clicked in time [rows]; None where clicks are not known.
            has_passed: Whether the window in which a click may come has passed for each [rows].
        """
        prediction, logged_at = batch.numbers(CLICK_PROBABILITY, np.nan), batch.numbers(LOGGED_AT, np.nan)
        requests = self._count_requests(batch)
        self.predictions += len(batch)
        self.first, self.last = min(self.first, logged_at.min()), max(self.last, logged_at.max())
        self._sums += prediction.sum(), np.square(prediction).sum()
        self.sample_percents |= set(np.unique(batch.numbers(SAMPLE_PERCENT, np.nan).round(4)).tolist())
        self.hashed |= {name.decode() for name in pc.unique(pc.list_flatten(batch.columns[HASHED_COLUMNS])).to_pylist()}
        self.creative_statuses.update(status.decode() for status in batch.texts(CREATIVE_STATUS) if status)
        if self.baseline is not None:
            self._add_columns(batch, self.baseline)
        if is_clicked is None or has_passed is None:
            return
        self.labelled += int((is_clicked | has_passed).sum())
        self.clicked += int(is_clicked.sum())
        # A prediction that is none alarms by the mean; it has no metrics.
        judged = has_passed & np.isfinite(prediction)
        if judged.any():
            counted = count(prediction[judged], is_clicked[judged], np.ones(judged.sum()), requests[judged])
            self.counts = counted if self.counts is None else add([self.counts, counted])

    def _count_requests(self, batch: LoggedBatch) -> npt.NDArray[np.int64]:
        """Counts contexts; gives the fold of each prediction, the same for all of a request."""
        texts = batch.texts(REQUEST_ID)
        names = list(zip(texts, batch.numbers(CONTEXT_INDEX, 0).tolist(), strict=True))
        # The ads of a context stand one after the other.
        self.requests += sum(one != before for before, one in zip([self._last_request, *names], names, strict=False))
        self._last_request = names[-1]
        keys = request_keys(texts, [0] * len(texts), [0] * len(texts))
        return (keys % FOLDS).astype(np.int64)

    def _add_columns(self, batch: LoggedBatch, baseline: TrafficBaseline) -> None:
        for name, column in baseline.features.model_inputs.items():
            logged = logged_name(name)
            if logged not in batch.columns.schema.names or name == baseline.features.image_name:
                continue
            lists = batch.columns[logged]
            rows, first = first_values(lists)
            self.missing[name] += len(batch) - len(rows)
            if name in baseline.numeric:
                edges = baseline.numeric[name].edges
                values = np.asarray(first, np.float64)
                places = np.searchsorted(edges, values[np.isfinite(values)], side="right")
                self.bins[name] += np.bincount(places, minlength=len(edges) + 1)
            elif name in baseline.categorical and name not in self.hashed:
                values = pc.list_flatten(lists) if column.is_list else first
                self._add_values(name, values, baseline.categorical[name].vocabulary)

    def _add_values(self, name: str, values: pa.Array, vocabulary: frozenset[bytes] | None) -> None:
        self.present[name] += len(values)
        if name in self._sketches:
            self._sketches[name].AddValues(values)
        if vocabulary is not None:
            found = pc.value_counts(values)
            pairs = zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)
            self.unknown[name] += sum(number for value, number in pairs if value not in vocabulary)


@dataclass
class LogCounts:
    """What was read of the log.

    Attributes:
        files: Files.
        predictions: Predictions in them.
        outside: Predictions out of the range of time.
        other_versions: Predictions of versions that were not asked for.
        not_shown: Predictions of ads that were not shown.
    """

    files: int = 0
    predictions: int = 0
    outside: int = 0
    other_versions: int = 0
    not_shown: int = 0


@dataclass(frozen=True)
class Selection:
    """Which predictions count.

    Attributes:
        since: Made at this moment or later, in seconds since 1970.
        until: Made before this moment.
        version: Of this version; of all if None.
    """

    since: float = -np.inf
    until: float = np.inf
    version: int | None = None


def keys_of(batch: LoggedBatch, by: set[str]) -> list[Keys]:
    """Hashes of the predictions' names, by each way in which clicks name them."""
    found = []
    if IMPRESSION_ID in by:
        found.append(impression_keys(batch.texts(IMPRESSION_ID)))
    if REQUEST_ID in by:
        contexts, ads = (batch.numbers(name, 0).astype(np.int64).tolist() for name in (CONTEXT_INDEX, AD_INDEX))
        found.append(request_keys(batch.texts(REQUEST_ID), contexts, ads))
    return found


class Join(Protocol):
    """Tells predictions what came of them.

    Attributes:
        by: How it knows them: by `impression_id`, `request_id` or both.
    """

    @property
    def by(self) -> set[str]: ...

    def label(self, keys_by_name: Sequence[Keys], logged_at: Floats) -> tuple[Bools, Bools]:
        """Whether each prediction's label is 1, and whether its label is known [rows]; see `keys_of`."""


class TrafficReader:
    """Adds up a prediction log by version.

    Args:
        selection: Which predictions count.
        baselines: Gives what a version was trained on, None where that is not known; asked once for each.
        join: Tells which predictions were clicked; None without clicks.
        shown: Tells which ads were shown; None if all were.
    """

    def __init__(
        self,
        selection: Selection,
        baselines: Callable[[int], TrafficBaseline | None],
        join: Join | None,
        shown: Named | None,
    ) -> None:
        self.by_version: dict[int, ServedTraffic] = {}
        self.counts = LogCounts()
        self._selection = selection
        self._baselines = baselines
        self._join = join
        self._shown = shown

    def add(self, batch: LoggedBatch) -> None:
        """Adds some predictions."""
        self.counts.predictions += len(batch)
        logged_at, versions = batch.numbers(LOGGED_AT, np.nan), batch.numbers(MODEL_VERSION, -1).astype(np.int64)
        is_clicked = has_passed = None
        if self._join is not None:
            # Of all predictions, whichever count: a click of another one has found its own, too.
            is_clicked, has_passed = self._join.label(keys_of(batch, self._join.by), logged_at)
        selection = self._selection
        chosen = (logged_at >= selection.since) & (logged_at < selection.until)
        self.counts.outside += int((~chosen).sum())
        if selection.version is not None:
            self.counts.other_versions += int((chosen & (versions != selection.version)).sum())
            chosen &= versions == selection.version
        if self._shown is not None:
            is_shown = np.zeros(len(batch), bool)
            for keys in keys_of(batch, self._shown.by):
                is_shown |= self._shown.find(keys)[1]
            self.counts.not_shown += int((chosen & ~is_shown).sum())
            chosen &= is_shown
        for version in np.unique(versions[chosen]).tolist():
            if version not in self.by_version:
                self.by_version[version] = ServedTraffic(version, self._baselines(version))
            rows = chosen & (versions == version)
            labels = (None, None) if is_clicked is None or has_passed is None else (is_clicked[rows], has_passed[rows])
            self.by_version[version].add(batch.filtered(rows), *labels)
