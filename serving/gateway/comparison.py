"""Several ads over one audience: the expected click rate of each, with what the audience's sampling leaves open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 1_000
#: The share of the resamples that an interval holds.
CONFIDENCE = 0.95
#: Of fewer rows no interval is told: resamples of them say too little.
ROWS_FOR_INTERVAL = 30
#: A column with more values is no breakdown that people read.
MOST_VALUES = 12
_INTERVAL = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Rate:
    """An expected click rate, or a difference of two, with its 95 % interval; None where too few rows tell."""

    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class SliceRates:
    """The rates of ads over a part of the audience.

    Attributes:
        value: What the part has in common.
        rows: Its rows.
        rates: Of each ad.
    """

    value: str
    rows: int
    rates: list[Rate]


@dataclass(frozen=True)
class AdComparison:
    """Ads over an audience.

    Attributes:
        rates: The expected click rate of each ad.
        differences: Each ad's rate less that of the ad with the highest; 0 for that one.
        best_shares: In which share of the resamples each ad has the highest rate, a draw parted among those that have
            it; None where too few rows tell.
        as_shown: The rate that the audience had with what it was shown; None where that is not known.
        slices: By column, the rates over the rows of each of its values.
    """

    rates: list[Rate]
    differences: list[Rate]
    best_shares: list[float | None]
    as_shown: Rate | None
    slices: dict[str, list[SliceRates]]


def compare(
    probabilities: npt.NDArray[np.floating[Any]], ads: int, columns: Mapping[str, Sequence[str]]
) -> AdComparison:
    """Compares ads by their mean click probability over an audience.

    The intervals are of the paired percentile bootstrap over the rows (Efron & Tibshirani 1993, "An introduction to
    the bootstrap", chapter 13): each resample draws the same rows for all ads. They hold what the audience leaves open,
    not what the model does.

    Args:
        probabilities: Click probabilities [rows, ads], or [rows, ads + 1] with what each row was shown as the last.
        ads: How many ads are compared.
        columns: By column, the value of each row.
    """
    every = np.asarray(probabilities, np.float64)
    rows, scored = len(every), every[:, :ads]
    # The same for the same audience, so that a comparison told twice is told alike.
    random = np.random.default_rng(rows)
    draws = random.integers(0, rows, (RESAMPLES, rows))
    weights = np.stack([np.bincount(draw, minlength=rows) for draw in draws]).astype(np.float64)
    rates, resampled = _rates(every, weights)
    means = scored.mean(axis=0)
    best = int(np.argmax(means))
    has_interval = rows >= ROWS_FOR_INTERVAL
    differences = resampled[:, :ads] - resampled[:, [best]]
    is_best = resampled[:, :ads] == resampled[:, :ads].max(axis=1, keepdims=True)
    # Ads that no model tells apart, as where images have no effect, share what they win.
    winners = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    slices = {}
    for name, values in columns.items():
        codes = np.array(values, object)
        slices[name] = [
            SliceRates(value, count, _rates(scored[codes == value], weights[:, codes == value])[0])
            for value, count in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
        ]
    return AdComparison(
        rates=rates[:ads],
        differences=_with_intervals(means - means[best], differences, has_interval=has_interval),
        best_shares=[float(share) if has_interval else None for share in winners],
        as_shown=rates[ads] if len(rates) > ads else None,
        slices=slices,
    )


def _rates(scored: Floats, weights: Floats) -> tuple[list[Rate], Floats]:
    """The rates of ads over rows, and those of each resample [resamples, ads]."""
    counts = weights.sum(axis=1, keepdims=True)
    drawn = counts[:, 0] > 0
    resampled = (weights[drawn] @ scored) / counts[drawn]
    return _with_intervals(scored.mean(axis=0), resampled, has_interval=len(scored) >= ROWS_FOR_INTERVAL), resampled


def _with_intervals(values: Floats, resampled: Floats, *, has_interval: bool) -> list[Rate]:
    if not has_interval:
        return [Rate(float(value), None, None) for value in values]
    lower, upper = np.quantile(resampled, _INTERVAL, axis=0)
    return [Rate(float(value), float(low), float(high)) for value, low, high in zip(values, lower, upper, strict=True)]


def breakdowns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[str]]:
    """By column with few values, the value of each row as text; those with the fewest first.

    Args:
        rows: The audience's rows, without missing values.
        names: The columns of text that hold one value each.
    """
    found = {}
    for name in names:
        values = [str(row.get(name, "")) for row in rows]
        if 2 <= len(set(values)) <= MOST_VALUES:
            found[name] = values
    return dict(sorted(found.items(), key=lambda item: len(set(item[1]))))
