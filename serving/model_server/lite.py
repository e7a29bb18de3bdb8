"""A version's LiteRT model (`model.tflite`), run where TensorFlow Serving's `--prefer_tflite_model` wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from queue import Queue
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from adclick.serving.errors import InternalError, InvalidArgumentError
from adclick.serving.model_server.inference import PREDICT
from adclick.serving.model_server.servable import DEFAULT_SIGNATURE, Array, Servable

LITE_FILE = "model.tflite"
#: Where a converter keeps a model's `SignatureDef`s.
_SIGNATURES = b"signature_defs_metadata"


class LiteServable(Servable):
    """A loaded LiteRT model, whose signatures can be run from many threads at once.

    Args:
        content: The model's file.
        interpreters: How many runs there may be at the same time.

    Raises:
        InvalidArgumentError: It is no LiteRT model, or a signature names a tensor that it has not.
    """

    def __init__(self, content: bytes, interpreters: int) -> None:
        try:
            pool = [tf.lite.Interpreter(model_content=content) for _ in range(max(1, interpreters))]
        except (ValueError, RuntimeError) as error:
            raise InvalidArgumentError(f"Cannot build FlatBufferModel from buffer. {error}") from error
        self._inputs = {str(entry["name"]): entry for entry in pool[0].get_input_details()}
        self._outputs = {str(entry["name"]): entry for entry in pool[0].get_output_details()}
        self._pool: Queue[Any] = Queue()
        for interpreter in pool:
            self._pool.put(interpreter)
        definitions = _declared_signatures(content) or {DEFAULT_SIGNATURE: self._whole_model()}
        for definition in definitions.values():
            for info in definition.inputs.values():
                info.name = _known_name(info.name, self._inputs)
            for info in definition.outputs.values():
                info.name = _known_name(info.name, self._outputs)
        self._describe(definitions)

    @classmethod
    def load_lite(cls, folder: str, interpreters: int) -> LiteServable:
        """Loads the model of a version's folder; raises as the class does."""
        with tf.io.gfile.GFile(os.path.join(folder, LITE_FILE), "rb") as file:
            return cls(file.read(), interpreters)

    def call(
        self,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        values: Sequence[Array],
        deadline: float | None = None,
    ) -> list[Array]:
        """As `Servable.call`; a run does not end at its deadline."""
        interpreter = self._pool.get()
        try:
            shapes = {entry["name"]: tuple(entry["shape"]) for entry in interpreter.get_input_details()}
            for name, value in zip(feeds, values, strict=True):
                if shapes[name] != value.shape:
                    interpreter.resize_tensor_input(self._inputs[name]["index"], value.shape)
            interpreter.allocate_tensors()
            for name, value in zip(feeds, values, strict=True):
                interpreter.set_tensor(self._inputs[name]["index"], value)
            interpreter.invoke()
            return [np.array(interpreter.get_tensor(self._outputs[name]["index"])) for name in fetches]
        except (ValueError, RuntimeError) as error:
            raise InternalError(f"Failed to invoke TfLite interpreter: {error}") from error
        finally:
            self._pool.put(interpreter)

    def close(self) -> None:
        """Frees the model, interpreter by interpreter as each is idle."""
        while not self._pool.empty():
            self._pool.get_nowait()

    def _whole_model(self) -> Any:
        """The signature of a model that declares none: its inputs and outputs by the names of their tensors."""
        definition = meta_graph_pb2.SignatureDef(method_name=PREDICT)
        for infos, entries in ((definition.inputs, self._inputs), (definition.outputs, self._outputs)):
            for name, entry in entries.items():
                info = infos[name.partition(":")[0]]
                info.name = name
                info.dtype = tf.as_dtype(entry["dtype"]).as_datatype_enum
                info.tensor_shape.SetInParent()
                for size in entry["shape"]:
                    info.tensor_shape.dim.add(size=int(size))
        return definition


def _declared_signatures(content: bytes) -> dict[str, Any]:
    from flatbuffers import flexbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for index in range(model.MetadataLength()):
        metadata = model.Metadata(index)
        if metadata.Name() == _SIGNATURES:
            declared = flexbuffers.GetRoot(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes()).AsMap
            names = [str(key.AsKey) for key in declared.Keys]
            return {name: meta_graph_pb2.SignatureDef.FromString(declared[name].AsStringBytes) for name in names}
    return {}


def _known_name(name: str, tensors: Mapping[str, Any]) -> str:
    """A tensor's name in the model, which may leave out the number of the output."""
    if name in tensors:
        return name
    shorter = name.partition(":")[0]
    if shorter not in tensors:
        raise InvalidArgumentError(f"Signature references an unknown tensor: Unknown tensor '{shorter}'.")
    return shorter
