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


def normal_mean(logit: _FloatArray, variance: _FloatArray) -> _FloatArray:
    """The mean probability of normally distributed logits, given their means and variances, each of shape (n,)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    deviation = np.sqrt(variance)
    mean = np.zeros_like(logit)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        mean += weight * sigmoid(logit + node * deviation)
    return mean


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

    The effects are the mode of their posterior (a ridge logistic regression whose penalties are the true priors),
    found by Newton steps, one column at a time. The spread that the clicks leave around the mode (its diagonal
    approximation) is averaged out of the probability; without that the prediction would be too low.

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
    precisions = [np.full(column.size + 1, column.deviation**-2) for column in columns]
    logit = offset[training].copy()
    for _ in range(max_sweeps):
        largest = 0.0
        for number, ids in enumerate(seen):
            size = columns[number].size + 1
            probability = sigmoid(logit)
            gradient = np.bincount(ids, labels - probability, size)
            prior = columns[number].deviation ** -2
            precisions[number] = np.bincount(ids, probability * (1 - probability), size) + prior
            # A step beyond one logit would leave the region where the quadratic holds.
            step = np.clip((gradient - prior * effects[number]) / precisions[number], -1.0, 1.0)
            step[-1] = 0.0
            effects[number] += step
            logit += step[ids]
            largest = max(largest, float(np.abs(step).max()))
        if largest < tolerance:
            break
    mean, variance = offset.copy(), np.zeros_like(offset)
    for ids, effect, precision in zip(padded, effects, precisions, strict=True):
        spread = 1 / precision
        spread[-1] = 0.0
        mean += effect[ids]
        variance += spread[ids]
    return normal_mean(mean, variance)
