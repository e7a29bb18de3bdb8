"""What the quality benchmark concludes from its scores."""

from __future__ import annotations

import pytest

from benchmarks.quality import OURS, WITHOUT_IMAGES, Score, results

METRICS = dict.fromkeys(
    (
        "auc",
        "log_loss",
        "normalised_entropy",
        "calibration_ratio",
        "calibration_error",
        "worst_slice_calibration_error",
        "new_ads_auc",
        "new_ads_log_loss",
        "seconds",
    ),
    0.0,
)


def score(data: str, seed: int, model: str, log_loss: float, auc: float = 0.7) -> Score:
    values = {**METRICS, "log_loss": log_loss, "auc": auc, "normalised_entropy": log_loss, "new_ads_log_loss": log_loss}
    return Score(data=data, rows=500_000, seed=seed, model=model, **values)


def test_gains_are_counted_in_deviations_of_the_seeds() -> None:
    scores = []
    for seed, (ours, trees) in enumerate([(0.50, 0.53), (0.60, 0.62), (0.55, 0.56)]):
        scores += [score("log", seed, OURS, ours), score("log", seed, "lightgbm", trees, auc=0.71)]
        scores.append(score("log", seed, "logistic regression", 0.9))
    by_name = {result.name: result for result in results(scores)}
    loss = by_name["log: log loss against lightgbm"]
    assert loss.ratio == pytest.approx(0.02 / 0.01) and loss.met
    assert by_name["log: auc against lightgbm"].ours == pytest.approx(0.7)


def test_what_is_attainable_is_the_measure_where_it_is_known() -> None:
    lines = [("training click rate", 1.0), ("best attainable", 0.8), (OURS, 0.81), ("lightgbm", 0.85)]
    lines.append((WITHOUT_IMAGES, 0.83))
    by_name = {r.name: r for r in results([score("a", 1, model, loss) for model, loss in lines])}
    gained = by_name["a: normalised entropy gained of what is attainable"]
    assert gained.ratio == pytest.approx(0.95) and gained.met
    assert by_name["a: new ads log loss against adclick without images"].met
    assert by_name["a: calibration error against the bound"].met


def test_no_gain_may_be_invented() -> None:
    scores = []
    for seed, gain in enumerate([0.010, 0.011, 0.009]):
        scores.append(score("sample data, images without effect", seed, OURS, 0.5 - gain))
        scores.append(score("sample data, images without effect", seed, WITHOUT_IMAGES, 0.5))
    (found,) = results(scores)
    assert found.ratio > 1 and not found.met
