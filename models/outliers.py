"""Which values of a quantity are outliers: sentinels, infinities, slips of the pen, but not a distribution's tail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: An outlier is so many times as far from the median as nine tenths of the values that differ from it.
_FAR = 10


def usual_range(values: Floats, weights: Floats | None = None) -> tuple[float, float]:
    """The range beyond which values are outliers.

    Args:
        values: Sorted values, finite, one at least.
        weights: How many each stands for; one each if None.
    """
    if weights is None:
        weights = np.ones(len(values))
    median = _quantile(values, weights, 0.5)
    apart = np.abs(values - median)
    differing = apart > 0
    if not differing.any():
        return median, median
    order = np.argsort(apart[differing], kind="stable")
    reach = _FAR * _quantile(apart[differing][order], weights[differing][order], 0.9)
    return median - reach, median + reach


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    """The least of sorted values that at least this share of the weight does not exceed."""
    upto = np.cumsum(weights)
    return float(values[min(int(np.searchsorted(upto, share * upto[-1])), len(values) - 1)])
