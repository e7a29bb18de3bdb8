"""An input of several months, where a platform passes one artifact at a time.

On one machine a component takes the artifacts of several months as one input, a union of channels. Kubeflow and Vertex
AI know no such thing: there the pipeline is compiled with an input for each month, `key__0`, `key__1` and so on, which
the executor puts together again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

from tfx import types

_Do = TypeVar("_Do", bound=Callable[..., None])
_MARK = "joins_months"
_NUMBERED = re.compile(r"(?P<key>.+)__(?P<number>\d+)")


def month_key(key: str, number: int) -> str:
    """The name of the input that holds one month of the input `key`."""
    return f"{key}__{number}"


def join_months(input_dict: dict[str, list[types.Artifact]]) -> dict[str, list[types.Artifact]]:
    """Puts numbered inputs together, by number, under the key that they are parts of; others stay as they are."""
    joined: dict[str, list[types.Artifact]] = {}
    numbered: list[tuple[str, int, list[types.Artifact]]] = []
    for name, artifacts in input_dict.items():
        found = _NUMBERED.fullmatch(name)
        if found is None:
            joined[name] = artifacts
        else:
            numbered.append((found["key"], int(found["number"]), artifacts))
    for key, _, artifacts in sorted(numbered, key=lambda part: part[:2]):
        joined.setdefault(key, []).extend(artifacts)
    return joined


def takes_months(do: _Do) -> _Do:
    """Decorates an executor's `Do` that takes the artifacts of several months as one input."""

    @functools.wraps(do)
    def wrapper(
        self: Any,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        do(self, join_months(input_dict), output_dict, exec_properties)

    setattr(wrapper, _MARK, True)
    return wrapper  # type: ignore[return-value]


def can_take_months(executor_class: type) -> bool:
    """Whether the executor's `Do` is decorated with `takes_months`."""
    return getattr(getattr(executor_class, "Do", None), _MARK, False)
