"""Log loss, and the same over the entropy of the click rate."""

from __future__ import annotations

import math

import numpy as np

from adclick.models.metrics.metric import Floats, Metric, ScoredSets, Skill, TfmaMetric

_NO_SKILL, _WORTHWHILE = 1.0, 0.95
#: Where TFMA finds what it has no metric for.
_MODULE = "adclick.models.evaluation"


def entropy(rate: float) -> float:
    """The log loss, in nats, of knowing the click rate alone; 0 where every label is the same."""
    return -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)) if 0 < rate < 1 else 0.0


def _log_loss(sets: ScoredSets) -> Floats:
    return sets.loss / sets.weight


def _normalised_entropy(sets: ScoredSets) -> Floats:
    rate = sets.rate
    return _log_loss(sets) / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))


LOG_LOSS = Metric(
    name="log_loss",
    title="Log loss",
    heading="log loss",
    meaning="mean surprise of the clicks in nats; lower is better",
    compute=_log_loss,
    tfma=TfmaMetric("LogLoss", _MODULE),
    higher_is_better=False,
    skill=lambda rate: Skill(none=entropy(rate) * _NO_SKILL, worthwhile=entropy(rate) * _WORTHWHILE),
)
#: He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook", section 3.
NORMALISED_ENTROPY = Metric(
    name="normalised_entropy",
    title="Normalised entropy",
    heading="norm. entropy",
    meaning="log loss over that of knowing the click rate; below 1 is better than that",
    compute=_normalised_entropy,
    tfma=TfmaMetric("NormalisedEntropy", _MODULE),
    higher_is_better=False,
    skill=lambda rate: Skill(none=_NO_SKILL, worthwhile=_WORTHWHILE),
)
