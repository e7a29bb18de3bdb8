"""How many distinct values a column had among a key's events in a window."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adclick.stream.features.feature import Add, Fields, State, Value, WindowFeature
from adclick.stream.features.tiles import tiles_of, window_in_words


class Distinct(WindowFeature):
    """How many distinct values `column` had among the events of the key in the window, the click's own included."""

    kind: Literal["distinct"]
    column: str = Field(description="The column whose values are counted.")
    max_distinct: int = Field(
        1_000, ge=1, le=100_000, description="More are not told apart: bounds the state. How often that was is told."
    )

    @property
    def texts(self) -> frozenset[str]:
        return frozenset((*self.by, self.column))

    @property
    def explanation(self) -> str:
        return (
            f"number of distinct {self.column} among the {self.of} of {window_in_words(self.window, self.length)}; "
            f"kept: each value with its last tile, at most {self.max_distinct:,}, exact up to these"
        )

    def new_state(self) -> State:
        # The last tile by value, the value that was seen longest ago first.
        return [{}]

    def add(self) -> Add:
        resolution, number = tiles_of(self.length)
        column, most = self.column, self.max_distinct

        def add(state: State, time: int, fields: Fields) -> None:
            value = fields.get(column)
            if value is None:
                return
            tile = time // resolution
            last_tiles: dict[str | float, int] = state[0]
            before = last_tiles.get(value)
            if before == tile:
                return
            if before is not None:
                del last_tiles[value]
            else:
                forget_values(last_tiles, tile - number)
                if len(last_tiles) == most:
                    del last_tiles[next(iter(last_tiles))]
            last_tiles[value] = tile

        return add

    def value(self) -> Value:
        resolution, number = tiles_of(self.length)

        def value(state: State, time: int, fields: Fields) -> float | None:
            last_tiles: dict[str | float, int] = state[0]
            forget_values(last_tiles, time // resolution - number)
            return float(len(last_tiles))

        return value


def forget_values(last_tiles: dict[str | float, int], last: int) -> None:
    """Lets go of the values whose last tile is at or before `last`."""
    gone = []
    for value, tile in last_tiles.items():
        if tile > last:
            break
        gone.append(value)
    for value in gone:
        del last_tiles[value]
