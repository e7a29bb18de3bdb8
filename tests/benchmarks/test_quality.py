"""What the quality benchmark concludes from its scores, and which logs it takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adclick.schema.errors import ConfigError
from benchmarks.prepared import Impressions, fingerprint, inputs_by_kind, order_of_content, random_split
from benchmarks.quality import (
    LOGISTIC_REGRESSION,
    OURS,
    WITHOUT_IMAGES,
    Score,
    differences,
    logs_in,
    parse_log,
    real_tasks,
    results,
    summarise,
)

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
ALL = "data sets on which adclick's log loss is better than every rival's by a standard error, of all"


def score(data: str, seed: int, model: str, log_loss: float, auc: float = 0.7) -> Score:
    values = {**METRICS, "log_loss": log_loss, "auc": auc, "normalised_entropy": log_loss, "new_ads_log_loss": log_loss}
    return Score(data=data, rows=500_000, seed=seed, model=model, **values, rows_key="")


def three_seeds(*others: tuple[str, float]) -> list[Score]:
    """Ours and others whose log loss is so much higher, on three seeds that differ more than the models."""
    losses = [(seed, 0.5 + seed / 10 + noise) for seed, noise in enumerate([0.0001, -0.0001, 0.0])]
    return [score("log", seed, OURS, loss - 2 * (loss - 0.5 - seed / 10)) for seed, loss in losses] + [
        score("log", seed, model, loss + more) for seed, loss in losses for model, more in others
    ]


def test_gains_are_counted_in_standard_errors_of_the_paired_difference() -> None:
    scores = three_seeds(("lightgbm", 0.02), (LOGISTIC_REGRESSION, 0.4))
    found = {result.name.split(":")[1].strip(): result for result in results(scores) if result.name != ALL}

    loss = found["log loss against lightgbm"]
    assert loss.ratio == pytest.approx(0.02 / (0.0002 / math.sqrt(3))) and loss.met
    assert "-0.02000 ± 0.00012, 3 seeds" in loss.name
    assert found["auc against lightgbm"].ratio == 0


def test_better_than_all_is_counted_over_the_data_sets() -> None:
    won = three_seeds(("lightgbm", 0.02), (LOGISTIC_REGRESSION, 0.01))
    (found,) = [result for result in results(won) if result.name == ALL]
    assert (found.ours, found.baseline) == (1, 1) and found.met

    level = three_seeds(("lightgbm", 0.02), ("catboost", 0.0))
    (found,) = [result for result in results(level) if result.name == ALL]
    assert found.ours == 0 and not found.met


def test_a_model_without_scores_never_wins() -> None:
    lines = three_seeds(("lightgbm", 0.02))
    refused = [
        score("log", line.seed, line.model, math.nan, math.nan) if line.model == OURS and not line.seed else line
        for line in lines
    ]
    assert not any(result.met for result in results(refused) if result.target)

    without_rival = [*lines, *[score("log", seed, "catboost", math.nan, math.nan) for seed in range(3)]]
    found = {result.name: result for result in results(without_rival)}
    # The best of the rivals is one that has a score, and nobody is better than one that has none.
    assert any("against lightgbm" in name for name in found) and not found[ALL].met


def test_one_seed_has_no_verdict_and_no_target() -> None:
    found = results([score("log", 1, OURS, 0.5), score("log", 1, "lightgbm", 0.6)])

    assert all(math.isnan(result.ratio) and not result.target for result in found if result.name != ALL)


def test_every_difference_is_printed_with_its_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    summarise(three_seeds(("lightgbm", 0.02), ("catboost", -0.02)))

    printed = capsys.readouterr().out
    assert "adclick minus the rival, 3 seeds" in printed
    assert "-0.02000 ± 0.00012" in printed and "better" in printed
    assert "+0.02000 ± 0.00012" in printed and "worse" in printed


def test_what_is_attainable_is_the_measure_where_it_is_known() -> None:
    lines = [("training click rate", 1.0), ("best attainable", 0.8), (OURS, 0.81), ("lightgbm", 0.85)]
    lines.append((WITHOUT_IMAGES, 0.83))
    scores = [score("a", seed, model, loss + seed / 1000) for seed in range(2) for model, loss in lines]
    by_name = {result.name.split(": -")[0]: result for result in results(scores)}
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


def test_logs_are_named_by_their_file_or_folder(tmp_path: Path) -> None:
    (tmp_path / "months").mkdir()
    (tmp_path / "one.csv.gz").touch()
    (tmp_path / "README.md").touch()

    assert [(log.name, log.path.name) for log in logs_in(tmp_path)] == [("months", "months"), ("one", "one.csv.gz")]
    with pytest.raises(ConfigError, match="no such folder"):
        logs_in(tmp_path / "absent")
    with pytest.raises(ConfigError, match="holds no click log"):
        logs_in(tmp_path / "months")


def test_a_log_is_given_by_name_path_and_label(tmp_path: Path) -> None:
    path = tmp_path / "a:b.csv"
    path.touch()

    assert parse_log(f"x={path}").label is None
    found = parse_log(f"x={path}:installed")
    assert (found.name, found.path, found.label) == ("x", path, "installed")
    for wrong in ("x", f"={path}", "x=", f"x={tmp_path}/absent.csv", f"x={tmp_path}/absent.csv:y"):
        with pytest.raises(ConfigError, match="--log"):
            parse_log(wrong)


def _log(folder: Path) -> None:
    """A log with columns whose names mean something to a careless reader."""
    rng = np.random.default_rng(1)
    rows = 600
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2026-10-01", periods=rows, freq="1h").strftime("%Y-%m-%d %H:%M:%S"),
            "c0": rng.choice(["a", "b", "c"], rows),
            'site "x"': rng.choice(["k", "l", "m"], rows),
            "bid": rng.gamma(2, 2, rows).round(3),
            "clicked": rng.integers(0, 2, rows),
            "installed": rng.choice([0, 1], rows, p=[0.8, 0.2]),
        }
    )
    frame["hour"] = rng.choice(["early", "late"], rows)
    (folder / "drop").mkdir(parents=True)
    frame.to_csv(folder / "drop" / "log.csv", index=False)


def test_names_of_columns_do_not_meet_and_rows_keep_their_part_however_stored(tmp_path: Path) -> None:
    _log(tmp_path)
    log = parse_log(f"odd={tmp_path / 'drop'}:installed")

    (task,) = real_tasks(log, [3], ["real"], tmp_path / "work")

    impressions = task.impressions
    categories, quantities = inputs_by_kind(impressions)
    # Three texts, the click that comes before an install, and what the time gives; names that no log's own can meet.
    assert [*categories, *quantities] == ["c0", "c1", "c2", "c3", "c4", "c5", "n0"]
    assert {"early", "late"} in [{*column.unique()} for _, column in categories.items()]
    assert 0.1 < task.clicked.mean() < 0.3

    order = np.random.default_rng(1).permutation(len(task.clicked))
    shuffled = Impressions(
        impressions.config,
        (),
        (),
        impressions.frame.iloc[order].reset_index(drop=True),
        impressions.times.iloc[order].reset_index(drop=True),
        impressions.clicked[order],
        impressions.split,
    )
    split = random_split(len(order), 3, order=order_of_content(shuffled))
    np.testing.assert_array_equal(np.sort(order[split.test]), task.split.test)
    assert fingerprint(shuffled, split, shuffled.clicked) == fingerprint(impressions, task.split, task.clicked)
    assert fingerprint(impressions, task.split, 1 - task.clicked) != fingerprint(impressions, task.split, task.clicked)


def test_differences_are_those_of_the_rivals(tmp_path: Path) -> None:
    scores = [*three_seeds(("lightgbm", 0.02)), score("log", 1, "the truth", 0.1), score("other", 1, "lightgbm", 0.1)]

    assert list(differences(scores, "log_loss")) == [("log", "lightgbm")]
