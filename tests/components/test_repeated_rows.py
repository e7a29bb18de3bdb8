"""Rows of one identifier: the earliest is kept, clicked if any is, and what contradicts it is counted."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.components.ad_example_gen.repeated_rows import IdentifiedRows, describe_conflict, find_repeated

#: Identifier, contents, time, whether it is clicked.
Row = tuple[int, int, int, bool]


def as_chunks(rows: list[Row], cuts: list[int]) -> list[IdentifiedRows]:
    """The rows in consecutive chunks of two files."""
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    chunks = []
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        part = rows[start:end]
        chunks.append(
            IdentifiedRows(
                number // 2,
                number % 2,
                # As where other rows of the chunk belong to another partition.
                np.arange(0, 3 * len(part), 3, dtype=np.int32),
                np.array([row[0] for row in part], np.uint64),
                np.array([row[1] for row in part], np.uint64),
                np.array([row[2] for row in part], np.int64),
                np.array([row[3] for row in part], np.bool_),
            )
        )
    return chunks


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(0, 2), st.booleans()), min_size=1, max_size=60
    ),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_the_earliest_row_is_kept_and_clicked_if_any_is(rows: list[Row], cuts: list[int], order: st.DataObject) -> None:
    chunks = as_chunks(rows, cuts)
    shuffled = list(chunks)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    found = {(one.file_index, one.part): one for one in find_repeated(shuffled)}

    kept: dict[int, tuple[Row, tuple[int, int, int]]] = {}
    dropped, conflicting, of_clicks, clicked = set(), 0, 0, set()
    places = [(chunk.file_index, chunk.part, int(row)) for chunk in chunks for row in chunk.rows]
    for row, place in sorted(zip(rows, places, strict=True), key=lambda one: (one[0][2], one[1])):
        identifier, contents, time, is_clicked = row
        if identifier not in kept:
            kept[identifier] = row, place
            continue
        first, first_place = kept[identifier]
        dropped.add(place)
        of_click = contents == first[1] and time > first[2] and is_clicked
        of_clicks += of_click
        conflicting += (contents, time) != first[1:3] and not of_click
        if is_clicked and not first[3]:
            clicked.add(first_place)
    assert {(*at, int(row)) for at, one in found.items() for row in one.dropped} == dropped
    assert {(*at, int(row)) for at, one in found.items() for row in one.clicked} == clicked
    assert sum(one.conflicting for one in found.values()) == conflicting
    assert sum(one.of_clicks for one in found.values()) == of_clicks
    looked_at = [what for one in found.values() for what in one.looked_at.values()]
    assert len(looked_at) == len(set(looked_at)) == 2 * len({identifier for identifier, _ in looked_at})
    assert bool(looked_at) == bool(conflicting)


def test_a_conflict_is_told_by_the_columns_that_differ() -> None:
    columns, text = describe_conflict("i7", {"site": "a", "price": "1.5"}, {"site": "b", "price": "1.5"})
    assert columns == ["site"]
    assert text == "i7: site 'a' and 'b'"
