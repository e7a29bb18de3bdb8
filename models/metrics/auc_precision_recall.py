"""Area under the precision-recall curve."""

from __future__ import annotations

import numpy as np

from adclick.models.metrics.metric import Floats, Metric, ScoredSets, Skill, TfmaMetric, from_the_top


def _auc_precision_recall(sets: ScoredSets) -> Floats:
    """Interpolated as Davis & Goadrich 2006, "The relationship between precision-recall and ROC curves".

    Between two thresholds true positives grow linearly with what is predicted positive.
    """
    true = from_the_top(sets.clicked)
    positive = from_the_top(sets.clicked + sets.unclicked)
    slope = _ratio(np.diff(true, axis=1), np.diff(positive, axis=1))
    intercept = true[:, :-1] - slope * positive[:, :-1]
    growth = np.where(positive[:, :-1] > 0, _ratio(positive[:, 1:], positive[:, :-1]), 1.0)
    area = slope * (np.diff(true, axis=1) + intercept * np.log(growth))
    return area.sum(axis=1) / true[:, -1]


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


AUC_PRECISION_RECALL = Metric(
    name="auc_precision_recall",
    title="PR AUC",
    heading="PR AUC",
    meaning="mean precision over all recalls; the click rate is what no skill gives",
    compute=_auc_precision_recall,
    tfma=TfmaMetric("AUCPrecisionRecall"),
    higher_is_better=True,
    needs_both_classes=True,
    skill=lambda rate: Skill(none=rate, worthwhile=1.5 * rate),
)
