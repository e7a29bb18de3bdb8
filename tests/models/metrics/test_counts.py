"""Metrics from counts, against scikit-learn and against statistics."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from adclick.models.metrics.counts import FOLDS, SliceCounts, add, count, estimate, jackknife, thresholds
from adclick.schema.errors import ModelRefused

ROWS = 40_000


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    chance = 1 / (1 + np.exp(-random.normal(-3, 1, ROWS)))
    return chance, random.random(ROWS) < chance, random.integers(0, FOLDS, ROWS)


def counted(sample: tuple[np.ndarray, np.ndarray, np.ndarray], rows: slice = slice(None)) -> SliceCounts:
    chance, clicked, fold = (part[rows] for part in sample)
    return count(chance, clicked, np.ones(len(chance)), fold)


def test_metrics_are_scikit_learns(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    chance, clicked, _ = sample
    found = estimate(counted(sample)).value
    assert found["auc"] == pytest.approx(roc_auc_score(clicked, chance), abs=5e-5)
    assert found["auc_precision_recall"] == pytest.approx(average_precision_score(clicked, chance), abs=2e-3)
    assert found["log_loss"] == pytest.approx(log_loss(clicked, chance), rel=1e-9)
    assert found["calibration_ratio"] == pytest.approx(chance.mean() / clicked.mean())
    assert found["click_rate"] == pytest.approx(clicked.mean())
    assert found["example_count"] == ROWS


def test_parts_add_up_to_the_whole(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    parts = [counted(sample, slice(start, start + 7_000)) for start in range(0, ROWS, 7_000)]
    whole, added = estimate(counted(sample)), estimate(add([add(parts[:2]), *parts[2:]]))
    for name, value in whole.value.items():
        assert added.value[name] == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(added.without[name], whole.without[name], rtol=1e-9)


def test_a_fold_left_out_is_a_sample_without_it(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    chance, clicked, fold = sample
    without = estimate(counted(sample)).without
    kept = fold != 4
    assert without["auc"][4] == pytest.approx(roc_auc_score(clicked[kept], chance[kept]), abs=5e-5)
    assert without["log_loss"][4] == pytest.approx(log_loss(clicked[kept], chance[kept]), rel=1e-9)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_none_refuses_the_model(wrong: float) -> None:
    with pytest.raises(ModelRefused, match="1 of 3 predictions are not finite"):
        count(np.array([0.1, wrong, 0.3]), np.array([True, False, False]), np.ones(3), np.zeros(3, np.int64))


def test_the_error_is_the_binomials(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    found = estimate(counted(sample))
    rate = found.value["click_rate"]
    _, error = jackknife(rate, found.without["click_rate"])
    # Twenty folds give the error itself to about a sixth.
    assert error == pytest.approx((rate * (1 - rate) / ROWS) ** 0.5, rel=0.5)


def test_a_weight_stands_for_as_many_impressions() -> None:
    chance, clicked, fold = np.array([0.1, 0.4, 0.2]), np.array([False, True, False]), np.array([0, 1, 2])
    weighed = estimate(count(chance, clicked, np.array([3.0, 1.0, 2.0]), fold)).value
    repeat = np.array([0, 0, 0, 1, 2, 2])
    repeated = estimate(count(chance[repeat], clicked[repeat], np.ones(6), fold[repeat])).value
    assert weighed == pytest.approx(repeated)


def test_equal_predictions_count_half() -> None:
    found = estimate(count(np.full(4, 0.3), np.array([True, False, True, False]), np.ones(4), np.arange(4))).value
    assert found["auc"] == 0.5 and found["auc_precision_recall"] == pytest.approx(0.5)


def test_what_cannot_be_said_is_not_a_number() -> None:
    found = estimate(count(np.array([0.1, 0.2]), np.array([False, False]), np.ones(2), np.arange(2)))
    assert np.isnan([found.value[name] for name in ("auc", "normalised_entropy", "calibration_ratio")]).all()
    assert found.value["log_loss"] > 0


def test_a_difference_is_taken_fold_by_fold(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    chance, clicked, fold = sample
    better = estimate(counted(sample))
    worse = estimate(count(np.clip(chance * 1.3, 0, 1), clicked, np.ones(ROWS), fold))
    difference = worse.minus(better)
    mean, error = jackknife(difference.value["log_loss"], difference.without["log_loss"])
    assert mean > 3 * error > 0, "what both models share cancels out"


def test_without_a_negative_there_is_no_threshold() -> None:
    everything = count(np.array([0.2, 0.9]), np.array([True, True]), np.ones(2), np.zeros(2, np.int64))
    assert thresholds(everything, [0.01]) == {}
    one = count(np.array([0.2, 0.9]), np.array([True, False]), np.ones(2), np.zeros(2, np.int64))
    found = thresholds(one, [0.01, 1.0])
    # Above the highest negative; or, where all may be taken for positives, at the least probability.
    assert 0.9 < found[0.01] < 0.901
    assert found[1.0] < 1e-6
