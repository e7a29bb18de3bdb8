"""The click log of the speed benchmarks: what it holds, and that adclick takes it for what it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from adclick.pipeline.config.settings import load_config
from adclick.schema.curated import check_schema, load_schema
from benchmarks.click_log import COLUMNS, IMAGE, LABEL, MONTH, write_click_log, write_project

ROLES = {
    "impression_id": "identifier",
    "timestamp": "timestamp",
    "device": "categorical",
    "position": "categorical",
    "category": "categorical",
    "site_id": "categorical",
    "ad_id": "categorical",
    "viewability": "numeric",
    "bid_price": "numeric",
    LABEL: "label",
}


def read(drops: Path) -> pd.DataFrame:
    files = sorted((drops / MONTH).glob("*.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drops = tmp_path_factory.mktemp("log")
    write_click_log(drops, 60_000)
    return read(drops)


def test_rows_and_columns(log: pd.DataFrame) -> None:
    assert tuple(log.columns) == COLUMNS
    assert len(log) == 60_000
    assert log["impression_id"].is_unique
    assert log["timestamp"].is_monotonic_increasing
    assert set(pd.to_datetime(log["timestamp"], unit="s").dt.strftime("%Y-%m")) == {MONTH}
    assert not log.isna().any(axis=None)


def test_ads_follow_a_power_law(log: pd.DataFrame) -> None:
    counts = log["ad_id"].value_counts()

    assert 5_000 < len(counts) <= 20_000
    assert counts.iloc[0] > 1_000
    assert (counts == 1).sum() > 1_000


def test_the_label_depends_on_the_columns(log: pd.DataFrame) -> None:
    by_position = log.groupby("position")[LABEL].mean()

    assert 0.03 < log[LABEL].mean() < 0.12
    assert by_position["top"] > 1.5 * by_position["bottom"]
    assert log.groupby(log["bid_price"] > 1)[LABEL].mean().is_monotonic_increasing


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_click_log(tmp_path / name, 500, seed=seed)

    one, again, other = ((tmp_path / n / MONTH / "impressions.csv").read_bytes() for n in ("one", "again", "other"))
    assert one == again
    assert one != other


def test_several_files_and_images(tmp_path: Path) -> None:
    write_click_log(tmp_path, 1_001, files=3, images=["images/a.jpg", "images/b.jpg"])

    assert [file.name for file in sorted((tmp_path / MONTH).iterdir())] == [
        "impressions-00.csv",
        "impressions-01.csv",
        "impressions-02.csv",
    ]
    log = read(tmp_path)
    assert tuple(log.columns) == (*COLUMNS, IMAGE)
    assert len(log) == log["impression_id"].nunique() == 1_001
    assert set(log[IMAGE]) == {"images/a.jpg", "images/b.jpg"}


@pytest.mark.parametrize("rows", [1_000, 50_000])
def test_init_takes_the_columns_for_what_they_are(tmp_path: Path, rows: int) -> None:
    project = write_project(tmp_path / "project", rows)

    config = load_config(project.config)
    assert {name: column["role"] for name, column in config.features.model_dump().items()} == ROLES
    check_schema(load_schema(config.schema_file), config.features)
    assert Path(config.output) == project.output
    assert Path(config.data.root) == project.drops


def test_both_sides_of_the_whole_run_do_the_same_work(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", 1_000, epochs=4)

    document = yaml.safe_load(project.config.read_text(encoding="utf-8"))
    assert document["training"] == {"max_epochs": 4, "patience": 4}
    assert document["evaluation"]["confidence_intervals"] is False
    assert document["evaluation"]["slices"] == [["device"], ["position"]]
