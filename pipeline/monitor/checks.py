"""Holds a version's traffic against what it was trained on and against the clicks that came.

Every check is judged by its value against its threshold plus what chance explains at the error rate: so traffic within
all thresholds raises an alarm at most as often as `false_alarm_rate` of the config says, however little there is of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adclick.models.metrics.counts import (
    FOLDS,
    CalibrationBin,
    calibration_bins,
    estimate,
    expected_calibration_error,
    jackknife,
)
from adclick.pipeline.config.monitoring import MonitoringSettings
from adclick.pipeline.monitor.baseline import TrafficBaseline
from adclick.pipeline.monitor.distances import Distance, jensen_shannon, l_infinity, normal_quantile, share_noise
from adclick.pipeline.monitor.traffic import ServedTraffic
from adclick.serving.gateway.creatives import NONE, OK

State = Literal["in_order", "alarm", "not_judged"]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: What is compared: `drift`, `missing_rate`, `unknown_rate`, `mean_prediction`, `calibration_ratio`,
            `calibration_error` or `normalised_entropy`.
        column: The column; empty where all of a prediction is meant.
        expected: What it was in training; None where there is no such number.
        observed: What it is in the traffic; for `drift` the distance itself.
        distance: What is held against the threshold; for `calibration_ratio` how far its reciprocal lies beyond the
            nearer bound, negative between them.
        noise: How much of the distance chance explains.
        threshold: How large it may be; None where it is only shown.
        state: Whether it is in order; `not_judged` without a threshold, and where there is too little traffic.
        detail: What else a person wants to know.
    """

    name: str
    column: str
    expected: float | None
    observed: float
    distance: float
    noise: float
    threshold: float | None
    state: State
    detail: str = ""


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % confidence interval; the bounds are None where there are too few clicks for one."""

    value: float | None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Performance:
    """What the clicks say of a version, over the predictions whose window has passed.

    Attributes:
        predictions: How many these are.
        clicks: How many of them were clicked.
        metrics: By name: click_rate, calibration_ratio, log_loss, normalised_entropy, auc.
        calibration_error: The expected calibration error, as a share of the click rate; None without a click.
        bins: Predictions and click rates by bins of equal size.
    """

    predictions: int
    clicks: int
    metrics: Mapping[str, Interval]
    calibration_error: float | None
    bins: tuple[CalibrationBin, ...]


_SHOWN = ("click_rate", "calibration_ratio", "log_loss", "normalised_entropy", "auc")


def performance(traffic: ServedTraffic, least_clicks: int) -> Performance | None:
    """The metrics of a version; None where no prediction's window has passed.

    Confidence intervals are a jackknife's over groups of requests, whose predictions are not independent.
    """
    from scipy.stats import t

    if traffic.counts is None:
        return None
    estimates = estimate(traffic.counts)
    clicks = round(float(traffic.counts.clicked.sum()))
    bins = tuple(calibration_bins(traffic.counts))
    metrics = {}
    for name in _SHOWN:
        value = estimates.value[name]
        metrics[name] = Interval(value if math.isfinite(value) else None)
        if clicks >= least_clicks and math.isfinite(value) and np.isfinite(estimates.without[name]).all():
            half = float(t.ppf(0.975, FOLDS - 1)) * jackknife(value, estimates.without[name])[1]
            metrics[name] = Interval(value, value - half, value + half)
    error = expected_calibration_error(bins)[0] / estimates.value["click_rate"] if clicks else None
    return Performance(round(estimates.value["example_count"]), clicks, metrics, error, bins)


def check(traffic: ServedTraffic, settings: MonitoringSettings, *, has_clicks: bool) -> list[Check]:
    """All checks of a version.

    Args:
        traffic: Its traffic; with one prediction at least.
        settings: The thresholds.
        has_clicks: Whether clicks were looked for.
    """
    baseline = traffic.baseline
    found = []
    columns = len(baseline.features.model_inputs) if baseline is not None else 0
    # Three checks of a column at most, and four of the predictions.
    judge = _Judge(settings.false_alarm_rate / (3 * columns + 4), traffic.requests >= settings.least_requests)
    if baseline is not None:
        found += _drift(traffic, baseline, judge)
        found += _missing(traffic, baseline, settings.missing_rate, judge)
        found += _unknown(traffic, baseline, settings.unknown_rate, judge)
        found.append(_mean_prediction(traffic, baseline, settings.mean_prediction, judge))
    if has_clicks:
        found += _with_clicks(traffic, baseline, settings, judge)
    return found


@dataclass(frozen=True)
class _Judge:
    error_rate: float
    is_enough: bool

    def __call__(
        self,
        name: str,
        column: str,
        expected: float | None,
        observed: float,
        distance: Distance,
        threshold: float | None,
        *,
        is_enough: bool = True,
        detail: str = "",
    ) -> Check:
        state: State = "in_order"
        if threshold is None or not self.is_enough or not is_enough:
            state = "not_judged"
        elif not distance.value <= threshold + distance.noise:
            state = "alarm"
        return Check(name, column, expected, observed, distance.value, distance.noise, threshold, state, detail)


def _sizes(traffic: ServedTraffic, baseline: TrafficBaseline, *, training: int | None = None) -> tuple[float, float]:
    """How many independent draws the samples are worth.

    The ads of a request share its context: they are worth one draw, the least that they can be (Kish 1965, "Survey
    Sampling", on the effect of clusters).
    """
    return float(training or baseline.rows), float(min(traffic.requests, traffic.predictions))


def _drift(traffic: ServedTraffic, baseline: TrafficBaseline, judge: _Judge) -> list[Check]:
    found = []
    sizes = _sizes(traffic, baseline)
    for name, column in baseline.categorical.items():
        if column.threshold is None or name in traffic.hashed or not column.counts or not traffic.present[name]:
            continue
        distance, value = l_infinity(column.counts, traffic.value_counts(name), sizes, judge.error_rate)
        detail = f"most: {value.decode('utf-8', 'replace')}"
        found.append(judge("drift", name, None, distance.value, distance, column.threshold, detail=detail))
    for name, quantity in baseline.numeric.items():
        if traffic.bins[name].sum():
            distance = jensen_shannon(quantity.counts, traffic.bins[name], sizes, judge.error_rate)
            found.append(judge("drift", name, None, distance.value, distance, quantity.threshold))
    return found


def _rate(
    judge: _Judge,
    name: str,
    column: str,
    rates: tuple[float, float],
    sizes: tuple[float, float],
    threshold: float,
    *,
    rising: bool,
) -> Check:
    apart = rates[1] - rates[0]
    noise = share_noise(rates, sizes, judge.error_rate)
    return judge(name, column, rates[0], rates[1], Distance(apart if rising else abs(apart), noise), threshold)


def _missing(traffic: ServedTraffic, baseline: TrafficBaseline, threshold: float, judge: _Judge) -> list[Check]:
    sizes = _sizes(traffic, baseline)
    found = []
    for name, expected in baseline.missing.items():
        without = traffic.missing[name]
        if name == baseline.features.image_name:
            if not traffic.creative_statuses:
                continue
            without = traffic.creative_statuses[NONE]
        rates = expected, without / traffic.predictions
        found.append(_rate(judge, "missing_rate", name, rates, sizes, threshold, rising=False))
    return found


def _unknown(traffic: ServedTraffic, baseline: TrafficBaseline, threshold: float, judge: _Judge) -> list[Check]:
    sizes = _sizes(traffic, baseline, training=max(1, baseline.held_out_rows))
    found = []
    for name, column in baseline.categorical.items():
        if column.unknown_rate is None or name in traffic.hashed or not traffic.present[name]:
            continue
        rates = column.unknown_rate, traffic.unknown[name] / traffic.present[name]
        found.append(_rate(judge, "unknown_rate", name, rates, sizes, threshold, rising=True))
    given = traffic.creative_statuses.total() - traffic.creative_statuses[NONE]
    if baseline.features.image_name is not None and baseline.unknown_images is not None and given:
        rates = baseline.unknown_images, 1 - traffic.creative_statuses[OK] / given
        found.append(_rate(judge, "unknown_rate", baseline.features.image_name, rates, sizes, threshold, rising=True))
    return found


def _mean_prediction(traffic: ServedTraffic, baseline: TrafficBaseline, threshold: float, judge: _Judge) -> Check:
    expected, observed = baseline.click_rate, traffic.mean_prediction
    training, requests = _sizes(traffic, baseline)
    if not expected:
        return judge("mean_prediction", "", expected, observed, Distance(0.0, 0.0), None)
    variance = traffic.prediction_deviation**2 / requests + expected * (1 - expected) / training
    noise = normal_quantile(judge.error_rate) * math.sqrt(variance) / expected
    distance = Distance(abs(observed / expected - 1), noise)
    return judge("mean_prediction", "", expected, observed, distance, threshold)


def _with_clicks(
    traffic: ServedTraffic, baseline: TrafficBaseline | None, settings: MonitoringSettings, judge: _Judge
) -> list[Check]:
    from scipy.stats import t

    if traffic.counts is None:
        return []
    estimates = estimate(traffic.counts)
    value, without = estimates.value, estimates.without
    _, clicks_by_fold, _, predicted_by_fold = traffic.counts.sums.T
    clicks, predicted = float(clicks_by_fold.sum()), float(predicted_by_fold.sum())
    is_enough = max(clicks, predicted) >= settings.least_clicks
    before = baseline.evaluation if baseline is not None else {}
    deviations = float(t.isf(judge.error_rate / 2, FOLDS - 1))

    def noise(name: str) -> float:
        if not np.isfinite(without[name]).all():
            return math.inf
        return deviations * jackknife(value[name], without[name])[1]

    found = []
    # Judged by its reciprocal, which is finite without a click: how far that lies beyond the nearer bound.
    reciprocal = clicks / predicted
    beyond = max(1 / settings.calibration_upper - reciprocal, reciprocal - 1 / settings.calibration_lower)
    leaving_out = (clicks - clicks_by_fold) / (predicted - predicted_by_fold)
    # Of few clicks the jackknife may see no spread at all; they have Poisson's.
    error = max(jackknife(reciprocal, leaving_out)[1], math.sqrt(max(clicks, 1)) / predicted)
    distance = Distance(beyond, deviations * error)
    bounds = f"required: {settings.calibration_lower:g} to {settings.calibration_upper:g}"
    ratio, expected = predicted / clicks if clicks else math.inf, before.get("calibration_ratio")
    found.append(judge("calibration_ratio", "", expected, ratio, distance, 0.0, is_enough=is_enough, detail=bounds))
    if not clicks:
        return found

    bins = calibration_bins(traffic.counts)
    error, mean, deviation = expected_calibration_error(bins)
    rate = value["click_rate"]
    distance = Distance(error / rate, (mean + normal_quantile(judge.error_rate) * deviation) / rate)
    found.append(
        judge("calibration_error", "", None, error / rate, distance, settings.calibration_error, is_enough=is_enough)
    )

    entropy = value["normalised_entropy"]
    if not math.isfinite(entropy):
        return found
    distance = Distance(entropy, noise("normalised_entropy"))
    expected, threshold = before.get("normalised_entropy"), settings.normalised_entropy
    found.append(judge("normalised_entropy", "", expected, entropy, distance, threshold, is_enough=is_enough))
    return found
