"""A sample of what was asked and answered, as TFRecord files of `tf.Example`s that TFDV reads.

Each ad is an example: the model's inputs under their names (`logged_name`), as they were received but for the user's
name, which is hashed, and beside them

- `click_probability`, `model_version`, `route`;
- `request_id`, `context_index` (which context of a `score:batch`, otherwise 0) and `ad_index`, which together
  name it, and `impression_id` where the request gave one: by either a click finds its prediction;
- `creative_status`, as the answer gives it, where the model takes an image;
- `hashed_columns`, whose values are hashes and not what the model saw;
- `sample_percent`, the share of requests that was logged, and `logged_at`, in seconds since 1970.

A file is written under a hidden name and gets its own when it is whole.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.security import keyed_hash
from adclick.serving.gateway.settings import LogSettings

logger = logging.getLogger(__name__)

CLICK_PROBABILITY = "click_probability"
MODEL_VERSION = "model_version"
ROUTE = "route"
REQUEST_ID = "request_id"
CONTEXT_INDEX = "context_index"
AD_INDEX = "ad_index"
IMPRESSION_ID = "impression_id"
CREATIVE_STATUS = "creative_status"
HASHED_COLUMNS = "hashed_columns"
SAMPLE_PERCENT = "sample_percent"
LOGGED_AT = "logged_at"

_OWN_NAMES = frozenset(
    {
        CLICK_PROBABILITY,
        MODEL_VERSION,
        ROUTE,
        REQUEST_ID,
        CONTEXT_INDEX,
        AD_INDEX,
        IMPRESSION_ID,
        CREATIVE_STATUS,
        HASHED_COLUMNS,
        SAMPLE_PERCENT,
        LOGGED_AT,
    }
)
_SUFFIX = ".tfrecord"
_PARTIAL = ".part"
_MOST_WAITING = 1_000


def logged_name(column: str) -> str:
    """The feature that a column is logged as: of its own name, and an underscore more where the log might have it."""
    return f"{column}_" if column.rstrip("_") in _OWN_NAMES else column


@dataclass(frozen=True)
class Prediction:
    """The ads of one context with their answers.

    Attributes:
        request_id: The request.
        context_index: Which of the request's contexts.
        route: The route that it took.
        model_version: The version that answered.
        columns: The model's inputs, a row for each ad; the image as its creative's key.
        probabilities: The click probabilities.
        impression_ids: What the request names each impression; empty where it does not.
        creative_statuses: What came of each image; empty where the model takes none.
        logged_at: When, in seconds since 1970.
    """

    request_id: str
    context_index: int
    route: str
    model_version: int
    columns: Mapping[str, np.ndarray[Any, Any]]
    probabilities: np.ndarray[Any, Any]
    impression_ids: Sequence[bytes]
    creative_statuses: Sequence[str]
    logged_at: float


class PredictionLog:
    """Writes predictions in a thread of its own; when that falls behind, predictions are dropped and counted.

    Args:
        settings: Where, in a folder that is there, and how much.
        hash_key: The secret with which people's names are hashed.
        metrics: Where predictions are counted.
    """

    def __init__(self, settings: LogSettings, hash_key: bytes, metrics: GatewayMetrics) -> None:
        assert settings.predictions is not None
        self._folder = settings.predictions
        self._settings = settings
        self._hash_key = hash_key
        self._metrics = metrics
        self._waiting: queue.Queue[Prediction | None] = queue.Queue(_MOST_WAITING)
        self._writer: Any = None
        self._partial: Path | None = None
        self._opened = 0.0
        self._written = 0
        self._count = 0
        for leftover in self._folder.glob(f".*{_PARTIAL}"):
            logger.warning("removing %s, which an earlier process did not finish", leftover)
            leftover.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, prediction: Prediction) -> None:
        """Hands over a prediction; never waits."""
        try:
            self._waiting.put_nowait(prediction)
        except queue.Full:
            self._metrics.logged.labels("dropped").inc(len(prediction.probabilities))

    def close(self) -> None:
        """Writes what waits and finishes the file."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                prediction = self._waiting.get(timeout=1.0)
            except queue.Empty:
                self._finish_if_due()
                continue
            if prediction is None:
                self._finish()
                return
            try:
                self._write(prediction)
                self._metrics.logged.labels("written").inc(len(prediction.probabilities))
            except Exception:  # A full disk must not end the log, let alone the gateway.
                logger.exception("a prediction could not be logged")
                self._metrics.logged.labels("failed").inc(len(prediction.probabilities))
                self._discard()
            self._finish_if_due()

    def _write(self, prediction: Prediction) -> None:
        import tensorflow as tf

        if self._writer is None:
            self._count += 1
            name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09d}-{self._count:06d}"
            self._partial = self._folder / f".{name}{_SUFFIX}{_PARTIAL}"
            self._writer = tf.io.TFRecordWriter(str(self._partial))
            self._opened, self._written = time.monotonic(), 0
        for index in range(len(prediction.probabilities)):
            record = self._example(tf, prediction, index).SerializeToString()
            self._writer.write(record)
            self._written += len(record) + 16

    def _example(self, tf: Any, prediction: Prediction, index: int) -> Any:
        example = tf.train.Example()
        feature = example.features.feature
        for name, column in prediction.columns.items():
            values = np.atleast_1d(column[index])
            logged = feature[logged_name(name)]
            if column.dtype.kind == "O":
                present = [value for value in values.tolist() if value]
                if name == self._settings.user_field:
                    present = [
                        keyed_hash(self._hash_key, value.decode("utf-8", "replace")).encode() for value in present
                    ]
                    feature[HASHED_COLUMNS].bytes_list.value.append(name.encode())
                logged.bytes_list.value.extend(present)
            elif column.dtype.kind == "f":
                logged.float_list.value.extend(value for value in values.tolist() if value == value)
            else:
                logged.int64_list.value.extend(value for value in values.tolist() if value >= 0)
        feature[CLICK_PROBABILITY].float_list.value.append(float(prediction.probabilities[index]))
        feature[MODEL_VERSION].int64_list.value.append(prediction.model_version)
        feature[ROUTE].bytes_list.value.append(prediction.route.encode())
        feature[REQUEST_ID].bytes_list.value.append(prediction.request_id.encode())
        feature[CONTEXT_INDEX].int64_list.value.append(prediction.context_index)
        feature[AD_INDEX].int64_list.value.append(index)
        if prediction.impression_ids[index]:
            feature[IMPRESSION_ID].bytes_list.value.append(prediction.impression_ids[index])
        if prediction.creative_statuses[index]:
            feature[CREATIVE_STATUS].bytes_list.value.append(prediction.creative_statuses[index].encode())
        feature[SAMPLE_PERCENT].float_list.value.append(self._settings.sample_percent)
        feature[LOGGED_AT].int64_list.value.append(int(prediction.logged_at))
        return example

    def _finish_if_due(self) -> None:
        if self._writer is None:
            return
        is_old = time.monotonic() - self._opened >= self._settings.file_seconds
        if is_old or self._written >= self._settings.file_bytes:
            self._finish()

    def _finish(self) -> None:
        if self._writer is None or self._partial is None:
            return
        self._writer.close()
        self._partial.rename(self._folder / self._partial.name.removeprefix(".").removesuffix(_PARTIAL))
        self._writer, self._partial = None, None
        files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        sizes = {file: file.stat().st_size for file in files}
        while len(files) > 1 and sum(sizes[file] for file in files) > self._settings.total_bytes:
            files.pop(0).unlink(missing_ok=True)

    def _discard(self) -> None:
        self._writer = None
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
            self._partial = None
