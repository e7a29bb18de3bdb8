"""Requests that a model answers before it is served, so that no client waits for what the first one makes ready."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from adclick.serving.errors import DataLossError, InvalidArgumentError, ServingError, UnimplementedError
from adclick.serving.model_server import inference
from adclick.serving.model_server.metrics import Metrics
from adclick.serving.model_server.servable import DEFAULT_SIGNATURE, Servable
from adclick.serving.model_server.tensor_proto import array_from_proto

logger = logging.getLogger(__name__)

#: Where a SavedModel keeps them: a TFRecord file of `PredictionLog`s.
WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MOST_RECORDS = 1000


def warm_up(servable: Servable, folder: str, iterations: int, metrics: Metrics) -> None:
    """Runs a version's warm-up requests, if it has some.

    Args:
        servable: The loaded version.
        folder: Its folder.
        iterations: How often each request runs.
        metrics: Where the time it took is recorded.

    Raises:
        ServingError: A request cannot be read, or the model refuses it.
    """
    path = os.path.join(folder, WARMUP_FILE)
    if not tf.io.gfile.exists(path):
        return
    started = time.monotonic()
    status = "OK"
    count = 0
    try:
        for record in _records(path):
            for _ in range(iterations):
                _replay(servable, record)
            count += 1
    except ServingError as error:
        status = error.described()
        raise
    finally:
        seconds = time.monotonic() - started
        metrics.model_warmup_latency.record(seconds * 1e6, folder, status)
        metrics.model_warmup_records_read.add(folder, status, amount=count)
    logger.info("%s: ran %d warm-up requests in %.2f s", folder, count, seconds)


def _records(path: str) -> Iterator[Any]:
    try:
        for index, record in enumerate(tf.compat.v1.io.tf_record_iterator(path)):
            if index >= _MOST_RECORDS:
                raise InvalidArgumentError(f"Number of warmup records exceeds the maximum ({_MOST_RECORDS}) at {path}")
            try:
                yield prediction_log_pb2.PredictionLog.FromString(record)
            except Exception as error:  # The kind of a parse error depends on protobuf's implementation.
                raise InvalidArgumentError(f"Failed to parse warmup record: {record!r} from {path}") from error
    except tf.errors.DataLossError as error:
        raise DataLossError(f"{error.message}. Please verify your warmup data is in TFRecord format.") from error


def _replay(servable: Servable, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = {name: array_from_proto(proto, name) for name, proto in request.inputs.items()}
        outputs = list(request.output_filter) or None
        servable.run(request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs, outputs)
        return
    if kind == "classify_log":
        request, method = log.classify_log.request, inference.CLASSIFY
    elif kind == "regress_log":
        request, method = log.regress_log.request, inference.REGRESS
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        call = inference.prepare_tasks(servable, request.tasks, checks_method=False).call
        servable.call(call.feeds, call.fetches, (inference.examples_from_input(request.input),) * len(call.feeds))
        return
    elif kind == "session_run_log":
        raise UnimplementedError(f"Unsupported log_type for warmup: {kind}")
    else:
        return
    definition = inference.signature_of(servable, request.model_spec.signature_name, method, checks_method=False)
    call = inference.prepare(definition, method, checks_method=False)
    servable.call(call.feeds, call.fetches, (inference.examples_from_input(request.input),) * len(call.feeds))
