"""The Evaluator's config: thresholds that hold where they say, and none that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from adclick.models.evaluation import build_eval_config
from adclick.models.settings import EvaluationSettings, ThresholdSettings
from adclick.schema.errors import ConfigError
from tests.models.tiny_model import FEATURES


@pytest.mark.parametrize(
    ("threshold", "named"),
    [
        (ThresholdSettings(metric="accuracy", lower=0.5), "accuracy"),
        (ThresholdSettings(metric="calibration_ratio", max_drop=0.1), "calibration_ratio"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(threshold: ThresholdSettings, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build_eval_config(FEATURES, EvaluationSettings(thresholds=(threshold,)), has_baseline=True)


def thresholds_of(config: Any) -> list[Any]:
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    return [part.threshold for metric in metrics for part in metric.per_slice_thresholds]


@pytest.mark.parametrize(("metric", "sign"), [("auc", -1), ("log_loss", 1), ("normalised_entropy", 1)])
def test_a_drop_is_a_drop_in_either_direction(metric: str, sign: int) -> None:
    settings = EvaluationSettings(thresholds=(ThresholdSettings(metric=metric, max_drop=0.03),))
    config = build_eval_config(FEATURES, settings, has_baseline=True)
    (threshold,) = thresholds_of(config)
    assert threshold.change_threshold.absolute.value == pytest.approx(sign * 0.03)
    (without,) = thresholds_of(build_eval_config(FEATURES, settings, has_baseline=False))
    assert not without.HasField("change_threshold")
