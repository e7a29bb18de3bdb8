"""What thresholds decide of metrics that chance moves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.models.gates import Bounds, Measurement, Verdict, clicks_to_decide, describe_undecided, judge
from adclick.models.metrics.counts import jackknife

FREEDOM = 19


def bounds(lower: float | None, upper: float | None) -> Bounds:
    return Bounds(-math.inf if lower is None else lower, math.inf if upper is None else upper)


def measured(metric: str, value: float, margin: float | None, **changes: object) -> Measurement:
    """A metric whose standard error gives an interval that reaches so far to both sides, were it no ratio's."""
    deviation = None if margin is None else margin / Measurement("auc", 0, False, 1.0, FREEDOM, 99, 0.05).margin  # type: ignore[operator]
    given = {"is_change": False, "clicks": 72.0, "click_rate": 0.02, "is_overall": True, **changes}
    return Measurement(metric, value, deviation=deviation, freedom=FREEDOM, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "value", "margin", "lower", "upper", "verdict"),
    [
        ("calibration_ratio", 1.2, 0.5, 0.8, 1.25, Verdict.MET),
        ("calibration_ratio", 1.34, 0.45, 0.8, 1.25, Verdict.UNDECIDED),
        ("calibration_ratio", 1.34, 0.3, 0.8, 1.25, Verdict.MISSED),
        ("calibration_ratio", 0.7, 0.35, 0.8, 1.25, Verdict.UNDECIDED),
        ("calibration_ratio", 1.34, None, 0.8, 1.25, Verdict.MISSED),
        # A bound that a calibrated model does not keep excuses nothing but itself.
        ("calibration_ratio", 1.0, 0.2, 1.1, 1.5, Verdict.UNDECIDED),
        # No skill is as likely as some, but not as much as is worth having; then, as much as that.
        ("auc", 0.515, 0.08, 0.52, None, Verdict.MISSED),
        ("auc", 0.515, 0.1, 0.52, None, Verdict.UNDECIDED),
        ("auc", 0.69, 0.05, 0.7, None, Verdict.UNDECIDED),
        ("auc", 0.6, 0.05, 0.7, None, Verdict.MISSED),
        ("normalised_entropy", 1.01, 0.05, None, 1.0, Verdict.MISSED),
        ("normalised_entropy", 1.01, 0.07, None, 1.0, Verdict.UNDECIDED),
        ("normalised_entropy", 0.93, 0.05, None, 0.9, Verdict.UNDECIDED),
    ],
)
def test_a_value(
    metric: str, value: float, margin: float | None, lower: float | None, upper: float | None, verdict: Verdict
) -> None:
    assert judge(measured(metric, value, margin), bounds(lower, upper)) is verdict


@pytest.mark.parametrize(("margin", "verdict"), [(0.03, Verdict.UNDECIDED), (0.015, Verdict.MISSED)])
def test_a_change_is_excused_where_it_may_be_none(margin: float, verdict: Verdict) -> None:
    assert judge(measured("auc", -0.02, margin, is_change=True), Bounds(-0.01)) is verdict


def test_what_is_no_number_wins_nothing() -> None:
    assert judge(measured("auc", math.nan, 0.1), Bounds(0.52)) is Verdict.MISSED
    assert judge(measured("auc", 0.5, math.nan), Bounds(0.52)) is Verdict.MISSED
    # A slice without a click has no AUC, whatever the model.
    assert judge(measured("auc", math.nan, 0.1, is_overall=False, clicks=0), Bounds(0.52)) is Verdict.UNDECIDED


@given(
    st.sampled_from(["auc", "normalised_entropy", "calibration_ratio", "log_loss", "auc_precision_recall"]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.one_of(st.none(), st.just(math.nan), st.floats(min_value=0)),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.booleans(),
    st.one_of(st.none(), st.floats(-2, 2)),
    st.one_of(st.none(), st.floats(-2, 2)),
)
def test_nothing_beyond_a_bound_is_met(
    metric: str,
    value: float,
    deviation: float | None,
    clicks: float,
    rate: float,
    is_change: bool,
    lower: float | None,
    upper: float | None,
) -> None:
    found = Measurement(metric, value, is_change, deviation, FREEDOM, clicks, rate)
    keeps = (lower is None or value >= lower) and (upper is None or value <= upper) and not math.isnan(value)
    assert (judge(found, bounds(lower, upper)) is Verdict.MET) == keeps
    assert describe_undecided(found, bounds(lower, upper)).startswith("undecided: ")


def test_as_many_clicks_as_it_says_would_decide() -> None:
    found = measured("calibration_ratio", 1.34, 0.5)
    needed = clicks_to_decide(found, Bounds(0.8, 1.25))
    assert needed > found.clicks
    # The width falls with the square root of the clicks.
    for factor, verdict in ((0.98, Verdict.UNDECIDED), (1.02, Verdict.MISSED)):
        margin = 0.5 * (found.clicks / (needed * factor)) ** 0.5
        assert judge(measured("calibration_ratio", 1.34, margin, clicks=needed), Bounds(0.8, 1.25)) is verdict
    assert "about 101 clicks would decide" in describe_undecided(found, Bounds(0.8, 1.25))


def test_the_interval_of_a_ratio_is_that_of_the_clicks_below_it() -> None:
    # The error of a count's root does not depend on the count: of the inverse ratio's root not on the ratio.
    widths = []
    for ratio in (0.5, 1.0, 2.0):
        clicks = 72 / ratio
        found = measured("calibration_ratio", ratio, ratio * clicks**-0.5, clicks=clicks)
        assert found.interval is not None
        low, high = found.interval
        assert low < ratio < high and ratio - low < high - ratio
        widths.append(low**-0.5 - high**-0.5)
    assert widths == pytest.approx(widths[:1] * 3)


def test_many_gates_share_the_error_that_is_allowed() -> None:
    alone = measured("auc", -0.02, 0.015, is_change=True)
    assert judge(alone, Bounds(-0.01)) is Verdict.MISSED
    assert judge(replace(alone, gates=50), Bounds(-0.01)) is Verdict.UNDECIDED
    assert "(99.98% interval" in describe_undecided(replace(alone, gates=50), Bounds(-0.01))


@pytest.mark.parametrize("clicks", [20, 40, 80, 2_000])
def test_at_most_one_calibrated_model_in_a_hundred_is_refused(clicks: int) -> None:
    random = np.random.default_rng(clicks)
    draws = 1_000
    missed = 0
    for by_fold in random.poisson(clicks / FREEDOM, (draws, FREEDOM + 1)):
        predicted = clicks / FREEDOM * (FREEDOM + 1)
        without = predicted * FREEDOM / (FREEDOM + 1) / np.maximum(by_fold.sum() - by_fold, 1)
        value = predicted / by_fold.sum()
        _, error = jackknife(value, without)
        found = Measurement("calibration_ratio", value, False, error, FREEDOM, float(by_fold.sum()), 0.02)
        missed += judge(found, Bounds(0.999, 1.001)) is Verdict.MISSED
    # Three standard errors of the share that is counted.
    assert missed / draws <= 0.01 + 3 * math.sqrt(0.01 / draws)
