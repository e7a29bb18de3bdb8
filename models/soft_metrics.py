"""Scores of a prediction against a known click probability, free of the noise of drawn clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adclick.models.metrics.counts import log_losses


@dataclass(frozen=True)
class SoftMetrics:
    """What the metrics would be on average over all clicks that the truth could draw.

    Attributes:
        auc: Of all pairs of a clicked and an unclicked impression, the share that the prediction orders rightly, ties
            counting half; NaN where there is no such pair.
        log_loss: Mean log loss in nats.
        normalised_entropy: Log loss over the entropy of the mean click rate (He et al. 2014): 1 is the base rate's own.
        calibration_ratio: Mean prediction over mean truth.
    """

    auc: float
    log_loss: float
    normalised_entropy: float
    calibration_ratio: float


def _expected_auc(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    order = np.argsort(prediction, kind="stable")
    clicked, ranked = truth[order], prediction[order]
    unclicked = 1 - clicked
    # Impressions of equal prediction form one step, so that their pairs count half.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    clicked_of_step = np.add.reduceat(clicked, starts)
    unclicked_of_step = np.add.reduceat(unclicked, starts)
    below = np.cumsum(unclicked_of_step) - unclicked_of_step
    # An impression makes no pair with itself.
    own = float((clicked * unclicked).sum())
    ordered = float((clicked_of_step * (below + unclicked_of_step / 2)).sum()) - own / 2
    pairs = float(clicked.sum() * unclicked.sum()) - own
    return ordered / pairs if pairs > 0 else float("nan")


def soft_metrics(truth: ArrayLike, prediction: ArrayLike) -> SoftMetrics:
    """Scores a prediction against the true click probability.

    Args:
        truth: The true click probability of each impression, shape (n,), within [0, 1]. Drawn clicks, 0 or 1, give the
            usual metrics.
        prediction: The predicted click probability, shape (n,), within [0, 1].

    Returns:
        The expected metrics. With drawn clicks of one class only, `auc` and `normalised_entropy` are NaN.

    Raises:
        ValueError: The shapes differ, nothing is given, or a value is no probability.
    """
    expected = np.asarray(truth, dtype=np.float64)
    given = np.asarray(prediction, dtype=np.float64)
    if expected.ndim != 1 or expected.shape != given.shape:
        raise ValueError(f"truth and prediction must be vectors of one length: {expected.shape} and {given.shape}")
    if not expected.size:
        raise ValueError("no impressions to score")
    for name, values in (("truth", expected), ("prediction", given)):
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"{name} holds a value that is not a probability")
    mean = float(expected.mean())
    log_loss = float(log_losses(expected, given).mean())
    base = float(log_losses(np.array([mean]), np.array([mean]))[0]) if 0 < mean < 1 else float("nan")
    return SoftMetrics(
        auc=_expected_auc(expected, given),
        log_loss=log_loss,
        normalised_entropy=log_loss / base,
        calibration_ratio=float(given.mean()) / mean if mean else float("nan"),
    )


def expected_calibration_error(truth: ArrayLike, prediction: ArrayLike, bins: int = 10) -> float:
    """How far mean prediction and mean truth lie apart, on average over bins of as many impressions each.

    Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".

    Args:
        truth: The true click probability of each impression, or its drawn click, shape (n,).
        prediction: The predicted click probability, shape (n,).
        bins: The number of bins, by prediction.
    """
    expected, given = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    parts = np.array_split(np.argsort(given, kind="stable"), bins)
    apart = [abs(float(given[part].mean() - expected[part].mean())) * len(part) for part in parts if len(part)]
    return sum(apart) / len(given)
