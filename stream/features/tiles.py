"""Windows in tiles: exact at the near end, moving tile by tile at the far one, so that a key's state is bounded.

As in Chronon's and Tecton's aggregations; what is looked at is the same however events are batched.
"""

from __future__ import annotations

from adclick.stream.features.feature import State, in_words

#: A window has at most so many tiles.
TILES = 60
_SECOND = 1_000_000


def tiles_of(length: int) -> tuple[int, int]:
    """How a window of so many microseconds is tiled.

    Returns:
        The length of a tile, the window's resolution, in microseconds, at least a second; and how many there are, the
        one of the event included.
    """
    resolution = max(length // TILES, _SECOND)
    return resolution, -(-length // resolution)


def gone_tiles(tiles: list[int], last: int) -> int:
    """How many of a key's tiles, oldest first, are at or before `last`."""
    gone = 0
    for tile in tiles:
        if tile > last:
            break
        gone += 1
    return gone


def forget_sums(state: State, last: int) -> None:
    """Lets go of the tiles up to `last` of a state of tiles, whole-number sums by tile, and their total, in this order.

    Whole numbers only: what is taken from a total of fractions leaves a rounding error.
    """
    gone = gone_tiles(state[0], last)
    if gone:
        sums = state[1]
        state[2] -= sum(sums[:gone])
        del state[0][:gone], sums[:gone]


def window_in_words(window: str, length: int) -> str:
    """What a window holds, in words."""
    resolution, tiles = tiles_of(length)
    return f"the last {window}, exact at this end, in steps of {in_words(resolution)} at the far one ({tiles} tiles)"
