"""Finds columns that give the label away: known only after the click, or made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from adclick.pipeline.onboarding.profile import Profile

#: No single column that is known before the click comes near this on held-out rows.
LEAK_AUC = 0.98
_MIN_PER_CLASS = 50
_BINS = 50
_Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
_Integers = np.ndarray[tuple[int], np.dtype[np.int64]]


def enough_clicks(labels: _Integers) -> bool:
    """Whether a sample holds clicks and non-clicks enough to judge a column by them."""
    clicks = int(labels.sum())
    return min(clicks, len(labels) - clicks) >= _MIN_PER_CLASS


def leak_reason(profile: Profile, cells: Sequence[str], labels: _Integers) -> str | None:
    """Says how a column gives the label away, or None if it does not.

    Values are judged on rows other than those they were learned from: an id that occurs once separates only the rows it
    was seen in.

    Args:
        profile: The column.
        cells: Its cells [rows] in the rows with a label.
        labels: 0 or 1 [rows].
    """
    missing = {*profile.missing_values, *profile.missing_markers}
    present = np.array([cell not in missing for cell in cells])
    base_rate = float(labels.mean())

    for flagged, what in ((present, "holds a value"), (~present, "is empty")):
        if 0 < flagged.sum() < len(labels) and _only_clicks(flagged, labels, base_rate):
            exactly = " and in all of them" if labels[~flagged].sum() == 0 else ""
            return f"it {what} only in rows that were clicked{exactly}"
    counts = Counter(cells)
    common, count = counts.most_common(1)[0]
    if count < len(cells):
        differs = np.array([cell != common for cell in cells])
        if _only_clicks(differs, labels, base_rate):
            return f"it differs from {common!r} only in rows that were clicked"

    groupings = [_by_value(cells)]
    if profile.numbers is not None and profile.distinct > _BINS:
        groupings.append(_by_quantile(cells, present))
    auc = max(_held_out_auc(groups, labels) for groups in groupings)
    if auc > LEAK_AUC:
        return f"alone it separates clicks from the rest almost perfectly (AUC {auc:.3f} on held-out rows)"
    return None


def _only_clicks(flagged: np.ndarray[tuple[int], np.dtype[np.bool_]], labels: _Integers, base_rate: float) -> bool:
    """Whether the flagged rows are clicks with hardly an exception, which chance does not bring about."""
    count = int(flagged.sum())
    return count >= 10 and labels[flagged].mean() >= 0.995 and base_rate**count < 1e-9


def _by_value(cells: Sequence[str]) -> _Integers:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(cells))}
    return np.array([numbers[cell] for cell in cells], dtype=np.int64)


def _by_quantile(cells: Sequence[str], present: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Integers:
    groups = np.zeros(len(cells), dtype=np.int64)
    numbers = np.array([_number(cell) for cell, is_present in zip(cells, present, strict=True) if is_present])
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1]))
    groups[present] = 1 + np.digitize(numbers, edges)
    return groups


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _held_out_auc(groups: _Integers, labels: _Integers) -> float:
    """The AUC of a group's click rate, learned on half of the rows and judged on the rest; the worse of both ways."""
    first = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    size = int(groups.max()) + 1
    aucs = []
    for learned in (first, ~first):
        judged = ~learned
        if len(np.unique(labels[learned])) < 2 or len(np.unique(labels[judged])) < 2:
            return 0.5
        base_rate = labels[learned].mean()
        clicks = np.bincount(groups[learned], weights=labels[learned], minlength=size)
        rows = np.bincount(groups[learned], minlength=size)
        rates: _Floats = (clicks + base_rate) / (rows + 1)
        aucs.append(float(roc_auc_score(labels[judged], rates[groups[judged]])))
    return min(aucs)
