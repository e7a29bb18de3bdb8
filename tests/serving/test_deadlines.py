"""Runs end with their requests' deadlines, and with the server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from adclick.serving.errors import Code, ServingError
from adclick.serving.model_server.batching import BatchingRunner, Runner, SingleRunner
from adclick.serving.model_server.configuration import BatchingOptions, ModelConfig
from adclick.serving.model_server.dataplane import ModelServer, ServerOptions
from adclick.serving.model_server.model_set import ModelSpec
from adclick.serving.model_server.servable import Servable

X = {"x": np.array([1.0], np.float32)}


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts for hours before it answers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def count(x: tf.Tensor) -> dict[str, tf.Tensor]:
        (total,) = tf.while_loop(lambda i: i < 10**12, lambda i: (i + 1,), (tf.constant(0, tf.int64),))
        return {"y": x + tf.cast(total, tf.float32)}

    base = tmp_path_factory.mktemp("endless")
    tf.saved_model.save(tf.Module(), str(base / "1"), signatures={"serving_default": count.get_concrete_function()})
    return base


def test_a_run_ends_at_its_deadline(endless: Path) -> None:
    servable = Servable.load(endless / "1")
    call = servable.prepare("serving_default", X)
    with pytest.raises(ServingError) as end:
        servable.call(call.feeds, call.fetches, call.values, time.monotonic() + 0.2)
    assert end.value.code is Code.DEADLINE_EXCEEDED
    servable.close()


@pytest.mark.parametrize("batched", [False, True])
def test_the_end_of_the_server_ends_what_runs_on(endless: Path, batched: bool) -> None:
    runner: Runner = BatchingRunner(BatchingOptions(batch_timeout_seconds=0)) if batched else SingleRunner()
    server = ModelServer((ModelConfig("endless", str(endless)),), options=ServerOptions(poll_seconds=0), runner=runner)
    server.start()
    before = threading.active_count()
    begun = server.begin(ModelSpec("endless"), X)
    server.stop(within_seconds=0.3)
    with pytest.raises(ServingError) as end:
        begun.run.result(60)
    assert end.value.code is Code.CANCELLED
    assert threading.active_count() <= before + 1
