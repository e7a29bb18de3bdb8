"""One version of a model, loaded as TensorFlow Serving's C++ loader does it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from serving.model_server.folders import MODEL_FILES

DEFAULT_SIGNATURE = "serving_default"
#: Gradients take seconds to make ready, and explanations are asked for seldom.
_MADE_READY_WHEN_ASKED = ("explain",)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LoadOptions:
    """How SavedModels are loaded.

    Attributes:
        tags: Which of a SavedModel's graphs is loaded: the one with these tags.
        intra_op_threads: Threads within an operation; 0 for as many as there are cores.
        inter_op_threads: Operations at the same time; 0 for as many as there are cores.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0


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
    """A function of the model: its inputs and outputs by name, in the order of the names."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str

    @cached_property
    def input_types(self) -> Mapping[str, str]:
        """TensorFlow's name of each input's type: float32, string, int64."""
        return {name: spec.dtype.name for name, spec in self.inputs.items()}

    @cached_property
    def feeds(self) -> tuple[str, ...]:
        """Names of the tensors that its inputs feed."""
        return tuple(spec.tensor_name for spec in self.inputs.values())

    def fetches(self, outputs: Iterable[str]) -> tuple[str, ...]:
        """Names of the tensors that outputs are fetched from."""
        return tuple(self.outputs[name].tensor_name for name in outputs)

    @cached_property
    def _expected(self) -> Mapping[str, np.dtype[Any] | None]:
        """Each input's type in NumPy; None for strings, which NumPy has several types for."""
        return {
            name: None if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
            for name, spec in self.inputs.items()
        }

    def check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Checks that there is an array of the right type for each input, and no other.

        Raises:
            InvalidArgumentError: There is not.
        """
        expected = self._expected
        if inputs.keys() != expected.keys():
            raise _wrong_names(sorted(inputs), sorted(expected))
        for name, dtype in expected.items():
            provided = inputs[name].dtype
            if (provided.kind not in "OSU") if dtype is None else (provided != dtype):
                index = list(expected).index(name)
                type_provided = tf.string if provided.kind in "OSU" else tf.as_dtype(provided)
                raise InvalidArgumentError(
                    f"Expects arg[{index}] to be {type_name(self.inputs[name].dtype)} but "
                    f"{type_name(type_provided)} is provided"
                )

    def check_outputs(self, outputs: Sequence[str]) -> None:
        """Checks that outputs exist and that none is asked for twice.

        Raises:
            InvalidArgumentError: One does not, or is.
        """
        for index, name in enumerate(outputs):
            if name not in self.outputs:
                raise InvalidArgumentError(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{{{','.join(self.outputs)}}}."
                )
            if name in outputs[:index]:
                raise InvalidArgumentError(f"duplicate output tensor alias: {name}")


class Servable:
    """A loaded SavedModel, of TensorFlow 1 or 2, whose signatures can be run from many threads at once.

    Attributes:
        signatures: The signatures that can be run, by name.
        signature_defs: Every `SignatureDef` of the SavedModel, by name, as a client is shown them.
    """

    def __init__(self, session: tf.compat.v1.Session, signature_defs: Mapping[str, Any]) -> None:
        self._session = session
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._building = threading.Lock()
        self.signature_defs = dict(signature_defs)
        self.signatures: Mapping[str, Signature] = {
            name: signature
            for name, definition in sorted(signature_defs.items())
            if (signature := _signature(definition)) is not None
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], options: LoadOptions | None = None) -> Servable:
        """Loads a SavedModel: its graph, variables, assets and tables, and makes every signature ready to run.

        Args:
            path: The folder of one version; it holds `saved_model.pb`. Local, or of a file system that TensorFlow
                knows, such as gs://.
            options: Which graph, and the threads it may use.

        Raises:
            NotFoundError: There is no SavedModel there, or none with the tags.
            DataLossError: `saved_model.pb` is not a SavedModel.
            ServingError: TensorFlow cannot load it; carries TensorFlow's code and message.
        """
        options = options or LoadOptions()
        folder = os.fspath(path)
        if not any(tf.io.gfile.exists(os.path.join(folder, name)) for name in MODEL_FILES):
            raise NotFoundError(
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}. "
                "Check that the directory exists and that you have the right permissions for accessing it."
            )
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
        )
        session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            meta_graph = tf.compat.v1.saved_model.loader.load(session, list(options.tags), folder)
            servable = cls(session, dict(meta_graph.signature_def))
            for name, signature in servable.signatures.items():
                if name not in _MADE_READY_WHEN_ASKED:
                    servable._callable(signature.feeds, signature.fetches(signature.outputs))
        except Exception as error:  # The loader raises whatever its parts raise; each must become this version's error.
            session.close()
            raise _load_error(error, folder, options.tags) from error
        return servable

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        output_names: Sequence[str] | None = None,
    ) -> dict[str, Array]:
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
        call = self.prepare(signature_name, inputs, output_names)
        return call.named(self.call(call.feeds, call.fetches, call.values))

    def prepare(
        self, signature_name: str, inputs: Mapping[str, Array], output_names: Sequence[str] | None = None
    ) -> Call:
        """Checks a request for a signature and says what to feed and to fetch; as `run`, without running it."""
        signature = self.signatures.get(signature_name)
        if signature is None:
            raise FailedPreconditionError(f'Serving signature key "{signature_name}" not found.')
        signature.check_inputs(inputs)
        outputs = tuple(signature.outputs)
        if output_names is not None:
            outputs = tuple(output_names)
            signature.check_outputs(outputs)
        values = tuple(inputs[name] for name in signature.inputs)
        return Call(signature.feeds, signature.fetches(outputs), values, outputs)

    def call(self, feeds: tuple[str, ...], fetches: tuple[str, ...], values: Sequence[Array]) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: Names of the tensors that are given.
            fetches: Names of the tensors wanted.
            values: An array for each of `feeds`.

        Returns:
            An array for each of `fetches`; strings as object arrays of bytes.

        Raises:
            ServingError: The graph failed; carries TensorFlow's code and message.
        """
        run = self._callables.get((feeds, fetches)) or self._callable(feeds, fetches)
        try:
            return [np.asarray(value) for value in run(*values)]
        except tf.errors.OpError as error:
            raise _from_tensorflow(error) from error

    def close(self) -> None:
        """Frees the model. Nothing may run on it any more."""
        self._callables.clear()
        self._session.close()

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Any]]:
        options = CallableOptions(feed=feeds, fetch=fetches)
        with self._building:
            # Not `session.make_callable`: with feeds it is `session.run`, which costs 0.15 ms more for each request and
            # refuses shapes that TensorFlow Serving lets the graph judge.
            return self._callables.setdefault((feeds, fetches), self._session._make_callable_from_options(options))


