"""Recall at a fixed false-positive rate: what is caught where so many of the others may be taken for it."""

from __future__ import annotations

import numpy as np

from adclick.models.metrics.metric import Floats, Metric, ScoredSets, Skill, TfmaMetric, from_the_top

_WORTHWHILE = 2.0


def _recall(sets: ScoredSets, false_positive_rate: float) -> Floats:
    """The ROC curve's height, linear within a bin, as if one threshold or the next were drawn by lot."""
    true, false = from_the_top(sets.clicked), from_the_top(sets.unclicked)
    curves = zip(false / false[:, -1:], true / true[:, -1:], strict=True)
    heights = np.array([np.interp(false_positive_rate, across, up) for across, up in curves])
    return np.where((true[:, -1] > 0) & (false[:, -1] > 0), heights, np.nan)


def recall_at(percent: float) -> Metric:
    """The metric for a false-positive rate in percent."""
    rate = percent / 100
    return Metric(
        name=f"recall_at_{percent:g}_percent_false_positives".replace(".", "_"),
        title=f"Recall at {percent:g} % false positives",
        heading=f"recall@{percent:g}%",
        meaning=f"the share of clicked impressions that rank above all but {percent:g} % of the unclicked",
        compute=lambda sets: _recall(sets, rate),
        tfma=TfmaMetric("SensitivityAtSpecificity", config={"specificity": 1 - rate}),
        higher_is_better=True,
        is_shown=False,
        needs_both_classes=True,
        skill=lambda _: Skill(none=rate, worthwhile=_WORTHWHILE * rate),
    )
