"""One version of a model, loaded as TensorFlow Serving's C++ loader does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions

from serving.errors import (
    Code,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ServingError,
)

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
DEFAULT_SIGNATURE = "serving_default"
SERVE_TAG = "serve"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: Its type.
        shape: Its dimensions, None where any size will do; None as a whole if the rank is unknown. Informative, as in
            TensorFlow Serving: the graph decides what it can take.
        tensor_name: The tensor's name in the graph.
    """

    dtype: tf.DType
    shape: tuple[int | None, ...] | None
    tensor_name: str


@dataclass(frozen=True)
class Signature:
    """A function of the model: its inputs and outputs by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


class Servable:
    """A loaded SavedModel, of TensorFlow 1 or 2, whose signatures can be run from many threads at once.

    Attributes:
        signatures: The signatures that can be run, by name.
        signature_defs: Every `SignatureDef` of the SavedModel, by name, as a client is shown them.
    """

    def __init__(self, session: tf.compat.v1.Session, signature_defs: Mapping[str, Any]) -> None:
        self._session = session
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._building = threading.Lock()
        self.signature_defs = dict(signature_defs)
        self.signatures: Mapping[str, Signature] = {
            name: signature
            for name, definition in sorted(signature_defs.items())
            if (signature := _signature(definition)) is not None
        }

    @classmethod
    def load(cls, path: Path) -> Servable:
        """Loads a SavedModel: its graph, variables, assets and tables, and makes every signature ready to run.

        Args:
            path: The folder of one version; it holds `saved_model.pb`.

        Raises:
            NotFoundError: There is no SavedModel there, or none tagged `serve`.
            DataLossError: `saved_model.pb` is not a SavedModel.
            ServingError: TensorFlow cannot load it; carries TensorFlow's code and message.
        """
        if not any((path / name).is_file() for name in MODEL_FILES):
            raise NotFoundError(
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
                "Check that the directory exists and that you have the right permissions for accessing it."
            )
        session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            meta_graph = tf.compat.v1.saved_model.loader.load(session, [SERVE_TAG], str(path))
            servable = cls(session, dict(meta_graph.signature_def))
            for name, signature in servable.signatures.items():
                servable._callable(name, tuple(signature.outputs))
        except Exception as error:  # The loader raises whatever its parts raise; each must become this version's error.
            session.close()
            raise _load_error(error, path) from error
        return servable

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        output_names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Runs a signature.

        Args:
            signature_name: The signature.
            inputs: An array for each of its inputs, of that input's type; strings as arrays of bytes or str.
            output_names: The outputs wanted; all of them if None.

        Returns:
            An array for each output; strings as object arrays of bytes.

        Raises:
            FailedPreconditionError: There is no such signature.
            InvalidArgumentError: An input is missing, unknown or of the wrong type, or an output is unknown.
            ServingError: The graph failed; carries TensorFlow's code and message.
        """
        signature = self.signatures.get(signature_name)
        if signature is None:
            raise FailedPreconditionError(f'Serving signature key "{signature_name}" not found.')
        _check_inputs(signature, inputs)
        outputs = tuple(signature.outputs if output_names is None else output_names)
        _check_outputs(signature, outputs)
        run = self._callable(signature_name, outputs)
        try:
            values = run(*(inputs[name] for name in signature.inputs))
        except tf.errors.OpError as error:
            raise _from_tensorflow(error) from error
        return {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}

    def close(self) -> None:
        """Frees the model. Nothing may run on it any more."""
        self._callables.clear()
        self._session.close()

    def _callable(self, signature_name: str, outputs: tuple[str, ...]) -> Callable[..., list[Any]]:
        key = (signature_name, outputs)
        run = self._callables.get(key)
        if run is not None:
            return run
        signature = self.signatures[signature_name]
        options = CallableOptions(
            feed=[spec.tensor_name for spec in signature.inputs.values()],
            fetch=[signature.outputs[name].tensor_name for name in outputs],
        )
        with self._building:
            # Not `session.make_callable`: with feeds it is `session.run`, which costs 0.15 ms more for each request and
            # refuses shapes that TensorFlow Serving lets the graph judge.
            run = self._callables.setdefault(key, self._session._make_callable_from_options(options))
        return run


def _signature(definition: Any) -> Signature | None:
    """The signature, or None if it has none of a signature's plain tensors (an initialiser, sparse inputs)."""
    tensors = [*definition.inputs.values(), *definition.outputs.values()]
    if not definition.outputs or any(not info.dtype or info.WhichOneof("encoding") != "name" for info in tensors):
        return None
    return Signature(
        inputs={name: _tensor_spec(info) for name, info in sorted(definition.inputs.items())},
        outputs={name: _tensor_spec(info) for name, info in sorted(definition.outputs.items())},
        method_name=definition.method_name,
    )


def _tensor_spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    dimensions = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
    return TensorSpec(dtype=tf.as_dtype(info.dtype), shape=dimensions, tensor_name=info.name)


def _check_inputs(signature: Signature, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    sent, expected = sorted(inputs), sorted(signature.inputs)
    if sent != expected:
        extra = ",".join(sorted(set(sent) - set(expected)))
        missing = ",".join(sorted(set(expected) - set(sent)))
        raise InvalidArgumentError(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{','.join(sent)}}}) != "
            f"len({{{','.join(expected)}}}). Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
        )
    for name, spec in signature.inputs.items():
        array = inputs[name]
        fits = array.dtype.kind in "OSU" if spec.dtype == tf.string else array.dtype == spec.dtype.as_numpy_dtype
        if not fits:
            raise InvalidArgumentError(
                f"input {name!r} is of type {array.dtype}, but the signature takes {spec.dtype.name}"
            )


def _check_outputs(signature: Signature, outputs: tuple[str, ...]) -> None:
    for index, name in enumerate(outputs):
        if name not in signature.outputs:
            raise InvalidArgumentError(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{','.join(signature.outputs)}}}."
            )
        if name in outputs[:index]:
            raise InvalidArgumentError(f"duplicate output tensor alias: {name}")


def _from_tensorflow(error: tf.errors.OpError) -> ServingError:
    return ServingError(str(error.message), Code.from_grpc_code(error.error_code))


def _load_error(error: Exception, path: Path) -> ServingError:
    if isinstance(error, tf.errors.OpError):
        return _from_tensorflow(error)
    if isinstance(error, OSError) and "parse" in str(error):
        return DataLossError(f"Can't parse {path / MODEL_FILES[0]} as binary proto")
    if isinstance(error, RuntimeError) and "could not be found in SavedModel" in str(error):
        return NotFoundError(
            f"Could not find meta graph def matching supplied tags: {{ {SERVE_TAG} }}. To inspect available tag-sets "
            "in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        )
    return ServingError(f"{path}: {type(error).__name__}: {error}")