@dataclass(frozen=True)
class Call:
    """A checked request for a signature.

    Attributes:
        feeds: Names of the tensors that are given.
        fetches: Names of the tensors wanted.
        values: An array for each of `feeds`.
        outputs: The signature's name for each of `fetches`.
    """

    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    values: tuple[Array, ...]
    outputs: tuple[str, ...]

    def named(self, fetched: Sequence[Array]) -> dict[str, Array]:
        """The fetched arrays by the signature's names."""
        return dict(zip(self.outputs, fetched, strict=True))


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


def _wrong_names(sent: list[str], expected: list[str]) -> InvalidArgumentError:
    extra = ",".join(sorted(set(sent) - set(expected)))
    missing = ",".join(sorted(set(expected) - set(sent)))
    return InvalidArgumentError(
        f"input size does not match signature: {len(sent)}!={len(expected)} len({{{','.join(sent)}}}) != "
        f"len({{{','.join(expected)}}}). Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
    )


def type_name(dtype: tf.DType) -> str:
    """TensorFlow's own name of a type, the one with which its messages speak: float, not float32."""
    return {"float16": "half", "float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def _from_tensorflow(error: tf.errors.OpError) -> ServingError:
    return ServingError(str(error.message), Code.from_grpc_code(error.error_code))


def _load_error(error: Exception, path: str, tags: Sequence[str]) -> ServingError:
    if isinstance(error, tf.errors.OpError):
        return _from_tensorflow(error)
    if isinstance(error, OSError) and "parse" in str(error):
        return DataLossError(f"Can't parse {os.path.join(path, MODEL_FILES[0])} as binary proto")
    if isinstance(error, RuntimeError) and "could not be found in SavedModel" in str(error):
        return NotFoundError(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available "
            "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        )
    return ServingError(f"{path}: {type(error).__name__}: {error}")
