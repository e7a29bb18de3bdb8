"""The sum and the mean of a column over a key's events in a window."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.stream.features.feature import SECONDS_TO_CLICK, Add, Fields, State, Value, WindowFeature
from adclick.stream.features.tiles import gone_tiles, tiles_of, window_in_words


class _OfNumbers(WindowFeature):
    column: str = Field(
        description=f"The column of numbers; `{SECONDS_TO_CLICK}` is the time from a click's impression to it."
    )

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset((self.column,))

    @property
    def needs_impressions(self) -> bool:
        return self.column == SECONDS_TO_CLICK

    def new_state(self) -> State:
        # Tiles, their sums, the sum of all sums but the newest, the tiles' counts.
        return [[], [], 0.0, []]

    def add(self) -> Add:
        resolution, number = tiles_of(self.length)
        column = self.column

        def add(state: State, time: int, fields: Fields) -> None:
            value = fields.get(column)
            if value is None:
                return
            tile = time // resolution
            tiles, sums, _, counts = state
            if tiles and tiles[-1] == tile:
                sums[-1] += value
                counts[-1] += 1
                return
            _forget(state, tile - number)
            tiles.append(tile)
            sums.append(value)
            counts.append(1)
            state[2] = _in_order(sums)

        return add


class Sum(_OfNumbers):
    """The sum of `column` over the events of the key in the window; missing where none has a value."""

    kind: Literal["sum"]

    @property
    def explanation(self) -> str:
        return (
            f"sum of {self.column} over the {self.of} of {window_in_words(self.window, self.length)}; kept: a sum and "
            "a count for each tile"
        )

    def value(self) -> Value:
        resolution, number = tiles_of(self.length)

        def value(state: State, time: int, fields: Fields) -> float | None:
            _forget(state, time // resolution - number)
            return state[2] + state[1][-1] if state[0] else None

        return value


class Mean(_OfNumbers):
    """The mean of `column` over the events of the key in the window that have a value; missing where none has."""

    kind: Literal["mean"]

    @property
    def explanation(self) -> str:
        return (
            f"mean of {self.column} over the {self.of} of {window_in_words(self.window, self.length)}; kept: a sum and "
            "a count for each tile"
        )

    def value(self) -> Value:
        resolution, number = tiles_of(self.length)

        def value(state: State, time: int, fields: Fields) -> float | None:
            _forget(state, time // resolution - number)
            return (state[2] + state[1][-1]) / sum(state[3]) if state[0] else None

        return value


def _forget(state: State, last: int) -> None:
    tiles, sums, _, counts = state
    if tiles and tiles[0] <= last:
        gone = gone_tiles(tiles, last)
        del tiles[:gone], sums[:gone], counts[:gone]
        state[2] = _in_order(sums)


def _in_order(sums: list[float]) -> float:
    """All sums but the newest, the oldest first: one order, so that rounding is always the same."""
    total = 0.0
    # Not by `sum`, which rounds otherwise in Python 3.12 and later.
    for value in sums[:-1]:
        total += value
    return total
