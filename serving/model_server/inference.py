"""Classification and regression over `tf.Example`s, as TensorFlow Serving's APIs of these names do them.

A request is checked against a signature first (`prepare_...`), which says what to feed and to fetch; the fetched arrays
then become a result (`..._result`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from adclick.serving.errors import InvalidArgumentError, UnimplementedError
from adclick.serving.model_server.servable import DEFAULT_SIGNATURE, Array, Servable, type_name

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_REGRESSION_OUTPUT = "outputs"
_KINDS = {CLASSIFY: "classification", REGRESS: "regression"}


@dataclass(frozen=True)
class ExampleCall:
    """A checked request over examples.

    Attributes:
        feeds: Names of the tensors that take the serialized examples.
        fetches: Names of the tensors wanted.
    """

    feeds: tuple[str, ...]
    fetches: tuple[str, ...]


def examples_from_input(message: Any) -> Array:
    """The serialized examples of an `Input`, each joined to the context, as an object array [batch] of bytes.

    Raises:
        InvalidArgumentError: There are none.
    """
    kind = message.WhichOneof("kind")
    if kind == "example_list_with_context":
        # Fields of a later message win over those of an earlier one: joined bytes are merged messages.
        context = message.example_list_with_context.context.SerializeToString()
        serialized = [context + example.SerializeToString() for example in message.example_list_with_context.examples]
    elif kind == "example_list":
        serialized = [example.SerializeToString() for example in message.example_list.examples]
    else:
        serialized = []
    if not serialized:
        raise InvalidArgumentError("Input is empty.")
    examples = np.empty(len(serialized), object)
    examples[:] = serialized
    return examples


def signature_of(servable: Servable, name: str, method: str, checks_method: bool) -> Any:
    """The `SignatureDef` that a request to classify or regress names.

    Raises:
        InvalidArgumentError: There is none of that name, or it is for another method.
    """
    wanted = name or DEFAULT_SIGNATURE
    definition = servable.signature_defs.get(wanted)
    if definition is None:
        raise InvalidArgumentError(f"No signature was found with the name: {wanted}")
    _check_method(definition, method, checks_method)
    return definition


def prepare(definition: Any, method: str, checks_method: bool) -> ExampleCall:
    """What to feed and to fetch for a signature.

    Raises:
        InvalidArgumentError: The signature is not one to classify, or to regress, by.
    """
    _check_method(definition, method, checks_method)
    if len(definition.inputs) != 1:
        raise InvalidArgumentError("Expected one input Tensor.")
    outputs = definition.outputs
    if method == CLASSIFY and len(outputs) not in (1, 2):
        raise InvalidArgumentError(f"Expected one or two output Tensors, found {len(outputs)}")
    if method == REGRESS and len(outputs) != 1:
        raise InvalidArgumentError("Expected one output Tensor.")
    if _INPUTS not in definition.inputs:
        raise InvalidArgumentError(f"No {_KINDS[method]} inputs found in SignatureDef: {definition}")
    dtype = definition.inputs[_INPUTS].dtype
    if dtype != types_pb2.DT_STRING:
        raise InvalidArgumentError(f"Expects arg[0] to be {type_name(tf.as_dtype(dtype))} but string is provided")
    if method == CLASSIFY:
        names = [name for name in (_CLASSES, _SCORES) if name in outputs]
        if not names:
            raise InvalidArgumentError(
                "Expected classification signature outputs to contain at least one of "
                f'"{_CLASSES}" or "{_SCORES}". Signature was: {definition}'
            )
    elif _REGRESSION_OUTPUT not in outputs:
        raise InvalidArgumentError(f"No regression outputs found in SignatureDef: {definition}")
    else:
        names = [_REGRESSION_OUTPUT]
    return ExampleCall((definition.inputs[_INPUTS].name,), tuple(outputs[name].name for name in names))


def _check_method(definition: Any, method: str, checks_method: bool) -> None:
    if checks_method and definition.method_name != method:
        raise InvalidArgumentError(
            f"Expected {_KINDS[method]} signature method_name to be {method}. Was: {definition.method_name}"
        )


def classification_result(definition: Any, count: int, fetched: Mapping[str, Array]) -> Any:
    """A `ClassificationResult` of the fetched arrays, by tensor name, for `count` examples.

    Raises:
        InvalidArgumentError: They are not [batch, classes] strings and float32 scores.
    """

    def checked(name: str, dtype: str) -> Array | None:
        if name not in definition.outputs:
            return None
        array = fetched[definition.outputs[name].name]
        if array.ndim != 2:
            raise InvalidArgumentError(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}")
        if _type_name(array) != dtype:
            raise InvalidArgumentError(f"Expected {name} Tensor of {dtype}. Got: {_type_name(array)}")
        if len(array) != count:
            raise InvalidArgumentError(f"Expected {name} output batch size of {count}. Got: {len(array)}")
        return array

    classes = checked(_CLASSES, "DT_STRING")
    scores = checked(_SCORES, "DT_FLOAT")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgumentError(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        entry = result.classifications.add()
        for column in range(width):
            one = entry.classes.add()
            if classes is not None:
                label = classes[row, column]
                one.label = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
            if scores is not None:
                one.score = float(scores[row, column])
    return result


def regression_result(definition: Any, count: int, fetched: Mapping[str, Array]) -> Any:
    """A `RegressionResult` of the fetched arrays, by tensor name, for `count` examples.

    Raises:
        InvalidArgumentError: The output is not float32 [batch] or [batch, 1].
    """
    array = fetched[definition.outputs[_REGRESSION_OUTPUT].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise InvalidArgumentError(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape_text(array)}"
        )
    if len(array) != count:
        raise InvalidArgumentError(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if _type_name(array) != "DT_FLOAT":
        raise InvalidArgumentError(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(array)}")
    result = regression_pb2.RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    return result


@dataclass(frozen=True)
class MultiCall:
    """Several tasks over the same examples, as one run.

    Attributes:
        call: What to feed and to fetch for all of them.
        definitions: The signature of each task.
        methods: The method of each task.
        names: The signature's name of each task, as the request gives it.
    """

    call: ExampleCall
    definitions: tuple[Any, ...]
    methods: tuple[str, ...]
    names: tuple[str, ...]

    def response(self, model_name: str, version: int, count: int, fetched: Mapping[str, Array]) -> Any:
        """The `MultiInferenceResponse`."""
        response = inference_pb2.MultiInferenceResponse()
        for definition, method, name in zip(self.definitions, self.methods, self.names, strict=True):
            result = response.results.add()
            result.model_spec.name = model_name
            result.model_spec.signature_name = name or DEFAULT_SIGNATURE
            result.model_spec.version.value = version
            if method == CLASSIFY:
                result.classification_result.CopyFrom(classification_result(definition, count, fetched))
            else:
                result.regression_result.CopyFrom(regression_result(definition, count, fetched))
        return response


def prepare_tasks(servable: Servable, tasks: Sequence[Any], checks_method: bool) -> MultiCall:
    """Checks the tasks of a `MultiInferenceRequest` against the model.

    Raises:
        InvalidArgumentError: Tasks are for several models, name a signature twice or an unknown one, or one takes no
            examples.
        UnimplementedError: A task is neither to classify nor to regress.
    """
    model_name = ""
    seen: set[str] = set()
    # Signatures of a TensorFlow 2 model have a tensor each.
    feeds: set[str] = set()
    fetches: set[str] = set()
    definitions = []
    for task in tasks:
        if not task.model_spec.name:
            raise InvalidArgumentError("Found ModelSpec with an empty model name.")
        model_name = model_name or task.model_spec.name
        if task.model_spec.name != model_name:
            raise InvalidArgumentError("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise InvalidArgumentError(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        definition = servable.signature_defs.get(name)
        if definition is None:
            raise InvalidArgumentError(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _KINDS:
            raise UnimplementedError(f"Unsupported signature method_name: {task.method_name}")
        call = prepare(definition, task.method_name, checks_method)
        feeds.update(call.feeds)
        fetches.update(call.fetches)
        definitions.append(definition)
    return MultiCall(
        ExampleCall(tuple(sorted(feeds)), tuple(sorted(fetches))),
        tuple(definitions),
        tuple(task.method_name for task in tasks),
        tuple(task.model_spec.signature_name for task in tasks),
    )


def _shape_text(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(array: Array) -> str:
    dtype = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
    return str(types_pb2.DataType.Name(dtype.as_datatype_enum))
