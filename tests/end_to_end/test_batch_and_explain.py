"""A month scored at once and a score explained, as a user asks for them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.end_to_end.harness import Project, adclick


def test_a_month_is_scored_by_the_pushed_version(pushed: Project, tmp_path: Path) -> None:
    (version,) = pushed.versions
    file = tmp_path / "scores.parquet"
    command = ("batch-predict", "--config", pushed.config, "--output", file, "--json")
    done = adclick(*command)
    assert done.code == 0, done.text
    summary = json.loads(done.out)
    counts = summary["counts"]
    assert counts["rows_in"] == counts["rows_scored"] + counts["rows_quarantined"]
    assert counts["rows_quarantined"] > 0 and list(Path(summary["quarantine"]).glob("quarantine-*.jsonl"))
    table = pq.read_table(file)
    assert len(table) == counts["rows_scored"] > 3_000
    assert set(table["model_version"].to_pylist()) == {version}
    sent = adclick("predict", "--config", pushed.config, "--quiet")
    assert float(sent.out) == pytest.approx(table["click_probability"][0].as_py(), abs=1e-6)

    again = adclick(*command)
    assert (again.code, "--force" in again.err) == (2, True)


def test_a_score_is_explained(pushed: Project, tmp_path: Path) -> None:
    heat_map = tmp_path / "heat.png"
    done = adclick("explain", "--config", pushed.config, "--json", "--heat-map", heat_map)
    assert done.code == 0, done.text
    document = json.loads(done.out)
    total = sum(document["contributions"].values())
    assert total == pytest.approx(document["logit"] - document["baseline_logit"], abs=1e-3)
    predicted = adclick("predict", "--config", pushed.config, "--quiet")
    assert document["click_probability"] == pytest.approx(float(predicted.out), abs=1e-6)
    assert Image.open(io.BytesIO(heat_map.read_bytes())).format == "PNG"

    table = adclick("explain", "--config", pushed.config, "--request", '{"ad_position": "top"}')
    assert table.code == 0, table.text
    assert "ad_position" in table.out and "click probability" in table.out
    without = adclick("explain", "--config", pushed.config, "--request", "{}", "--heat-map", tmp_path / "none.png")
    assert without.code == 2 and "--image" in without.err
