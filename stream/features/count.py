"""How many events a key had in a window."""

from __future__ import annotations

from typing import Literal

from adclick.stream.features.feature import Add, Fields, State, Value, WindowFeature
from adclick.stream.features.tiles import forget_sums, tiles_of, window_in_words


class Count(WindowFeature):
    """How many events of the key there were in the window, the click itself included."""

    kind: Literal["count"]

    @property
    def explanation(self) -> str:
        return f"number of {self.of} in {window_in_words(self.window, self.length)}; kept: a count for each tile"

    def new_state(self) -> State:
        # Tiles, their counts, the sum of these.
        return [[], [], 0]

    def add(self) -> Add:
        resolution, number = tiles_of(self.length)

        def add(state: State, time: int, fields: Fields) -> None:
            tile = time // resolution
            tiles = state[0]
            if tiles and tiles[-1] == tile:
                state[1][-1] += 1
            else:
                if tiles and tiles[0] <= tile - number:
                    forget_sums(state, tile - number)
                tiles.append(tile)
                state[1].append(1)
            state[2] += 1

        return add

    def value(self) -> Value:
        resolution, number = tiles_of(self.length)

        def value(state: State, time: int, fields: Fields) -> float | None:
            tiles = state[0]
            last = time // resolution - number
            if tiles and tiles[0] <= last:
                forget_sums(state, last)
            return float(state[2])

        return value
