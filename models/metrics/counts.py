"""Counts that metrics are computed from, and that add up: over batches, workers and the folds of a jackknife.

A prediction is counted in a bin of its logit, fine enough that what is lost in AUC lies far below its standard error.
Everything else is a sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adclick.models.metrics import METRICS
from adclick.models.metrics.metric import ScoredSets
from adclick.schema.errors import ModelRefused

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A jackknife leaves out one fold of so many at a time.
FOLDS = 20
NOT_FINITE_REMEDY = (
    "A lower training.learning_rate may help; so may another scaling of a quantity that spans many orders of magnitude."
)
_SMALLEST = 1e-7
_BINS = 8_192
_LARGEST_LOGIT = 16.2


@dataclass(frozen=True)
class SliceCounts:
    """What the metrics of one model in one slice are computed from.

    Attributes:
        bins: int64 [n], `fold * bins + bin` of predictions, distinct and ascending.
        clicked: float64 [n], the weight of clicked impressions in each.
        unclicked: float64 [n], the weight of unclicked ones.
        sums: float64 [folds, 4], by fold: weighted loss, clicks, weight and predictions.
    """

    bins: Ints
    clicked: Floats
    unclicked: Floats
    sums: Floats


def log_losses(target: Floats, probability: npt.NDArray[np.floating[Any]]) -> Floats:
    """The log loss of each prediction, in nats, float64 [rows].

    Args:
        target: Whether each impression was clicked, 0 or 1, or the true probability that it is, [rows].
        probability: The predicted click probability [rows]; kept off 0 and 1 by 1e-7.
    """
    kept = _kept(probability)
    return np.asarray(-(target * np.log(kept) + (1 - target) * np.log1p(-kept)))


def check_finite(values: npt.NDArray[np.floating[Any]], what: str) -> None:
    """Refuses a model of which some values, such as its predictions, are none.

    Raises:
        ModelRefused: Some of the values are NaN or infinite.
    """
    wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
    if wrong:
        raise ModelRefused(f"{wrong:,} of {values.size:,} {what} are not finite", NOT_FINITE_REMEDY)


def _kept(probability: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.clip(probability.astype(np.float64), _SMALLEST, 1 - _SMALLEST)


def count(prediction: Floats, clicked: npt.NDArray[np.bool_], weight: Floats, fold: Ints) -> SliceCounts:
    """Counts impressions.

    Args:
        prediction: Click probabilities [rows].
        clicked: Whether each was clicked [rows].
        weight: How many impressions each stands for [rows].
        fold: The jackknife's fold of each, from 0 to `FOLDS` - 1 [rows].

    Raises:
        ModelRefused: A prediction is not finite.
    """
    check_finite(prediction, "predictions")
    kept = _kept(prediction)
    logit = np.log(kept) - np.log1p(-kept)
    position = ((logit + _LARGEST_LOGIT) * (_BINS / (2 * _LARGEST_LOGIT))).astype(np.int64)
    bins, where = np.unique(fold * _BINS + position, return_inverse=True)
    columns = (
        log_losses(clicked.astype(np.float64), prediction) * weight,
        clicked * weight,
        weight,
        prediction * weight,
    )
    return SliceCounts(
        bins,
        _sum_by(where, clicked * weight, len(bins)),
        _sum_by(where, ~clicked * weight, len(bins)),
        np.stack([_sum_by(fold, column, FOLDS) for column in columns], axis=1),
    )


def _sum_by(group: Ints, values: Floats, groups: int) -> Floats:
    return np.asarray(np.bincount(group, values, groups), np.float64)


def add(parts: Sequence[SliceCounts]) -> SliceCounts:
    """Counts of all parts together."""
    if len(parts) == 1:
        return parts[0]
    bins, where = np.unique(np.concatenate([part.bins for part in parts]), return_inverse=True)

    def summed(columns: Iterable[Floats]) -> Floats:
        return _sum_by(where, np.concatenate(list(columns)), len(bins))

    return SliceCounts(
        bins,
        summed(part.clicked for part in parts),
        summed(part.unclicked for part in parts),
        np.sum([part.sums for part in parts], axis=0),
    )


@dataclass(frozen=True)
class Estimates:
    """Metrics of all impressions, and with each fold left out.

    Attributes:
        value: By metric.
        without: By metric, float64 [folds]: its value without each fold.
    """

    value: dict[str, float]
    without: dict[str, Floats]

    def minus(self, other: Estimates) -> Estimates:
        """The differences to another model's estimates on the same impressions."""
        return Estimates(
            {name: value - other.value[name] for name, value in self.value.items()},
            {name: values - other.without[name] for name, values in self.without.items()},
        )


def jackknife(value: float, without: Floats) -> tuple[float, float]:
    """The mean over the folds left out, and the standard error of the metric.

    Efron & Stein 1981, "The jackknife estimate of variance", over groups of impressions.
    """
    pseudo = value * len(without) - without * (len(without) - 1)
    return float(without.mean()), float(pseudo.std(ddof=1) / np.sqrt(len(without)))


