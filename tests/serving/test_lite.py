"""LiteRT models: what of them a client sees and gets, and when they are preferred."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.errors import InvalidArgumentError
from serving.model_server.configuration import ModelConfig
from serving.model_server.dataplane import ModelServer, ServerOptions
from serving.model_server.lite import LITE_FILE, LiteServable
from serving.model_server.model_set import ModelSpec
from serving.model_server.servable import LoadOptions


@pytest.fixture(scope="module")
def lite_model() -> bytes:
    """y = x / 2 + 2."""

    @tf.function(input_signature=[tf.TensorSpec([1, 1], tf.float32, "x")])
    def half_plus_two(x: tf.Tensor) -> tf.Tensor:
        return tf.identity(x / 2 + 2, "y")

    converter = tf.lite.TFLiteConverter.from_concrete_functions([half_plus_two.get_concrete_function()])
    return bytes(converter.convert())


def test_a_model_without_signatures_is_called_by_its_tensors(lite_model: bytes) -> None:
    servable = LiteServable(lite_model, 2)
    (signature,) = servable.signatures.values()
    (name,), (output,) = signature.inputs, signature.outputs
    for shape in ((1, 1), (3, 1), (1, 1)):
        answer = servable.run("serving_default", {name: np.full(shape, 4.0, np.float32)})
        np.testing.assert_array_equal(answer[output], np.full(shape, 4.0))
    with pytest.raises(InvalidArgumentError, match=r"Expects arg\[0\] to be float but int32 is provided"):
        servable.run("serving_default", {name: np.zeros((1, 1), np.int32)})
    servable.close()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Cannot build FlatBufferModel from buffer"):
        LiteServable(b"broken", 1)


@pytest.mark.parametrize("prefers_lite", [True, False])
def test_it_is_served_where_it_is_preferred(lite_model: bytes, tmp_path: Path, prefers_lite: bool) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / LITE_FILE).write_bytes(lite_model)
    options = ServerOptions(poll_seconds=0, load=LoadOptions(prefers_lite=prefers_lite))
    server = ModelServer((ModelConfig("lite", str(tmp_path)),), options=options)
    server.start()
    assert server.is_ready() == prefers_lite
    if prefers_lite:
        (name,) = server.metadata(ModelSpec("lite")).signature_defs["serving_default"].inputs
        _, answer = server.predict_tensors(ModelSpec("lite"), {name: np.array([[2.0]], np.float32)})
        assert [value.tolist() for value in answer.values()] == [[[3.0]]]
    server.stop()
