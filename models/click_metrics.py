"""Metrics of click predictions, from counts that add up: over batches, workers and the folds of a jackknife.

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

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A jackknife leaves out one fold of so many at a time.
FOLDS = 20
_SMALLEST = 1e-7
_BINS = 8_192
_LARGEST_LOGIT = 16.2
#: Columns of `SliceCounts.sums`.
_LOSS, _CLICKS, _WEIGHT, _PREDICTED = range(4)


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


def _kept(probability: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.clip(probability.astype(np.float64), _SMALLEST, 1 - _SMALLEST)


def count(prediction: Floats, clicked: npt.NDArray[np.bool_], weight: Floats, fold: Ints) -> SliceCounts:
    """Counts impressions.

    Args:
        prediction: Click probabilities [rows].
        clicked: Whether each was clicked [rows].
        weight: How many impressions each stands for [rows].
        fold: The jackknife's fold of each, from 0 to `FOLDS` - 1 [rows].
    """
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
    """Computes every metric: AUC, precision-recall AUC, log loss, normalised entropy, calibration ratio, click rate.

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
    sums = np.concatenate([counts.sums, np.zeros((1, 4))])
    sums = counts.sums.sum(axis=0) - sums
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = sums[:, _WEIGHT]
        rate = sums[:, _CLICKS] / weight
        log_loss = sums[:, _LOSS] / weight
        found = {
            "auc": _auc(clicked, unclicked),
            "auc_precision_recall": _auc_precision_recall(clicked, unclicked),
            "log_loss": log_loss,
            "normalised_entropy": log_loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)),
            "calibration_ratio": sums[:, _PREDICTED] / sums[:, _CLICKS],
            "click_rate": rate,
            "example_count": weight,
        }
    finite = {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}
    return Estimates(
        {name: float(values[-1]) for name, values in finite.items()},
        {name: values[:-1] for name, values in finite.items()},
    )


def _auc(clicked: Floats, unclicked: Floats) -> Floats:
    """Area under the ROC curve of histograms [sets, bins], ties counting half."""
    below = np.cumsum(unclicked, axis=1) - unclicked / 2
    return (clicked * below).sum(axis=1) / (clicked.sum(axis=1) * unclicked.sum(axis=1))


def _auc_precision_recall(clicked: Floats, unclicked: Floats) -> Floats:
    """Area under the precision-recall curve of histograms [sets, bins].

    Interpolated as Davis & Goadrich 2006, "The relationship between precision-recall and ROC curves": between two
    thresholds true positives grow linearly with what is predicted positive.
    """
    true = _from_the_top(clicked)
    positive = _from_the_top(clicked + unclicked)
    slope = _ratio(np.diff(true, axis=1), np.diff(positive, axis=1))
    intercept = true[:, :-1] - slope * positive[:, :-1]
    growth = np.where(positive[:, :-1] > 0, _ratio(positive[:, 1:], positive[:, :-1]), 1.0)
    area = slope * (np.diff(true, axis=1) + intercept * np.log(growth))
    return area.sum(axis=1) / true[:, -1]


def _from_the_top(histograms: Floats) -> Floats:
    """Cumulative sums from the highest bin, starting from 0."""
    sums: Any = np.cumsum(histograms[:, ::-1], axis=1)
    return np.concatenate([np.zeros((len(histograms), 1)), sums], axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


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
