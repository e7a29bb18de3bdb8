"""Area under the ROC curve."""

from __future__ import annotations

from adclick.models.metrics.metric import Floats, Metric, ScoredSets, Skill, TfmaMetric


def _auc(sets: ScoredSets) -> Floats:
    """Ties count half."""
    below = sets.unclicked.cumsum(axis=1) - sets.unclicked / 2
    return (sets.clicked * below).sum(axis=1) / (sets.clicked.sum(axis=1) * sets.unclicked.sum(axis=1))


AUC = Metric(
    name="auc",
    title="AUC",
    heading="AUC",
    meaning="how often a clicked impression ranks above an unclicked one",
    compute=_auc,
    tfma=TfmaMetric("AUC"),
    higher_is_better=True,
    needs_both_classes=True,
    skill=lambda rate: Skill(none=0.5, worthwhile=0.6),
)
