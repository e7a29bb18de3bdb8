"""The best that the clicks seen so far allow: effects of ids estimated under the priors they were drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class IdColumn:
    """One column of ids, each id with an effect of its own on the logit.

    Attributes:
        ids: The id of every impression as a number below `size`, int, shape (n,); -1 where it is missing: no effect.
        size: How many ids there are.
        deviation: The standard deviation, in logits, of the normal distribution from which the effects were drawn.
    """

    ids: NDArray[np.int64]
    size: int
    deviation: float

    def padded(self) -> NDArray[np.int64]:
        """The ids, a missing one as `size`."""
        return np.where(self.ids < 0, self.size, self.ids)


def sigmoid(logit: _FloatArray) -> _FloatArray:
    """The probability of each logit."""
    return np.asarray(1 / (1 + np.exp(-logit)))


def normal_mean(logit: _FloatArray, variance: _FloatArray, nodes: int = 9) -> tuple[_FloatArray, _FloatArray]:
    """Averages the probability over normally distributed logits by Gauss-Hermite quadrature.

    Args:
        logit: Mean of each logit, shape (n,).
        variance: Its variance, shape (n,).
        nodes: Number of points of the quadrature.

    Returns:
        The mean of the probability p and of its slope p (1 - p), each of shape (n,).
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)  # type: ignore[no-untyped-call, unused-ignore]
    deviation = np.sqrt(variance)
    mean, slope = np.zeros_like(logit), np.zeros_like(logit)
    for point, weight in zip(points, weights / weights.sum(), strict=True):
        probability = sigmoid(logit + point * deviation)
        mean += weight * probability
        slope += weight * probability * (1 - probability)
    return mean, slope


def attainable_probability(
    offset: _FloatArray,
    columns: Sequence[IdColumn],
    clicked: NDArray[np.int8],
    training: NDArray[np.bool_],
    *,
    max_sweeps: int = 60,
    tolerance: float = 1e-3,
) -> _FloatArray:
    """Predicts with every known term given and the ids' effects learned from the training clicks.

    The posterior of the effects is approximated by independent normal distributions (mean-field variational inference
    of a logistic regression whose ridge penalties are the true priors), found by Newton steps, one column at a time.
    The spread that the clicks leave is averaged out, both in the fit and in the prediction: rare clicks are never
    centred on the sigmoid of the mean logit.

    Args:
        offset: The logit of all terms but the ids', shape (n,).
        columns: The columns of ids.
        clicked: The drawn clicks, 0 or 1, shape (n,); read where `training` holds.
        training: The impressions whose clicks are known, shape (n,).
        max_sweeps: At most this many passes over the columns.
        tolerance: Passes end once no effect moves by more than this, in logits.

    Returns:
        The probability of each impression, shape (n,).
    """
    padded = [column.padded() for column in columns]
    seen = [ids[training] for ids in padded]
    labels = clicked[training].astype(np.float64)
    effects = [np.zeros(column.size + 1) for column in columns]
    # The last entry stands for a missing id: no effect, no spread.
    spreads = [np.append(np.full(column.size, column.deviation**2), 0.0) for column in columns]
    logit = offset[training].copy()
    variance = np.sum([spread[ids] for spread, ids in zip(spreads, seen, strict=True)], axis=0)
    for _ in range(max_sweeps):
        largest = 0.0
        for number, ids in enumerate(seen):
            size, prior = columns[number].size + 1, columns[number].deviation ** -2
            probability, slope = normal_mean(logit, variance, 3)
            precision = np.bincount(ids, slope, size) + prior
            gradient = np.bincount(ids, labels - probability, size) - prior * effects[number]
            # A step beyond one logit would leave the region where the quadratic holds.
            step = np.clip(gradient / precision, -1.0, 1.0)
            spread = 1 / precision
            step[-1] = spread[-1] = 0.0
            logit += step[ids]
            variance = np.maximum(variance + (spread - spreads[number])[ids], 0.0)
            effects[number] += step
            spreads[number] = spread
            largest = max(largest, float(np.abs(step).max()))
        if largest < tolerance:
            break
    mean = offset + np.sum([effect[ids] for effect, ids in zip(effects, padded, strict=True)], axis=0)
    left = np.sum([spread[ids] for spread, ids in zip(spreads, padded, strict=True)], axis=0)
    return normal_mean(mean, left)[0]
