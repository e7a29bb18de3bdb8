"""Rows that come twice under one identifier: which is kept, which were clicked later, and which contradict each other.

A log often writes an impression and, once it is clicked, the impression again, with the time of one or the other. So of
the rows of one identifier the earliest, of these the first in the drop, is kept, and it is clicked if any of them is. A
clicked row that differs from it in nothing else but a later time is the click's. Rows that differ in more, or that are
later without being clicked, are conflicts: one of them must be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adclick.components.ad_example_gen.sources.csv_records import Bools, Ints

Hashes = npt.NDArray[np.uint64]

#: Of each partition of identifiers, so many that are in conflict are looked at.
_LOOKED_AT = 32
#: Columns named and told of each, at most.
_MOST_COLUMNS = 5


@dataclass(frozen=True)
class IdentifiedRows:
    """The rows of a chunk whose identifiers belong to one partition.

    Attributes:
        file_index: The file's place in the drop.
        part: The chunk's place in the file.
        rows: int32 [n], positions in the chunk, ascending.
        identifiers: uint64 [n], hashes of the identifiers.
        contents: uint64 [n], hashes of all else but label and time.
        seconds: int64 [n], the time, 0 where there is no column of times.
        clicked: bool [n].
    """

    file_index: int
    part: int
    rows: Ints
    identifiers: Hashes
    contents: Hashes
    seconds: npt.NDArray[np.int64]
    clicked: Bools


@dataclass(frozen=True)
class RepeatedRows:
    """What is to be done to the rows of a chunk.

    Attributes:
        file_index: The file's place in the drop.
        part: The chunk's place in the file.
        dropped: int32 [n], positions of rows whose identifier has a row that is kept.
        conflicting: How many of them contradict that one.
        of_clicks: How many of them give the time of its click.
        clicked: int32 [k], positions of rows that are kept and clicked, as a later row says.
        looked_at: By position of a row in conflict, the identifier's hash and whether the row is the first.
    """

    file_index: int
    part: int
    dropped: Ints
    conflicting: int
    of_clicks: int
    clicked: Ints
    looked_at: dict[int, tuple[int, bool]]


def find_repeated(chunks: Iterable[IdentifiedRows]) -> Iterator[RepeatedRows]:
    """Finds the rows of a partition whose identifiers repeat, for each chunk that has some, in the drop's order."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.file_index, chunk.part))
    identifiers = np.concatenate([chunk.identifiers for chunk in ordered])
    times = np.concatenate([chunk.seconds for chunk in ordered])
    order = np.lexsort((times, identifiers))
    by_identifier = identifiers[order]
    is_first = np.append(True, by_identifier[1:] != by_identifier[:-1])
    if is_first.all():
        return
    contents, times = np.concatenate([chunk.contents for chunk in ordered])[order], times[order]
    clicks = np.concatenate([chunk.clicked for chunk in ordered])[order]
    firsts = np.flatnonzero(is_first)
    group = np.cumsum(is_first) - 1
    # By place in `order`.
    is_like, is_later = contents == contents[firsts][group], times > times[firsts][group]
    of_click = ~is_first & is_like & is_later & clicks
    differs = ~is_first & ~(is_like & ~is_later) & ~of_click
    clicked_later = np.zeros(len(order), np.bool_)
    clicked_later[firsts] = np.maximum.reduceat(clicks, firsts) & ~clicks[firsts]
    groups, first_conflicts = np.unique(group[differs], return_index=True)
    chosen = groups[:_LOOKED_AT]
    conflicts = np.flatnonzero(differs)[first_conflicts[:_LOOKED_AT]]
    looked_at = {int(order[firsts[one]]): (int(by_identifier[firsts[one]]), True) for one in chosen.tolist()}
    looked_at |= {int(order[one]): (int(by_identifier[one]), False) for one in conflicts.tolist()}

    def positions(chosen: Bools) -> Ints:
        return np.sort(order[chosen])

    dropped, clicked = positions(~is_first), positions(clicked_later)
    conflicting, of_clicks = positions(differs), positions(of_click)
    end = 0
    for chunk in ordered:
        first, end = end, end + len(chunk.rows)

        def here(all_positions: Ints, first: int = first, end: int = end) -> Ints:
            return all_positions[slice(*np.searchsorted(all_positions, [first, end]))] - first

        found = RepeatedRows(
            chunk.file_index,
            chunk.part,
            chunk.rows[here(dropped)],
            len(here(conflicting)),
            len(here(of_clicks)),
            chunk.rows[here(clicked)],
            {int(chunk.rows[at - first]): what for at, what in looked_at.items() if first <= at < end},
        )
        if len(found.dropped) or len(found.clicked) or found.looked_at:
            yield found


def describe_conflict(identifier: str, first: dict[str, str], other: dict[str, str]) -> tuple[list[str], str]:
    """The columns in which two rows of one identifier differ, and how, in words."""
    differing = [name for name in first if first[name] != other[name]]
    values = (f"{name} {first[name]!r} and {other[name]!r}" for name in differing[:_MOST_COLUMNS])
    return differing, f"{identifier}: {', '.join(values)}"
