"""One version of a model, loaded as TensorFlow Serving's C++ loader does it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import RunOptions
from tensorflow.python.client import pywrap_tf_session

from adclick.serving.errors import (
    Code,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ServingError,
)
from adclick.serving.model_server.configuration import BatchingOptions
from adclick.serving.model_server.folders import MODEL_FILES
from adclick.serving.model_server.foreign_ops import with_foreign_ops
from adclick.serving.model_server.tensor_proto import array_from_proto
from adclick.storage.literal_path import literal_path

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
        session_config: A serialized `ConfigProto`, which the numbers of threads complete.
        prefers_lite: Whether a version's LiteRT model is loaded, where it has one.
        lite_interpreters: How many runs of it there may be at the same time.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    session_config: bytes = b""
    prefers_lite: bool = False
    lite_interpreters: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))


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
    """A function of the model.

    Attributes:
        inputs: Its inputs by name, in the order of the names.
        outputs: Its outputs likewise.
        method_name: The API that it is declared for.
        defaults: What inputs are that a request leaves out.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str
    defaults: Mapping[str, Array] = field(default_factory=dict)

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

    def completed(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs with the signature's defaults for those left out, an array of the right type for each.

        Raises:
            InvalidArgumentError: One is missing, unknown or of another type.
        """
        expected = self._expected
        if inputs.keys() != expected.keys():
            inputs = self._with_defaults(inputs)
        for name, dtype in expected.items():
            provided = inputs[name].dtype
            if (provided.kind not in "OSU") if dtype is None else (provided != dtype):
                index = list(expected).index(name)
                type_provided = tf.string if provided.kind in "OSU" else tf.as_dtype(provided)
                raise InvalidArgumentError(
                    f"Expects arg[{index}] to be {type_name(self.inputs[name].dtype)} but "
                    f"{type_name(type_provided)} is provided"
                )
        return inputs

    def _with_defaults(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if len(inputs) > len(self.inputs) or (len(inputs) < len(self.inputs) and not self.defaults):
            raise _wrong_size(sorted(inputs), sorted(self.inputs))
        complete = {}
        for name, spec in self.inputs.items():
            if name not in inputs and name not in self.defaults:
                raise InvalidArgumentError(
                    f"Signature input alias: {name}(feed name: {spec.tensor_name}) not found in request and no default "
                    f"value provided. Inputs expected to be in the request {{{','.join(sorted(inputs))}}}, or default "
                    f"input alias set: {','.join(sorted(self.defaults))}"
                )
            complete[name] = inputs[name] if name in inputs else self.defaults[name]
        if inputs and not inputs.keys() <= complete.keys():
            used = sorted(inputs.keys() & complete.keys())
            raise InvalidArgumentError(
                f"Inputs contains invalid name. Used request inputs: {','.join(used)}, "
                f"request input: {','.join(sorted(inputs))}"
            )
        return complete

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
        load_seconds: How long each stage of loading took.
        batching: How its requests are gathered, if that is its own affair.
        record_run: Told of each run how many seconds it took, and the bytes that went in and came out.
    """

    batching: BatchingOptions | None = None
    record_run: Callable[[float, int, int], None] | None = None

    def __init__(self, session: tf.compat.v1.Session, signature_defs: Mapping[str, Any]) -> None:
        self._session = session
        self._ends: dict[tuple[str, ...], list[Any]] = {}
        self._describe(signature_defs)

    def _describe(self, signature_defs: Mapping[str, Any]) -> None:
        self.load_seconds: Mapping[str, float] = {}
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
        config = tf.compat.v1.ConfigProto.FromString(options.session_config)
        config.intra_op_parallelism_threads = options.intra_op_threads
        config.inter_op_parallelism_threads = options.inter_op_threads
        sessions: list[tf.compat.v1.Session] = []

        def load() -> Any:
            sessions.append(tf.compat.v1.Session(graph=tf.Graph(), config=config))
            return tf.compat.v1.saved_model.loader.load(sessions[-1], list(options.tags), literal_path(folder))

        try:
            started = time.monotonic()
            meta_graph = with_foreign_ops(load)
            restored = time.monotonic()
            servable = cls(sessions[-1], dict(meta_graph.signature_def))
            for name, signature in servable.signatures.items():
                if name not in _MADE_READY_WHEN_ASKED:
                    servable._make_ready(signature)
            servable.load_seconds = {"restore_graph": restored - started, "init_graph": time.monotonic() - restored}
        except Exception as error:  # The loader raises whatever its parts raise; each must become this version's error.
            for session in sessions:
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
        inputs = signature.completed(inputs)
        outputs = tuple(signature.outputs)
        if output_names is not None:
            outputs = tuple(output_names)
            signature.check_outputs(outputs)
        values = tuple(inputs[name] for name in signature.inputs)
        return Call(signature.feeds, signature.fetches(outputs), values, outputs)

    def call(
        self,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        values: Sequence[Array],
        deadline: float | None = None,
    ) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: Names of the tensors that are given.
            fetches: Names of the tensors wanted.
            values: An array for each of `feeds`.
            deadline: When the run ends although it is not done, by `time.monotonic()`; None for never.

        Returns:
            An array for each of `fetches`; strings as object arrays of bytes.

        Raises:
            DeadlineExceededError: It took longer.
            ServingError: The graph failed; carries TensorFlow's code and message.
        """
        given = dict(zip(self._tensors(feeds), map(np.asarray, values), strict=True))
        options = None if deadline is None else _run_options(deadline)
        try:
            # Not `Session.run`, which costs 0.15 ms more for each request and refuses shapes that TensorFlow Serving
            # lets the graph judge; not `make_callable`, whose deadline is one for all.
            run = partial(pywrap_tf_session.TF_SessionRun_wrapper, self._session._session, options)
            started = time.monotonic()
            fetched = [_array(value) for value in run(given, self._tensors(fetches), [], None)]
            if self.record_run is not None:
                inputs, outputs = (sum(array.nbytes for array in arrays) for arrays in (given.values(), fetched))
                self.record_run(time.monotonic() - started, inputs, outputs)
            return fetched
        except tf.errors.OpError as error:
            raise _from_tensorflow(error) from error
        except UnicodeDecodeError as error:
            # What TensorFlow says quotes a request that is no UTF-8, and Python cannot make its error of that.
            raise InvalidArgumentError(error.object.decode("utf-8", "backslashreplace")) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def close(self) -> None:
        """Frees the model. What runs on it ends with CANCELLED."""
        self._session.close()

    def _make_ready(self, signature: Signature) -> None:
        """Has the session prune and optimise a signature's graph, which its first run would wait for.

        A run does so before it looks at what it is fed; fed with another type it is refused then, before anything runs.
        """
        if not signature.inputs:
            return
        others = (np.float32 if spec.dtype == tf.int32 else np.int32 for spec in signature.inputs.values())
        values = [np.zeros((), other) for other in others]
        try:
            self.call(signature.feeds, signature.fetches(signature.outputs), values)
        except ServingError as error:
            if not error.message.startswith("Expects arg["):
                raise

    def _tensors(self, names: tuple[str, ...]) -> list[Any]:
        tensors = self._ends.get(names)
        if tensors is None:
            graph = self._session.graph
            try:
                tensors = [graph.get_tensor_by_name(name)._as_tf_output() for name in names]
            except (KeyError, ValueError):
                raise InvalidArgumentError(
                    f"Tensor {' or '.join(names)}, specified in either feed_devices or fetch_devices was not found "
                    "in the Graph"
                ) from None
            self._ends[names] = tensors
        return tensors


def _run_options(deadline: float) -> Any:
    """TensorFlow's buffer of the options of a run that ends at a time; to be deleted."""
    milliseconds = max(1, math.ceil((deadline - time.monotonic()) * 1000))
    return pywrap_tf_session.TF_NewBufferFromString(RunOptions(timeout_in_ms=milliseconds).SerializeToString())


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


def _array(value: Any) -> Array:
    """What a run fetched; a scalar string as an object array, in which it keeps its last zeros."""
    if isinstance(value, bytes):
        scalar = np.empty((), object)
        scalar[()] = value
        return scalar
    return np.asarray(value)


def _signature(definition: Any) -> Signature | None:
    """The signature, or None if it has none of a signature's plain tensors (an initialiser, sparse inputs)."""
    tensors = [*definition.inputs.values(), *definition.outputs.values()]
    if not definition.outputs or any(not info.dtype or info.WhichOneof("encoding") != "name" for info in tensors):
        return None
    return Signature(
        inputs={name: _tensor_spec(info) for name, info in sorted(definition.inputs.items())},
        outputs={name: _tensor_spec(info) for name, info in sorted(definition.outputs.items())},
        method_name=definition.method_name,
        defaults={name: array_from_proto(proto, name) for name, proto in sorted(definition.defaults.items())},
    )


def _tensor_spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    dimensions = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
    return TensorSpec(dtype=tf.as_dtype(info.dtype), shape=dimensions, tensor_name=info.name)


def _wrong_size(sent: list[str], expected: list[str]) -> InvalidArgumentError:
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
    if isinstance(error, ServingError):
        return error
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