def estimate(counts: SliceCounts) -> Estimates:
    """Computes every metric of `models.metrics`.

    A metric that the impressions cannot give, such as an AUC without a click, is NaN.
    """
    distinct, where = np.unique(counts.bins % _BINS, return_inverse=True)
    fold = counts.bins // _BINS
    # The last row leaves out nothing.
    histograms = np.zeros((2, FOLDS + 1, len(distinct)))
    np.add.at(histograms[0], (fold, where), counts.clicked)
    np.add.at(histograms[1], (fold, where), counts.unclicked)
    total = histograms.sum(axis=1, keepdims=True)
    clicked, unclicked = np.maximum(total - histograms, 0)
    loss, clicks, weight, predicted = (counts.sums.sum(axis=0) - np.concatenate([counts.sums, np.zeros((1, 4))])).T
    sets = ScoredSets(clicked, unclicked, loss, clicks, weight, predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {metric.name: metric.compute(sets) for metric in METRICS}
    finite = {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}
    return Estimates(
        {name: float(values[-1]) for name, values in finite.items()},
        {name: values[:-1] for name, values in finite.items()},
    )


def thresholds(counts: SliceCounts, rates: Sequence[float]) -> dict[float, float]:
    """By false-positive rate, the least probability from which on no more of the unclicked impressions lie.

    It is the edge of a bin, 0.2 % apart in odds. Empty where there is no unclicked impression.
    """
    distinct, where = np.unique(counts.bins % _BINS, return_inverse=True)
    unclicked = _sum_by(where, counts.unclicked, len(distinct))
    if not unclicked.sum() > 0:
        return {}
    # The share of the unclicked in each bin and above.
    above = np.cumsum(unclicked[::-1])[::-1] / unclicked.sum()
    found = {}
    for rate in rates:
        too_many = distinct[above > rate * (1 + 1e-9)]
        first = too_many[-1] + 1 if len(too_many) else 0
        found[rate] = float(1 / (1 + np.exp(_LARGEST_LOGIT - first * (2 * _LARGEST_LOGIT / _BINS))))
    return found


def quantiles(counts: SliceCounts, shares: Sequence[float]) -> tuple[float, ...]:
    """The predictions below which lie shares of the impressions, ascending where the shares are; none of none.

    Within a bin, 0.2 % of odds wide, predictions are taken to lie evenly.
    """
    distinct, where = np.unique(counts.bins % _BINS, return_inverse=True)
    weight = _sum_by(where, counts.clicked + counts.unclicked, len(distinct))
    kept = weight > 0
    distinct, weight = distinct[kept], weight[kept]
    if not len(distinct):
        return ()
    # A bin's edges, each at the share of impressions below it; gaps between bins hold nobody.
    above = np.cumsum(weight) / weight.sum()
    below = np.concatenate([[0.0], above[:-1]])
    positions = []
    for share in shares:
        place = min(int(np.searchsorted(above, share - 1e-12)), len(distinct) - 1)
        positions.append(distinct[place] + (share - below[place]) / (above[place] - below[place]))
    logits = np.array(positions) * (2 * _LARGEST_LOGIT / _BINS) - _LARGEST_LOGIT
    return tuple((1 / (1 + np.exp(-logits))).tolist())


@dataclass(frozen=True)
class CalibrationBin:
    """Impressions of about the same prediction.

    Attributes:
        weight: How many there are.
        predicted: Their mean prediction.
        clicked: Their click rate.
    """

    weight: float
    predicted: float
    clicked: float


def calibration_bins(counts: SliceCounts, bins: int = 15) -> list[CalibrationBin]:
    """Groups impressions by prediction into bins of about as many each, from the lowest prediction to the highest.

    A prediction is taken as its fine bin's middle, which is off by 0.2 % at most.
    """
    distinct, where = np.unique(counts.bins % _BINS, return_inverse=True)
    clicked = _sum_by(where, counts.clicked, len(distinct))
    weight = clicked + _sum_by(where, counts.unclicked, len(distinct))
    predicted = 1 / (1 + np.exp(_LARGEST_LOGIT - (distinct + 0.5) * (2 * _LARGEST_LOGIT / _BINS)))
    middle = np.cumsum(weight) - weight / 2
    group = np.minimum((middle / weight.sum() * bins).astype(np.int64), bins - 1)
    totals = [_sum_by(group, column, bins) for column in (weight, predicted * weight, clicked)]
    return [
        CalibrationBin(float(each), float(sum_predicted / each), float(sum_clicked / each))
        for each, sum_predicted, sum_clicked in zip(*totals, strict=True)
        if each
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> tuple[float, float, float]:
    """The mean distance of click rate and prediction over bins of equal weight, and what chance makes of it.

    Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning"; with equal
    weights and its bias as in Roelofs et al. 2022, "Mitigating bias in calibration error estimation".

    Returns:
        The error; and of a perfectly calibrated model, whose click rates are binomial about its predictions, the mean
        and the standard deviation of this error.
    """
    weight = np.array([one.weight for one in bins])
    predicted = np.array([one.predicted for one in bins])
    share = weight / weight.sum()
    error = share @ np.abs(np.array([one.clicked for one in bins]) - predicted)
    deviation = share * np.sqrt(predicted * (1 - predicted) / weight)
    # The absolute value of a normal deviate has mean √(2/π) and variance 1 - 2/π.
    mean = math.sqrt(2 / math.pi) * deviation.sum()
    return float(error), float(mean), float(math.sqrt(1 - 2 / math.pi) * np.linalg.norm(deviation))
