"""What the impressions are that a model is measured on."""

from __future__ import annotations

from adclick.models.metrics.metric import Metric, TfmaMetric

CLICK_RATE = Metric(
    name="click_rate",
    title="Click rate",
    heading="click rate",
    meaning="clicks over impressions",
    compute=lambda sets: sets.rate,
    tfma=TfmaMetric("MeanLabel"),
    is_of_model=False,
)
EXAMPLE_COUNT = Metric(
    name="example_count",
    title="Impressions",
    heading="rows",
    meaning="how many impressions there are",
    compute=lambda sets: sets.weight,
    tfma=TfmaMetric("ExampleCount"),
    is_of_model=False,
)
