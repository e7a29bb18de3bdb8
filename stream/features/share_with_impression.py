"""Which share of a key's clicks have an impression."""

from __future__ import annotations

from typing import Literal

from adclick.stream.features.feature import SECONDS_TO_CLICK, Add, Fields, State, Value, WindowFeature
from adclick.stream.features.tiles import gone_tiles, tiles_of, window_in_words


class ShareWithImpression(WindowFeature):
    """The share of the key's clicks in the window whose impression is known, the click itself included."""

    kind: Literal["share_with_impression"]
    of: Literal["clicks"] = "clicks"

    @property
    def needs_impressions(self) -> bool:
        return True

    @property
    def explanation(self) -> str:
        return (
            f"share of clicks whose impression is known in {window_in_words(self.window, self.length)}; kept: two "
            "counts for each tile"
        )

    def new_state(self) -> State:
        # Tiles, their clicks, their clicks with an impression.
        return [[], [], []]

    def add(self) -> Add:
        resolution, number = tiles_of(self.length)

        def add(state: State, time: int, fields: Fields) -> None:
            tile = time // resolution
            tiles, clicks, known = state
            has = 1 if SECONDS_TO_CLICK in fields else 0
            if tiles and tiles[-1] == tile:
                clicks[-1] += 1
                known[-1] += has
                return
            gone = gone_tiles(tiles, tile - number)
            if gone:
                del tiles[:gone], clicks[:gone], known[:gone]
            tiles.append(tile)
            clicks.append(1)
            known.append(has)

        return add

    def value(self) -> Value:
        def value(state: State, time: int, fields: Fields) -> float | None:
            # The click itself has let go of what is outside of the window.
            return sum(state[2]) / sum(state[1])

        return value
