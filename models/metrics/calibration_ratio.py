"""Clicks predicted over clicks counted."""

from __future__ import annotations

from adclick.models.metrics.metric import Metric, TfmaMetric

CALIBRATION_RATIO = Metric(
    name="calibration_ratio",
    title="Calibration ratio",
    heading="calibration",
    meaning="clicks predicted over clicks counted; 1 is right",
    compute=lambda sets: sets.predicted / sets.clicks,
    tfma=TfmaMetric("Calibration"),
    sound=1.0,
    is_per_click=True,
)
