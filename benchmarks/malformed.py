"""Malformed requests, made by changing a good one; every one of them deserves a refusal of the client's kind."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2


@dataclass(frozen=True)
class RestRequest:
    """A request to the REST API.

    Attributes:
        kind: What is wrong with it.
        method: The HTTP method.
        path: The path.
        body: The body.
        headers: Headers besides the usual ones.
    """

    kind: str
    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def rest_requests(path: str, row: Mapping[str, Any], count: int, seed: int = 1) -> Iterator[RestRequest]:
    """Malformed predict requests.

    Args:
        path: The path of a good request, which ends in `:predict`.
        row: A good row with several inputs.
        count: How many.
        seed: The same seed gives the same requests.
    """
    chance = random.Random(seed)
    names = sorted(row)
    good = json.dumps({"instances": [row]}).encode()

    def with_row(**changes: Any) -> bytes:
        return json.dumps({"instances": [{**row, **changes}]}).encode()

    def cut_off() -> bytes:
        return good[: chance.randrange(1, len(good) - 1)]

    def without_a_column() -> bytes:
        gone = chance.choice(names)
        return json.dumps({"instances": [{name: value for name, value in row.items() if name != gone}]}).encode()

    def wrong_type() -> bytes:
        name = chance.choice(names)
        wrong: list[Any] = [None, {"x": 1}, [[1], "text"], True]
        wrong.append(3.5 if isinstance(row[name], str) else "text")
        return with_row(**{name: chance.choice(wrong)})

    def junk() -> bytes:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(1, 200)))

    def rows_that_differ() -> bytes:
        name = chance.choice(names)
        return json.dumps({"instances": [row, {**row, name: [row[name], row[name]]}]}).encode()

    bodies: dict[str, Callable[[], bytes]] = {
        "cut off": cut_off,
        "a column is missing": without_a_column,
        "a column too many": lambda: with_row(**{f"column_{chance.randrange(10**6)}": 1}),
        "a wrong type": wrong_type,
        "junk": lambda: b"{" + junk(),
        "rows that differ": rows_that_differ,
        "a base64 that is none": lambda: with_row(**{names[0]: {"b64": "*" * chance.randrange(1, 9)}}),
        "no rows": lambda: b'{"instances": []}',
        "both forms": lambda: json.dumps({"instances": [row], "inputs": dict(row)}).encode(),
        "neither form": lambda: json.dumps({"rows": [row]}).encode(),
        "an unknown signature": lambda: json.dumps(
            {"signature_name": f"s{chance.randrange(10**6)}", "instances": [row]}
        ).encode(),
        "deep": lambda: b'{"instances": ' + b"[" * chance.randrange(500, 100_000),
        "nothing": lambda: b"",
    }
    model = path.removesuffix(":predict")
    places = [
        ("an unknown model", f"{model}x:predict"),
        ("an unknown version", f"{model}/versions/{chance.randrange(10**9)}:predict"),
        ("an unknown label", f"{model}/labels/nowhere:predict"),
        ("an unknown method", f"{model}:explode"),
        ("no such path", "/v2/health"),
    ]
    for _ in range(count):
        choice = chance.randrange(10)
        if choice == 0:
            kind, place = chance.choice(places)
            yield RestRequest(kind, "POST", place, good)
        elif choice == 1:
            method = chance.choice(["PUT", "DELETE", "PATCH"])
            yield RestRequest("another method", method, path, good)
        elif choice == 2:
            packed = gzip.compress(good)[: chance.randrange(1, 40)]
            yield RestRequest("a cut-off gzip", "POST", path, packed, {"content-encoding": "gzip"})
        else:
            kind = chance.choice(sorted(bodies))
            yield RestRequest(kind, "POST", path, bodies[kind]())


def grpc_requests(good: Any, count: int, seed: int = 1) -> Iterator[tuple[str, Any]]:
    """Malformed `PredictRequest`s, made from a good one; each with what is wrong with it."""
    chance = random.Random(seed)
    names = sorted(good.inputs)

    def changed(change: Callable[[Any], None]) -> Any:
        request = predict_pb2.PredictRequest()
        request.CopyFrom(good)
        change(request)
        return request

    def wrong_type(request: Any) -> None:
        request.inputs[chance.choice(names)].CopyFrom(tf.make_tensor_proto([1 + 2j], tf.complex64))

    def wrong_size(request: Any) -> None:
        tensor = request.inputs[chance.choice(names)]
        tensor.tensor_shape.dim.add(size=chance.choice([-1, 2**40, 2**62]))

    def wrong_content(request: Any) -> None:
        tensor = request.inputs[chance.choice(names)]
        tensor.dtype = tf.float64.as_datatype_enum
        tensor.tensor_content = base64.b64encode(str(chance.random()).encode())[:7]

    def invalid_type(request: Any) -> None:
        request.inputs[chance.choice(names)].dtype = chance.choice([0, 21, 22, 99])

    changes: dict[str, Callable[[Any], None]] = {
        "a wrong type": wrong_type,
        "a wrong size": wrong_size,
        "wrong content": wrong_content,
        "an invalid type": invalid_type,
        "an input is missing": lambda request: request.inputs.pop(chance.choice(names)),
        "an input too many": lambda request: request.inputs[f"x{chance.random()}"].CopyFrom(
            tf.make_tensor_proto([1.0])
        ),
        "an unknown model": lambda request: setattr(request.model_spec, "name", f"m{chance.random()}"),
        "no model": lambda request: request.ClearField("model_spec"),
        "an unknown version": lambda request: setattr(request.model_spec.version, "value", chance.randrange(10**9)),
        "an unknown label": lambda request: setattr(request.model_spec, "version_label", "nowhere"),
        "an unknown signature": lambda request: setattr(request.model_spec, "signature_name", f"s{chance.random()}"),
        "an unknown output": lambda request: request.output_filter.append(f"o{chance.random()}"),
        "nothing": lambda request: request.Clear(),
    }
    for _ in range(count):
        kind = chance.choice(sorted(changes))
        yield kind, changed(changes[kind])
