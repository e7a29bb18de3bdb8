"""The join of a click with its impression: what is kept for an impression's id, and what a click learns from it."""

from __future__ import annotations

from typing import Any

from adclick.stream.features.feature import SECONDS_TO_CLICK, Fields


class ImpressionJoin:
    """Knows when each impression was.

    The state of an impression's id is its time alone; of an id that comes twice, the last before the click.

    Attributes:
        horizon: How long an impression is known, in microseconds.
    """

    def __init__(self, column: str, horizon: int) -> None:
        self._column = column
        self.horizon = horizon

    def key(self, kind: str, name: str, fields: Fields) -> str | float | None:
        """The impression's id of an event; None of a click that names none."""
        return name if kind == "impressions" else fields.get(self._column)

    def new_state(self, time: int) -> list[Any]:
        """The state of an impression of that time."""
        return [time]

    def joined(self, state: list[Any], time: int, fields: Fields) -> Fields:
        """A click's fields, with the seconds since its impression."""
        passed = time - state[0]
        return {**fields, SECONDS_TO_CLICK: passed / 1_000_000} if passed <= self.horizon else fields
