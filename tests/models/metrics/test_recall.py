"""Recall at a fixed false-positive rate, against scikit-learn, and as a gate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from adclick.models.evaluation import build_eval_config
from adclick.models.metrics.counts import FOLDS, count, estimate, jackknife
from adclick.models.settings import EvaluationSettings, ThresholdSettings
from tests.models.tiny_model import FEATURES

NAMES = {0.01: "recall_at_1_percent_false_positives", 0.001: "recall_at_0_1_percent_false_positives"}


def drawn(rows: int, skill: float, seed: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-random.normal(-2, skill, rows)))
    return chance, random.random(rows) < chance, random.integers(0, FOLDS, rows)


@pytest.mark.parametrize("rate", NAMES)
def test_it_is_the_height_of_the_roc_curve(rate: float) -> None:
    chance, clicked, fold = drawn(60_000, 2.0)
    found = estimate(count(chance, clicked, np.ones(len(chance)), fold))
    false, true, _ = roc_curve(clicked, chance)
    assert found.value[NAMES[rate]] == pytest.approx(np.interp(rate, false, true), abs=2e-3)
    kept = fold != 3
    false, true, _ = roc_curve(clicked[kept], chance[kept])
    assert found.without[NAMES[rate]][3] == pytest.approx(np.interp(rate, false, true), abs=2e-3)


def test_its_error_is_that_of_new_draws() -> None:
    name = NAMES[0.01]
    draws = [drawn(20_000, 1.5, seed) for seed in range(60)]
    found = [estimate(count(chance, clicked, np.ones(len(chance)), fold)) for chance, clicked, fold in draws]
    errors = [jackknife(each.value[name], each.without[name])[1] for each in found]
    assert np.mean(errors) == pytest.approx(np.std([each.value[name] for each in found]), rel=0.35)


@given(st.lists(st.tuples(st.floats(1e-6, 1 - 1e-6), st.booleans()), min_size=1, max_size=60))
def test_it_is_a_share_or_none(impressions: list[tuple[float, bool]]) -> None:
    chance, clicked = (np.array(column) for column in zip(*impressions, strict=True))
    value = estimate(count(chance, clicked, np.ones(len(chance)), np.arange(len(chance)) % FOLDS)).value
    for rate, name in NAMES.items():
        if 0 < clicked.sum() < len(clicked):
            assert 0 <= value[name] <= 1
            assert value[NAMES[0.001]] <= value[NAMES[0.01]]
        else:
            assert np.isnan(value[name]), rate


def test_no_skill_catches_what_it_takes_by_mistake() -> None:
    random = np.random.default_rng(5)
    chance, clicked = random.random(50_000) * 0.2, random.random(50_000) < 0.1
    value = estimate(count(chance, clicked, np.ones(50_000), random.integers(0, FOLDS, 50_000))).value
    assert value[NAMES[0.01]] == pytest.approx(0.01, abs=0.006)


def test_a_threshold_may_ask_for_it() -> None:
    threshold = ThresholdSettings(metric=NAMES[0.01], lower=0.3, max_drop=0.02)
    config = build_eval_config(FEATURES, EvaluationSettings(thresholds=(threshold,)), has_baseline=True)
    metric = next(each for each in config.metrics_specs[0].metrics if each.per_slice_thresholds)
    assert metric.class_name == "SensitivityAtSpecificity" and '"specificity": 0.99' in metric.config
    (part,) = metric.per_slice_thresholds
    assert part.threshold.value_threshold.lower_bound.value == pytest.approx(0.3)
    assert part.threshold.change_threshold.absolute.value == pytest.approx(-0.02)
