"""Distances between two samples, and how large they are by chance alone.

A sample's distance to another of the same distribution is never 0, and grows as the samples shrink. So a distance is
held against its threshold plus what chance explains, at an error rate that is shared out among all checks (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from adclick.components.drift_detector import distances

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """A distance between two samples.

    Attributes:
        value: The distance.
        noise: What chance alone stays below, but for the error rate.
    """

    value: float
    noise: float


def l_infinity(
    training: Mapping[bytes, float], traffic: Mapping[bytes, float], sizes: tuple[float, float], error_rate: float
) -> tuple[Distance, bytes]:
    """The largest difference of one value's shares, TFDV's `infinity_norm`.

    The chance part is that of a difference of two binomial shares, the error rate shared out among the values.

    Args:
        training: How often each value occurs in training.
        traffic: The same in the traffic.
        sizes: How many independent draws either is worth.
        error_rate: How often the noise may be exceeded by chance.

    Returns:
        The distance, and the value that gives it; both samples must hold a value.
    """
    totals = sum(training.values()), sum(traffic.values())
    apart = {
        value: abs(training.get(value, 0.0) / totals[0] - traffic.get(value, 0.0) / totals[1])
        for value in training.keys() | traffic.keys()
    }
    value = max(sorted(apart), key=apart.__getitem__)
    shares = training.get(value, 0.0) / totals[0], traffic.get(value, 0.0) / totals[1]
    noise = share_noise(shares, sizes, error_rate / len(apart))
    return Distance(apart[value], noise), value


def share_noise(shares: tuple[float, float], sizes: tuple[float, float], error_rate: float) -> float:
    """How far two shares of one population stand apart by chance; two-sided, with Yates' correction for continuity."""
    first, second = sizes
    pooled = (shares[0] * first + shares[1] * second) / (first + second)
    error = math.sqrt(pooled * (1 - pooled) * (1 / first + 1 / second))
    return normal_quantile(error_rate) * error + (1 / first + 1 / second) / 2


def jensen_shannon(training: Floats, traffic: Floats, sizes: tuple[float, float], error_rate: float) -> Distance:
    """The Jensen-Shannon divergence of two histograms over the same bins, in bits (Lin 1991).

    Of two samples of one distribution it is, times 8 ln 2 over the sum of their reciprocal sizes, chi-squared with one
    degree of freedom less than bins (Grosse et al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon
    divergence", for its leading term).

    Args:
        training: Counts by bin [bins].
        traffic: Counts by bin [bins].
        sizes: How many independent draws either is worth.
        error_rate: How often the noise may be exceeded by chance.
    """
    from scipy.stats import chi2

    freedom = max(1, int(((training > 0) | (traffic > 0)).sum()) - 1)
    noise = float(chi2.isf(error_rate, freedom)) * (1 / sizes[0] + 1 / sizes[1]) / (8 * math.log(2))
    return Distance(distances.jensen_shannon(training / training.sum(), traffic / traffic.sum()), noise)


def normal_quantile(error_rate: float) -> float:
    """How many standard deviations a normal deviate exceeds, either way, this often."""
    return -NormalDist().inv_cdf(error_rate / 2)
