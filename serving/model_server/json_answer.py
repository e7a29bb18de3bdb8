"""TensorFlow Serving's JSON forms of answers, in its layout and with its digits."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.model_server.json_tensor import Format
from adclick.serving.model_server.json_text import decimals, quoted

Array = np.ndarray[Any, Any]

_INDENT = "    "
_WRITABLE = (
    *("float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"),
)
_TYPE_NAMES = {"float16": "half"}


def json_from_tensors(outputs: Mapping[str, Array], form: Format) -> bytes:
    """Writes the answer to a predict request.

    A single output stands without its name. NaN and infinities stand as the tokens NaN, Infinity and -Infinity. A
    string output whose name ends in `_bytes` is written as `{"b64": ...}`; in others, bytes that are not UTF-8 become
    U+FFFD.

    Args:
        outputs: The arrays, by name; strings as object arrays of bytes.
        form: The form of the request.

    Raises:
        InvalidArgumentError: An output is of a type that JSON cannot carry, or, for rows, has another number of rows.
    """
    if not outputs:
        raise InvalidArgumentError("Cannot convert empty tensor map to JSON")
    if form is Format.ROW:
        _check_rows(outputs)
    written = {name: _Written(name, tensor) for name, tensor in outputs.items()}
    body = _rows(written) if form is Format.ROW else _columns(written)
    return body.encode("utf-8", "replace")


def _check_rows(outputs: Mapping[str, Array]) -> None:
    rows: int | None = None
    for name, tensor in outputs.items():
        if tensor.ndim == 0:
            raise InvalidArgumentError(f"Tensor name: {name} has no shape information ")
        if rows is not None and len(tensor) != rows:
            raise InvalidArgumentError(
                f"Tensor name: {name} has inconsistent batch size: {len(tensor)} expecting: {rows}"
            )
        rows = len(tensor)


class _Written:
    """An output whose values are text already.

    Attributes:
        shape: Its shape.
        values: The text of each value, in order.
        is_bytes: Whether each is to stand in a `{"b64": ...}` object.
    """

    def __init__(self, name: str, tensor: Array) -> None:
        self.shape: tuple[int, ...] = tensor.shape
        self.is_bytes = tensor.dtype.kind == "O" and name.endswith("_bytes")
        self.values = _texts(tensor, self.is_bytes) if tensor.size else []

    def rows(self, depth: int) -> list[str]:
        """The text of each row, its lists in a line, at a depth of brackets."""
        size = len(self.values) // max(1, self.shape[0])
        rows = range(self.shape[0])
        return [self._in_a_line(self.values[size * row : size * (row + 1)], self.shape[1:], depth) for row in rows]

    def _in_a_line(self, values: Sequence[str], shape: tuple[int, ...], depth: int) -> str:
        if not shape:
            return self._value(values[0], depth)
        if len(shape) == 1 and not self.is_bytes:
            return f"[{', '.join(values)}]"
        size = len(values) // max(1, shape[0])
        items = (
            self._in_a_line(values[size * item : size * (item + 1)], shape[1:], depth + 1) for item in range(shape[0])
        )
        return f"[{', '.join(items)}]"

    def on_lines(self, depth: int) -> str:
        """The text of the whole, each value in a line, at a depth of brackets."""
        return self._on_lines(self.values, self.shape, depth)

    def _on_lines(self, values: Sequence[str], shape: tuple[int, ...], depth: int) -> str:
        if not shape:
            return self._value(values[0], depth)
        if not shape[0]:
            return "[]"
        inner = "\n" + _INDENT * (depth + 1)
        size = len(values) // shape[0]
        if len(shape) == 1 and not self.is_bytes:
            items = values
        else:
            items = [
                self._on_lines(values[size * item : size * (item + 1)], shape[1:], depth + 1)
                for item in range(shape[0])
            ]
        return f"[{inner}{(',' + inner).join(items)}\n{_INDENT * depth}]"

    def _value(self, text: str, depth: int) -> str:
        if not self.is_bytes:
            return text
        return f'{{\n{_INDENT * (depth + 1)}"b64": {text}\n{_INDENT * depth}}}'


def _texts(tensor: Array, is_bytes: bool) -> list[str]:
    flat = tensor.ravel()
    kind = flat.dtype.name
    if kind == "object":
        if is_bytes:
            return [f'"{base64.b64encode(value).decode("ascii")}"' for value in flat]
        return [quoted(value.decode("utf-8", "replace")) for value in flat]
    if kind not in _WRITABLE:
        raise InvalidArgumentError(f"Failed to write JSON value for tensor type: {_TYPE_NAMES.get(kind, kind)}")
    if kind in ("float32", "float64"):
        return decimals(flat)
    if kind == "bool":
        return ["true" if value else "false" for value in flat.tolist()]
    return [str(value) for value in flat.tolist()]


def _rows(outputs: Mapping[str, _Written]) -> str:
    # The list of rows is opened in one layout and closed in another, in TensorFlow Serving.
    head = f'{{\n{_INDENT}"predictions": ['
    if len(outputs) == 1:
        (output,) = outputs.values()
        rows = output.rows(2)
        return f"{head}{', '.join(rows)}" + (f"\n{_INDENT}]\n}}" if rows else "]\n}")
    columns = [output.rows(3) for output in outputs.values()]
    inner = "\n" + _INDENT * 3
    names = [f"{inner}{quoted(name)}: " for name in outputs]
    objects = [
        "{" + ",".join(name + value for name, value in zip(names, row, strict=True)) + "\n" + _INDENT * 2 + "}"
        for row in zip(*columns, strict=True)
    ]
    if not objects:
        return f"{head}]\n}}"
    separator = "\n" + _INDENT * 2
    return f"{head}{separator}{(',' + separator).join(objects)}\n{_INDENT}]\n}}"


def _columns(outputs: Mapping[str, _Written]) -> str:
    head = f'{{\n{_INDENT}"outputs": '
    if len(outputs) == 1:
        (output,) = outputs.values()
        return f"{head}{output.on_lines(1)}\n}}"
    inner = "\n" + _INDENT * 2
    members = (f"{inner}{quoted(name)}: {output.on_lines(2)}" for name, output in outputs.items())
    return f"{head}{{{','.join(members)}\n{_INDENT}}}\n}}"


def json_from_classification(result: Any) -> bytes:
    """The answer to classify: for each example the pairs of label and score.

    Raises:
        InvalidArgumentError: There are none.
    """
    if not result.classifications:
        raise InvalidArgumentError("Cannot convert empty ClassificationResults to JSON")
    examples = []
    for classifications in result.classifications:
        scores = decimals(np.array([one.score for one in classifications.classes], np.float32))
        pairs = zip(classifications.classes, scores, strict=True)
        examples.append(f"[{', '.join(f'[{quoted(one.label)}, {score}]' for one, score in pairs)}]")
    return f'{{\n{_INDENT}"results": [{", ".join(examples)}\n{_INDENT}]\n}}'.encode("utf-8", "replace")


def json_from_regression(result: Any) -> bytes:
    """The answer to regress: a number for each example.

    Raises:
        InvalidArgumentError: There are none.
    """
    if not result.regressions:
        raise InvalidArgumentError("Cannot convert empty RegressionResults to JSON")
    values = decimals(np.array([regression.value for regression in result.regressions], np.float32))
    return f'{{\n{_INDENT}"results": [{", ".join(values)}]\n}}'.encode()


def error_json(message: str) -> bytes:
    """The body of a refusal."""
    return f'{{\n{_INDENT}"error": {quoted(message)}\n}}'.encode("utf-8", "replace")
