"""Judges clicks: their fraud probabilities, and whether they count for an alert."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from adclick.stream.clicks import Click, ScoredClick
from adclick.stream.metrics import StreamMetrics

if TYPE_CHECKING:
    from adclick.stream.scoring import ClickScorer


class Judge:
    """A model and its threshold, with counting."""

    def __init__(self, scorer: ClickScorer, metrics: StreamMetrics) -> None:
        self._scorer = scorer
        self._metrics = metrics

    def judge(self, clicks: Sequence[Click]) -> list[ScoredClick]:
        """The clicks with their judgements; one whose answer is no probability raises no alert, and is counted."""
        if not clicks:
            return []
        begun = time.monotonic()
        scores = self._scorer.score(clicks)
        self._metrics.scoring.observe(time.monotonic() - begun)
        probabilities = scores.probabilities
        # NaN is neither.
        good = (probabilities >= 0) & (probabilities <= 1)
        suspicious = good & (probabilities >= np.float32(scores.threshold))
        self._metrics.count_scores(scores.version, probabilities[good], int(suspicious.sum()))
        if not good.all():
            self._metrics.count_no_probability(scores.version, int((~good).sum()))
        version = scores.version
        return [
            ScoredClick(click, probability if is_good else None, version, is_alerting)
            for click, probability, is_good, is_alerting in zip(
                clicks, probabilities.tolist(), good.tolist(), suspicious.tolist(), strict=True
            )
        ]
