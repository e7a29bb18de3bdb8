"""A drop scored by batch prediction: every row as the model server scores it, and what cannot be scored set apart."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.models.extension import pixels_as_png
from adclick.pipeline.prediction.batch import SUMMARY_FILE, BatchPrediction, run_batch_predict
from adclick.pipeline.prediction.single import instance_from_csv
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import parse_feature_table
from adclick.serving.client.client import ModelServerClient
from adclick.serving.model_server.server import running_server
from tests.models.tiny_model import FEATURES, IMAGE_SIZE, TinyModel, make_creatives

TOLERANCE = 1e-6
MONTH = "2026-11"
COLUMNS = ("id", "shown_at", "ad", "site", "topics", "price", "height", "image")
OLDER, NEWEST = 7, 12


@dataclass(frozen=True)
class Project:
    """A push directory with two versions, and a drop that is not clicked yet."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def drop(self) -> Path:
        return self.folder / "drops" / MONTH

    @property
    def push_base(self) -> Path:
        return self.folder / "output" / "serving_model" / "adclick"

    def configure(self, **sections: Any) -> None:
        features = {"id": {"role": "identifier"}, **FEATURES.model_dump(exclude_defaults=True)}
        document = {"data": {"root": "drops"}, "split": {"by": "hash"}, "features": features, **sections}
        self.config.write_text(yaml.safe_dump(document))

    def write_rows(self, rows: list[list[str]], header: bool = True) -> None:
        self.drop.mkdir(parents=True, exist_ok=True)
        lines = [",".join(row) for row in ([[*COLUMNS]] if header else []) + rows]
        (self.drop / "a.csv").write_text("\n".join(lines) + "\n")

    def predict(self, output: str, **options: Any) -> BatchPrediction:
        return run_batch_predict(self.config, output=str(self.folder / output), **options)

    @property
    def left_behind(self) -> list[Path]:
        return list(self.folder.glob("*.partial"))


@pytest.fixture
def project(tiny_model: TinyModel, tmp_path: Path) -> Project:
    project = Project(tmp_path)
    for version in (OLDER, NEWEST):
        folder = project.push_base / str(version)
        shutil.copytree(tiny_model.folder, folder)
        # The identifier is no input: a model may have been trained with one.
        description = folder / "assets.extra" / "adclick.json"
        document = json.loads(description.read_text())
        document["features"] = {"id": {"role": "identifier"}, **document["features"]}
        description.write_text(json.dumps(document))
    project.configure()
    (project.drop / "images").mkdir(parents=True)
    for number, creative in enumerate(make_creatives(3, seed=9)):
        (project.drop / "images" / f"{number}.png").write_bytes(pixels_as_png(creative.image or b""))
    (project.drop / "images" / "broken.png").write_bytes(b"no image")
    return project


def rows(count: int) -> list[list[str]]:
    """Rows with all that a drop may hold: missing values, values never seen, broken and absent images."""
    images = ["images/0.png", "images/1.png", "images/2.png", "images/broken.png", "images/gone.png", ""]
    random = np.random.default_rng(4)
    return [
        [
            f"i{number}",
            f"2026-11-{1 + number % 28:02d}T{number % 24:02d}:00:00" if number % 17 else "",
            f"ad{random.integers(40)}" if number % 7 else "null",
            f"site{random.integers(12)}",
            "|".join(f"t{topic}" for topic in random.integers(0, 8, random.integers(0, 6))),
            f"{random.normal() * 50:.3f}" if number % 5 else "",
            f"{random.random():.4f}",
            images[number % len(images)],
        ]
        for number in range(count)
    ]


def served(project: Project, count: int) -> list[float]:
    """What the model server answers to the first rows, sent one by one as `adclick predict` sends them."""
    features = parse_feature_table({"id": {"role": "identifier"}, **FEATURES.model_dump()})
    # `adclick predict` refuses a broken image, and sends none for one that is not there.
    (project.drop / "images" / "broken.png").unlink()
    with running_server(project.push_base) as server, ModelServerClient(server.url) as client:
        return [
            float(
                client.predict([instance_from_csv(str(project.drop / "a.csv"), row + 1, features, CsvSettings())])[0],
            )
            for row in range(count)
        ]


def predictions(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(shard) for shard in sorted(folder.glob("predictions-*.parquet"))])


def test_every_row_scores_as_the_model_server_says(project: Project) -> None:
    project.write_rows(rows(60))
    project.configure(ingestion={"image_size": IMAGE_SIZE, "chunk_bytes": 1024})
    result = project.predict("scores", month=MONTH)
    found = predictions(project.folder / "scores")

    assert len(list((project.folder / "scores").glob("predictions-*.parquet"))) > 2, "read and written in parts"
    assert found["impression_id"].to_pylist() == [f"i{number}" for number in range(60)]
    assert set(found["model_version"].to_pylist()) == {NEWEST}
    probabilities = found["click_probability"].to_numpy()
    assert np.ptp(probabilities) > 0.01
    np.testing.assert_allclose(probabilities, served(project, 60), atol=TOLERANCE)

    assert (result.counts.rows_in, result.counts.rows_scored, result.model_version) == (60, 60, NEWEST)
    assert result.counts.mean_probability == pytest.approx(probabilities.astype(np.float64).mean(), rel=1e-6)
    assert result.counts.creatives_by_status == {"corrupt": 1, "missing": 1, "ok": 3}
    summary = json.loads((project.folder / "scores" / SUMMARY_FILE).read_text())
    assert (summary["counts"]["rows_scored"], summary["quarantine"]) == (60, "")
    assert "60 of 60 rows scored by version 12" in result.describe()


