"""The table of metrics: what is listed is computed, has a name of its own, and can be asked for."""

from __future__ import annotations

import numpy as np
import pytest

from adclick.models.evaluation import build_eval_config
from adclick.models.metrics import METRICS, of_models, shown
from adclick.models.metrics.counts import FOLDS, count, estimate
from adclick.models.settings import EvaluationSettings, ThresholdSettings
from tests.models.tiny_model import FEATURES


def test_names_titles_and_headings_are_their_own() -> None:
    for attribute in ("name", "title", "heading", "meaning"):
        values = [getattr(metric, attribute) for metric in METRICS]
        assert all(values) and len(set(values)) == len(values), attribute


def test_what_is_listed_is_computed() -> None:
    random = np.random.default_rng(1)
    chance = random.random(2_000)
    found = estimate(count(chance, random.random(2_000) < chance, np.ones(2_000), random.integers(0, FOLDS, 2_000)))
    assert list(found.value) == [metric.name for metric in METRICS]
    assert all(np.isfinite(value) for value in found.value.values())


@pytest.mark.parametrize("name", of_models())
def test_what_judges_a_model_may_have_a_threshold(name: str) -> None:
    settings = EvaluationSettings(thresholds=(ThresholdSettings(metric=name, lower=0.1),))
    config = build_eval_config(FEATURES, settings, has_baseline=False)
    assert sum(bool(metric.per_slice_thresholds) for spec in config.metrics_specs for metric in spec.metrics) == 1


def test_tables_show_what_a_threshold_asks_for() -> None:
    hidden = next(metric.name for metric in METRICS if metric.is_of_model and not metric.is_shown)
    assert hidden not in shown()
    assert [*shown({hidden})] == [name for name in of_models() if name in shown() or name == hidden]
