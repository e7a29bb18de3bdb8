"""How evenly a key's events are spread over the hours of the day."""

from __future__ import annotations

import math
from typing import Literal

from adclick.stream.features.feature import Add, Fields, State, Value, WindowFeature
from adclick.stream.features.tiles import gone_tiles, tiles_of, window_in_words

_HOUR = 3_600_000_000


class HourEntropy(WindowFeature):
    """The entropy, in bits, of the hours of the day (UTC) of the key's events in the window, the click's own included.

    0 is one hour, 4.58 all alike: people sleep, scripts do not. Missing where there are none.
    """

    kind: Literal["hour_entropy"]

    @property
    def explanation(self) -> str:
        return (
            f"entropy of the hours of the {self.of} of {window_in_words(self.window, self.length)}; kept: a count for "
            "each hour of each tile"
        )

    def new_state(self) -> State:
        # Tiles, the counts by hour of each, the counts of all of them by hour.
        return [[], [], [0] * 24]

    def add(self) -> Add:
        resolution, number = tiles_of(self.length)

        def add(state: State, time: int, fields: Fields) -> None:
            tile = time // resolution
            hour = time // _HOUR % 24
            tiles, counts, totals = state
            if not (tiles and tiles[-1] == tile):
                _forget(state, tile - number)
                tiles.append(tile)
                counts.append({})
            newest = counts[-1]
            newest[hour] = newest.get(hour, 0) + 1
            totals[hour] += 1

        return add

    def value(self) -> Value:
        resolution, number = tiles_of(self.length)

        def value(state: State, time: int, fields: Fields) -> float | None:
            _forget(state, time // resolution - number)
            totals = state[2]
            events = sum(totals)
            if not events:
                return None
            entropy = 0.0
            for count in totals:
                if count:
                    entropy -= count / events * math.log2(count / events)
            return entropy

        return value


def _forget(state: State, last: int) -> None:
    tiles, counts, totals = state
    gone = gone_tiles(tiles, last)
    if gone:
        for by_hour in counts[:gone]:
            for hour, count in by_hour.items():
                totals[hour] -= count
        del tiles[:gone], counts[:gone]
