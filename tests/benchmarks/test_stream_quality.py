"""The rules engine of the benchmark is as good as single thresholds can be, and keeps to its false positives."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stream_quality import choose_rules, recall_at


@pytest.mark.parametrize("rate", [0.001, 0.01])
def test_rules_keep_to_the_false_positives_and_catch_what_thresholds_can(rate: float) -> None:
    rng = np.random.default_rng(5)
    fraud = rng.random(20_000) < 0.1
    columns = rng.normal(0, 1, (20_000, 3))
    # A third of the fraud is high in one column, a third is low in another, a third is like the honest.
    third = np.arange(20_000) % 3
    columns[fraud & (third == 0), 0] += 8
    columns[fraud & (third == 1), 1] -= 8
    columns[rng.random(20_000) < 0.1, 2] = np.nan
    rules = choose_rules(columns, fraud, rate)
    flagged = np.any([rule.flags(columns) for rule in rules], axis=0)
    assert flagged[~fraud].mean() <= rate
    assert 0.64 < flagged[fraud].mean() < 0.75
    assert {(rule.column, rule.sign) for rule in rules} >= {(0, 1), (1, -1)}


def test_a_missing_value_is_never_flagged() -> None:
    columns = np.array([[np.nan], [1.0], [0.0], [0.0]])
    rules = choose_rules(columns, np.array([True, True, False, False]), 0.1)
    assert [rule.flags(columns).tolist() for rule in rules] == [[False, True, False, False]]


def test_recall_is_the_share_of_fraud_above_the_allowed_honest() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    fraud = np.array([True, False, True, False, True, False])
    assert recall_at(score, fraud, 0.0) == pytest.approx(1 / 3)
    assert recall_at(score, fraud, 0.34) == pytest.approx(2 / 3)
    assert recall_at(score, fraud, 1.0) == 1.0