def test_one_file_holds_what_the_shards_hold(project: Project) -> None:
    project.write_rows(rows(40))
    project.configure(ingestion={"image_size": IMAGE_SIZE, "chunk_bytes": 1024})
    project.predict("scores", version=OLDER)
    project.predict("scores.csv.gz", version=OLDER)
    with gzip.open(project.folder / "scores.csv.gz", "rt") as stream:
        read = list(csv.DictReader(stream))
    expected = predictions(project.folder / "scores")
    assert [row["impression_id"] for row in read] == expected["impression_id"].to_pylist()
    assert [np.float32(row["click_probability"]) for row in read] == expected["click_probability"].to_pylist()
    assert {row["model_version"] for row in read} == {str(OLDER)}


def test_an_output_is_replaced_only_when_asked_to_be(project: Project) -> None:
    project.write_rows(rows(5))
    project.predict("scores.parquet")
    project.write_rows(rows(3))
    with pytest.raises(ConfigError, match="exists"):
        project.predict("scores.parquet")
    assert len(pq.read_table(project.folder / "scores.parquet")) == 5
    project.predict("scores.parquet", force=True)
    assert len(pq.read_table(project.folder / "scores.parquet")) == 3
    assert not project.left_behind


def test_what_cannot_be_scored_is_quarantined_as_in_ingestion(project: Project) -> None:
    good = rows(20)
    bad = [
        ["too", "few"],
        ["b1", "no time", "", "", "", "", "", ""],
        ["", *good[0][1:]],
        ["b2", *[""] * 4, "x", "", ""],
    ]
    project.write_rows([*good[:10], *bad, *good[10:]])
    project.configure(ingestion={"max_quarantine_share": 0.2})
    result = project.predict("scores", form="csv")
    reasons = {"missing_identifier": 1, "unparsable_number": 1, "unparsable_time": 1, "wrong_field_count": 1}
    assert result.counts.quarantined_by_reason == reasons
    assert (result.counts.rows_in, result.counts.rows_scored) == (24, 20)
    quarantined = [
        json.loads(line)
        for file in Path(result.quarantine).glob("quarantine-*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert [(row["file"], row["line"], row["text"]) for row in quarantined] == [
        ("a.csv", 12 + number, ",".join(row)) for number, row in enumerate(bad)
    ]
    (shard,) = (project.folder / "scores").glob("predictions-*.csv")
    with shard.open() as stream:
        assert [row["impression_id"] for row in csv.DictReader(stream)] == [row[0] for row in good]


def test_too_much_quarantine_is_refused_and_shown(project: Project) -> None:
    project.write_rows([*rows(20), ["too", "few"]])
    with pytest.raises(DataRefused, match=r"1 of 21 rows.*wrong_field_count 1") as refusal:
        project.predict("scores")
    assert refusal.value.exit_code == 3
    assert not (project.folder / "scores").exists()
    assert list((project.folder / "scores-quarantine").glob("quarantine-*.jsonl")), "what was wrong can be looked at"
    assert not project.left_behind


def test_rows_without_header_label_or_identifier_are_told_by_their_place(
    project: Project, tiny_model: TinyModel
) -> None:
    shutil.rmtree(project.push_base)
    shutil.copytree(tiny_model.folder, project.push_base / str(NEWEST))
    project.configure(csv={"header": False, "columns": [*COLUMNS, "clicked"]})
    with_labels = [[*row, "0"] for row in rows(6)]
    project.write_rows(with_labels, header=False)
    project.predict("labelled.parquet")
    project.write_rows(rows(6), header=False)
    project.predict("unlabelled.parquet")
    labelled, unlabelled = (
        pq.read_table(project.folder / f"{name}.parquet").to_pylist() for name in ("labelled", "unlabelled")
    )
    assert labelled == unlabelled
    assert [row["impression_id"] for row in labelled] == [f"a.csv:{line}" for line in range(1, 7)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"version": 99}, "holds no version 99"),
        ({"month": "2026-12"}, "holds no folder 2026-12"),
        ({"output": "scores.csv", "form": "parquet"}, "is to end in"),
        ({"output": "scores.csv", "gzip": True}, "is to end in .csv.gz"),
    ],
)
def test_what_is_not_there_is_named(project: Project, options: dict[str, Any], named: str) -> None:
    project.write_rows(rows(1))
    with pytest.raises(ConfigError, match=named):
        project.predict(options.pop("output", "scores"), **options)
    assert not project.left_behind
