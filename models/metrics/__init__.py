"""The metrics of click predictions: a file for each, or for a few that belong together, and a line below.

What is listed is computed by the Evaluator with its intervals, can have thresholds, and is named in reports.
"""

from __future__ import annotations

from adclick.models.metrics.auc import AUC
from adclick.models.metrics.auc_precision_recall import AUC_PRECISION_RECALL
from adclick.models.metrics.calibration_ratio import CALIBRATION_RATIO
from adclick.models.metrics.impressions import CLICK_RATE, EXAMPLE_COUNT
from adclick.models.metrics.log_loss import LOG_LOSS, NORMALISED_ENTROPY
from adclick.models.metrics.metric import Metric
from adclick.models.metrics.recall import recall_at

#: In the order in which tables show them.
METRICS: tuple[Metric, ...] = (
    AUC,
    AUC_PRECISION_RECALL,
    LOG_LOSS,
    NORMALISED_ENTROPY,
    CALIBRATION_RATIO,
    recall_at(percent=1),
    recall_at(percent=0.1),
    CLICK_RATE,
    EXAMPLE_COUNT,
)
BY_NAME = {metric.name: metric for metric in METRICS}


def of_models() -> dict[str, Metric]:
    """The metrics that judge predictions, by name."""
    return {metric.name: metric for metric in METRICS if metric.is_of_model}


def shown(asked_for: set[str] | frozenset[str] = frozenset()) -> dict[str, Metric]:
    """The metrics that tables of models show, by name: the usual ones, and those that thresholds ask for."""
    return {name: metric for name, metric in of_models().items() if metric.is_shown or name in asked_for}
