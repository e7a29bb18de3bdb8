"""What a paired difference says, and what it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paired import Verdict, best_of, mean_and_standard_error, paired_difference

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def test_mean_and_standard_error_of_the_differences_not_of_the_scores() -> None:
    ours, other = {1: 0.50, 2: 0.60, 3: 0.55}, {1: 0.53, 2: 0.62, 3: 0.56}

    found = paired_difference(ours, other, lower_is_better=True)

    assert found.mean == pytest.approx(-0.02)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(3))
    assert found.seeds == 3
    assert found.gain_in_errors == pytest.approx(2 * math.sqrt(3))
    assert found.verdict is Verdict.BETTER and found.is_not_worse


@pytest.mark.parametrize(
    ("other", "verdict"),
    [([0.6, 0.7, 0.8], Verdict.WORSE), ([0.4, 0.7, 0.6], Verdict.LEVEL), ([0.5, 0.5, 0.5], Verdict.LEVEL)],
    ids=["behind", "within an error", "equal"],
)
def test_verdicts_of_a_score_that_is_to_be_high(other: list[float], verdict: Verdict) -> None:
    found = paired_difference(dict.fromkeys(range(3), 0.5), dict(enumerate(other)), lower_is_better=False)

    assert found.verdict is verdict
    assert found.is_not_worse == (verdict is not Verdict.WORSE)


@given(SCORES, st.booleans(), st.sampled_from([math.nan, math.inf, -math.inf]), st.booleans(), st.data())
def test_what_is_no_score_never_wins(
    scores: list[float], lower: bool, none: float, is_ours: bool, data: st.DataObject
) -> None:
    whole = dict(enumerate(scores))
    broken = {**whole, data.draw(st.sampled_from(list(whole))): none}

    found = paired_difference(broken if is_ours else whole, whole if is_ours else broken, lower_is_better=lower)

    assert found.verdict is Verdict.UNKNOWN and not found.is_not_worse


def test_a_seed_without_its_pair_says_nothing() -> None:
    assert paired_difference({1: 0.1, 2: 0.1}, {1: 0.9}, lower_is_better=True).verdict is Verdict.UNKNOWN


def test_one_seed_has_no_standard_error() -> None:
    found = paired_difference({1: 0.1}, {1: 0.9}, lower_is_better=True)

    assert found.mean == pytest.approx(-0.8)
    assert math.isnan(found.standard_error) and found.verdict is Verdict.UNKNOWN
    assert paired_difference({}, {}, lower_is_better=True).verdict is Verdict.UNKNOWN


@given(SCORES, SCORES, st.booleans())
def test_both_sides_agree(first: list[float], second: list[float], lower: bool) -> None:
    ours, other = dict(enumerate(first)), dict(enumerate(second[: len(first)]))
    there = paired_difference(ours, other, lower_is_better=lower)
    back = paired_difference(other, ours, lower_is_better=lower)

    assert there.gain_in_errors == -back.gain_in_errors or math.isnan(there.gain_in_errors)
    assert not (there.verdict is Verdict.BETTER and back.verdict is Verdict.BETTER)


@given(SCORES)
def test_the_standard_error_is_the_textbooks(values: list[float]) -> None:
    mean, error = mean_and_standard_error(values)

    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-12)


def test_the_best_is_never_what_is_no_score() -> None:
    assert best_of({"none": math.nan, "a": 0.3, "b": 0.2}, lower_is_better=True) == "b"
    assert best_of({"none": math.inf, "a": 0.3, "b": 0.2}, lower_is_better=False) == "a"
    assert best_of({"none": math.nan}, lower_is_better=True) is None
