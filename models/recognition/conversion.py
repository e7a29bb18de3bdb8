"""From the trained network to LiteRT, in three forms, of which the best within limits is taken."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Form = Literal["float32", "float16", "int8"]
FORMS: tuple[Form, ...] = ("float32", "float16", "int8")


class _Embedder(tf.Module):
    def __init__(self, network: keras.Model) -> None:
        # Keras' own variables are not tracked outside Keras.
        self._kept = [variable.value for variable in network.variables]
        self._network = network

    def embed(self, pixels: tf.Tensor) -> tf.Tensor:
        return self._network(pixels, training=False)


def convert(network: keras.Model, form: Form, examples: npt.NDArray[np.float32]) -> bytes:
    """The network as a LiteRT file: float32 [1, S, S, 3], 0 to 255, to float32 [1, D] of unit length.

    Args:
        network: The embedder.
        form: How its numbers are held: `int8` quantises weights and activations by the examples' ranges (full-integer
            post-training quantisation with float input and output).
        examples: Captures float32 [examples, S, S, 3] that tell the ranges.
    """
    side = int(network.input_shape[1])
    module = _Embedder(network)
    signature = tf.function(module.embed, input_signature=[tf.TensorSpec([1, side, side, 3], tf.float32, "pixels")])
    with tempfile.TemporaryDirectory(prefix="adclick-recogniser-") as folder:
        tf.saved_model.save(module, folder, signatures=signature.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if form != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if form == "int8":

            def ranges() -> Iterator[list[Any]]:
                for example in examples:
                    yield [example[None]]

            converter.representative_dataset = ranges
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,
            ]
        return bytes(converter.convert())


class ConvertedRecogniser:
    """A LiteRT file as a device runs it, on one thread.

    Args:
        model: The file's bytes.
    """

    def __init__(self, model: bytes) -> None:
        self._interpreter = tf.lite.Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._seconds: list[float] = []

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The embeddings [images, D] of images uint8 [images, S, S, 3], one after the other."""
        embeddings = []
        for image in pixels:
            begin = time.perf_counter()
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(image[None], np.float32))
            self._interpreter.invoke()
            embeddings.append(np.array(self._interpreter.get_tensor(self._output)[0]))
            self._seconds.append(time.perf_counter() - begin)
        return np.array(embeddings, np.float32)

    def median_milliseconds(self) -> float:
        """How long one embedding took, of all that were asked for."""
        return 1_000 * float(np.median(self._seconds))
