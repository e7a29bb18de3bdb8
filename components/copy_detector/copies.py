"""Tells rows that were copied from rows that are equal by chance.

By identifier nothing is left to chance. Without, rows of few columns are equal by nature, and the question is whether
two parts of a log share more than that. Take the values that occur exactly twice in both parts together. Were the rows
drawn independently, at whatever rates a and b in the two parts, the two would fall into different parts with
probability 2ab / (a + b)² ≤ 1/2: equal rows come at least as often within a part as across both, however the parts
differ in size and kind. What comes more often across was copied.

A log that was made free of repetitions has none within a part. There the labels tell: of rows that are equal by chance
some are clicked in one part and not in the other; copies agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adclick.components.copy_detector.row_hashes import Bools, Hashes, RowHashes

#: Standard deviations by which rows must come more often across than within.
_EVIDENCE = 4.0
#: And the least part of what comes across: rows that keep apart, as by a cap on frequency, are no copies.
_LEAST_EXCESS = 0.2
#: Where at least so many differing labels are expected by chance, labels are evidence.
_LEAST_DIFFERING = 16.0
#: Equal rows are clicked alike more often than any two: so few of the expected differences are still chance.
_CHANCE_DIFFERING = 0.7
#: Standard deviations of the number of differing labels.
_DIFFERING_EVIDENCE = 2.5
#: Pairs of files looked at, those that share most rows.
_MOST_PAIRS = 20


@dataclass(frozen=True)
class Part:
    """A part of a log, as hashes of its rows.

    Attributes:
        contents: uint64 [n].
        clicked: bool [n].
    """

    contents: Hashes
    clicked: Bools

    @staticmethod
    def of(rows: RowHashes, chosen: Bools | slice = slice(None)) -> Part:
        return Part(rows.contents[chosen], rows.clicked[chosen])


def copied_rows(first: Part, second: Part) -> int:
    """How many rows of one part stand in the other, whatever their labels, beyond what chance explains."""
    hashes = np.concatenate([first.contents, second.contents])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    twice = starts[np.diff(np.append(starts, len(ordered))) == 2]
    one, other = order[twice], order[twice + 1]
    is_across = (one < len(first.contents)) != (other < len(first.contents))
    across, within = int(is_across.sum()), int((~is_across).sum())
    excess = across - within
    if excess <= max(_EVIDENCE * np.sqrt(across + within), _LEAST_EXCESS * across):
        return 0
    clicked = np.concatenate([first.clicked, second.clicked])
    differing = int((clicked[one] != clicked[other])[is_across].sum())
    rates = [float(part.clicked.mean()) for part in (first, second)]
    expected = across * (rates[0] * (1 - rates[1]) + rates[1] * (1 - rates[0]))
    if expected < _LEAST_DIFFERING:
        return excess
    by_chance = _CHANCE_DIFFERING * expected
    # As many as may differ in truth, where so many are seen to.
    if differing + _DIFFERING_EVIDENCE * np.sqrt(differing + 1) >= by_chance:
        return 0
    return min(excess, round(across * (1 - differing / by_chance)))


def copies_between_files(rows: RowHashes) -> dict[tuple[int, int], int]:
    """By pair of files of one drop, how many rows of one stand in the other beyond what chance explains."""
    order = np.argsort(rows.contents, kind="stable")
    ordered = rows.contents[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, np.int64)
    twice = starts[np.diff(np.append(starts, len(ordered))) == 2]
    pairs = np.sort(np.stack([rows.files[order[twice]], rows.files[order[twice + 1]]]), axis=0)
    found, counts = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1, return_counts=True)
    suspects = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    copies = {}
    for one, other in found[:, suspects].T.tolist():
        copied = copied_rows(Part.of(rows, rows.files == one), Part.of(rows, rows.files == other))
        if copied:
            copies[one, other] = copied
    return copies


def common(first: Hashes, second: Hashes) -> Bools:
    """Which hashes of the first stand in the second, too."""
    if not len(second):
        return np.zeros(len(first), np.bool_)
    ordered = np.sort(second)
    places = np.minimum(np.searchsorted(ordered, first), len(ordered) - 1)
    return np.asarray(ordered[places] == first)


def splits_in(rows: RowHashes, splits: tuple[int, ...]) -> Bools:
    """Which rows belong to one of the splits."""
    return np.isin(rows.splits, np.array(splits, np.int64))
