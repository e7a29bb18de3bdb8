"""On the sample data the model beats what it should beat and comes near the known best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import Project, adclick


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The comparison of `make run`, by line."""
    folder: Path = tmp_path_factory.mktemp("quality") / "sample"
    assert adclick("sample-data", "--output", folder, "--quiet").code == 0
    project = Project(folder)
    done = project.run("--compare")
    assert done.code == 0, done.text
    assert "Blessed" in done.out and "logistic regression" in done.out
    (file,) = (project.output / "runs").glob("*/comparison.json")
    comparison = json.loads(file.read_text())
    assert comparison["against_truth"] and comparison["rows"] >= 4_000 and comparison["new_rows"] >= 100
    return {line["name"]: line for line in comparison["lines"]}


def test_better_than_logistic_regression(scores: dict[str, dict[str, Any]]) -> None:
    ours, rival = (scores[name]["overall"] for name in ("adclick, the served model", "logistic regression"))
    assert ours["log_loss"] < rival["log_loss"]
    assert ours["auc"] > rival["auc"]


def test_near_the_best_attainable(scores: dict[str, dict[str, Any]]) -> None:
    ours = scores["adclick, the served model"]["overall"]
    best = scores["best attainable from this much data"]["overall"]
    assert best["auc"] - 0.02 < ours["auc"] < scores["the truth (Bayes optimum)"]["overall"]["auc"]


def test_calibrated(scores: dict[str, dict[str, Any]]) -> None:
    assert 0.95 < scores["adclick, the served model"]["overall"]["calibration_ratio"] < 1.05


def test_images_help_and_do_no_harm_on_new_ads(scores: dict[str, dict[str, Any]]) -> None:
    ours, blind = (scores[name] for name in ("adclick, the served model", "adclick without images"))
    assert ours["overall"]["log_loss"] < blind["overall"]["log_loss"]
    assert ours["overall"]["auc"] > blind["overall"]["auc"]
    # Of new ads there are too few here, some hundred rows, for what is gained on them to show whatever the seed and the
    # processor, whose rounding leads training elsewhere.
    assert ours["new"]["log_loss"] < 1.01 * blind["new"]["log_loss"]
