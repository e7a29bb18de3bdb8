"""Models with operations of other packages."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from adclick.serving.errors import Code, ServingError
from adclick.serving.model_server.foreign_ops import with_foreign_ops
from adclick.serving.model_server.servable import Servable


def test_an_operation_that_no_package_brings_is_named(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.add(x, x)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"serving_default": double.get_concrete_function()})
    file = tmp_path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.op = {"AddV2": "SplitIntoSyllables"}.get(node.op, node.op)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ServingError) as refusal:
        Servable.load(tmp_path)
    assert refusal.value.code is Code.NOT_FOUND
    assert "Op type not registered 'SplitIntoSyllables'" in refusal.value.message
    assert "tensorflow-text" in refusal.value.message


def test_other_failures_are_left_alone() -> None:
    tried = []

    def load() -> None:
        tried.append(1)
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        with_foreign_ops(load)
    assert tried == [1]
