"""Sample data: deterministic, with the truth beside it and the traits of real logs in it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from adclick.models.soft_metrics import expected_calibration_error, soft_metrics
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.sample_data.generator import write_sample_data
from adclick.schema.curated import check_schema, load_schema
from adclick.schema.errors import ConfigError

SIZE = {"rows": 4_000, "creatives": 40, "months": 2}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    write_sample_data(folder, **SIZE)
    return folder


def digests(folder: Path) -> dict[str, str]:
    parts = ("drops", "truth")
    files = [file for part in parts for file in (folder / part).rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def rows(folder: Path, month: str) -> Iterator[list[str]]:
    """Rows of the right number of fields, without repeats."""
    seen = set()
    for file in sorted((folder / "drops" / month).glob("*.csv*")):
        content = file.read_bytes()
        text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8", "replace")
        header, *found = csv.reader(text.splitlines(), quoting=csv.QUOTE_NONE)
        for row in found:
            if len(row) == len(header) and row[0] not in seen:
                seen.add(row[0])
                yield row


def test_the_same_seed_writes_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    write_sample_data(tmp_path / "again", **SIZE)
    write_sample_data(tmp_path / "other", **SIZE, seed=2)
    assert digests(tmp_path / "again") == digests(sample) != digests(tmp_path / "other")


def test_the_truth_stands_beside_the_drop_and_not_in_it(sample: Path) -> None:
    for month in ("2026-08", "2026-09"):
        truth = pd.read_parquet(sample / "truth" / f"{month}.parquet").set_index("impression_id")
        assert len(truth) == SIZE["rows"] // 2 and truth.index.is_unique
        assert truth["probability"].between(0, 1).all() and 0.01 < truth["probability"].mean() < 0.08
        clicked = {row[0]: int(row[-1]) for row in rows(sample, month) if row[-1] in ("0", "1")}
        assert set(truth.index) <= set(clicked)
        share = np.mean([clicked[name] for name in truth.index])
        assert share == pytest.approx(truth["probability"].mean(), abs=4 * (0.045 / len(truth)) ** 0.5)
        assert (truth["split"] == "eval").mean() == pytest.approx(0.2, abs=0.02)
        assert (truth["split"] == "validation").mean() == pytest.approx(0.1, abs=0.02)
        assert (truth["split"] == "train").mean() == pytest.approx(0.7, abs=0.02)
    assert not list((sample / "drops").rglob("*.parquet"))


def test_the_references_are_in_order(sample: Path) -> None:
    months = json.loads((sample / "truth" / "summary.json").read_text())["months"]
    for month in months.values():
        overall = month["overall"]
        losses = [overall[name]["log_loss"] for name in ("truth", "attainable", "base_rate")]
        assert losses == sorted(losses)
        assert overall["truth"]["log_loss"] <= overall["without_image"]["log_loss"]
        assert overall["base_rate"]["auc"] == pytest.approx(0.5)


def test_without_an_image_effect_only_the_clicks_differ(sample: Path, tmp_path: Path) -> None:
    write_sample_data(tmp_path / "plain", **SIZE, image_effect=False)
    before, after = (
        {row[0]: row[:-1] for row in rows(folder, "2026-08") if row[-1] in ("0", "1")}
        for folder in (sample, tmp_path / "plain")
    )
    shared = set(before) & set(after)
    assert len(shared) > 1_900 and all(before[name] == after[name] for name in shared)
    truth = pd.read_parquet(tmp_path / "plain" / "truth" / "2026-08.parquet")
    np.testing.assert_allclose(truth["probability"], truth["probability_without_image"], rtol=1e-9)


def test_config_and_schema_fit_the_data(sample: Path) -> None:
    config = load_config(sample / "config.yaml")
    assert config.data.root == str(sample / "drops")
    check_schema(load_schema(config.schema_file), config.features)


def test_complete_data_are_not_written_again_and_edits_stay(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert not write_sample_data(folder, **SIZE).reused
    edited = (folder / "config.yaml").read_text() + "# mine\n"
    (folder / "config.yaml").write_text(edited)
    assert write_sample_data(folder, **SIZE).reused
    assert not write_sample_data(folder, **SIZE, seed=3).reused
    assert (folder / "config.yaml").read_text() == edited


def test_a_folder_of_others_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not sample data"):
        write_sample_data(tmp_path, **SIZE)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_soft_metrics_on_drawn_clicks_are_the_usual_ones() -> None:
    random = np.random.default_rng(0)
    clicked = random.integers(0, 2, 500)
    guess = np.round(np.clip(0.3 * clicked + random.random(500) * 0.7, 0.01, 0.99), 2)
    metrics = soft_metrics(clicked, guess)
    assert metrics.auc == pytest.approx(roc_auc_score(clicked, guess))
    assert metrics.log_loss == pytest.approx(log_loss(clicked, guess))
    assert metrics.calibration_ratio == pytest.approx(guess.mean() / clicked.mean())


def test_soft_metrics_are_the_mean_over_draws() -> None:
    random = np.random.default_rng(1)
    truth = random.random(300) * 0.5
    guess = np.clip(truth + random.normal(0, 0.1, 300), 0.01, 0.99)
    draws = [(random.random(300) < truth).astype(int) for _ in range(400)]
    assert soft_metrics(truth, guess).log_loss == pytest.approx(
        np.mean([log_loss(draw, guess) for draw in draws]), rel=0.01
    )
    assert soft_metrics(truth, guess).auc == pytest.approx(
        np.mean([roc_auc_score(draw, guess) for draw in draws]), abs=0.01
    )
    assert soft_metrics(truth, truth).log_loss < soft_metrics(truth, guess).log_loss


def test_the_calibration_error_is_the_distance_by_bin() -> None:
    truth = np.linspace(0.01, 0.2, 1_000)
    assert expected_calibration_error(truth, truth) == pytest.approx(0)
    assert expected_calibration_error(truth, truth + 0.03) == pytest.approx(0.03)
    flat = np.full(1_000, truth.mean())
    assert expected_calibration_error(truth, flat) == pytest.approx(0.0475, abs=1e-3), "right on average, wrong in each"
