"""Columns of any name, from the header through init and run to every answer: each is called as its owner calls it."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from adclick.models.requests import requests_from_examples
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.prediction.explanation import fields_of_instance
from adclick.schema.signatures import CLICK_PROBABILITY
from adclick.serving.client.client import ModelServerClient
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import running_server
from tests.end_to_end.harness import Project, adclick
from tests.names import column_names

pytestmark = pytest.mark.end_to_end

TOLERANCE = 1e-6
MONTHS = ("2026-08", "2026-09")
ROWS = 700
#: A keyword, what the program itself derives, two that differ in case alone, a path of many bytes, quotes, braces and
#: markup with a line break, a leading digit.
ODD = ["class", "hour", "AD", "ad", "a/b.c: " + "\N{GRINNING FACE}" * 200, 'the "{0}"\n[red] %s', "1st", "weekday"]


def write_drops(folder: Path, names: list[str]) -> None:
    """Two months of impressions, whose clicks depend on position and price, and their images."""
    for month in MONTHS:
        random = np.random.default_rng(MONTHS.index(month))
        (folder / month).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (20, 20), (60 * number, 90, 120)).save(folder / month / f"{number}.png")
        position = random.choice(["top", "middle", "bottom"], ROWS)
        price = np.round(random.lognormal(0, 1, ROWS), 3)
        logit = np.log(price) + np.where(position == "top", 1.0, -1.0)
        columns = [
            [f"{month}-{row:06d}" for row in range(ROWS)],
            [f"{month}-{1 + row * 28 // ROWS:02d}T{row % 24:02d}:{row % 60:02d}:00" for row in range(ROWS)],
            [f"u{user}" for user in random.integers(0, 60, ROWS)],
            position,
            [f"ad{ad}" for ad in random.integers(0, 12, ROWS)],
            price,
            (random.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int),
            [f"{image}.png" for image in random.integers(0, 4, ROWS)],
        ]
        with (folder / month / "log.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(*columns, strict=True))


def train(folder: Path, names: list[str]) -> Project:
    write_drops(folder / "drops", names)
    done = adclick("init", folder / "drops", "--output", folder)
    assert done.code == 0, done.text
    project = Project(folder)

    def loosen(config: dict[str, Any]) -> None:
        thresholds = [{"metric": "normalised_entropy", "upper": 2.0}]
        config["evaluation"] |= {"thresholds": thresholds, "confidence_intervals": False}
        config["training"] = {"max_epochs": 2}

    project.edit_config(loosen)
    assert list(yaml.safe_load(project.config.read_text(encoding="utf-8"))["features"]) == names
    done = project.run()
    assert done.code == 0, done.text
    return project


def evaluated_examples(project: Project) -> list[bytes]:
    folder = project.output / "pipeline_root" / f"AdExampleGen-{MONTHS[-1]}" / "examples"
    files = sorted(str(file) for file in folder.glob("*/Split-eval/*"))
    return [record.numpy() for record in tf.data.TFRecordDataset(files).take(40)]


def test_odd_names_are_answered_as_evaluated() -> None:
    check_answers(ODD)


@settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(column_names(), min_size=8, max_size=8, unique=True))
def test_any_names_are_answered_as_evaluated(names: list[str]) -> None:
    check_answers(names)


def check_answers(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = train(Path(folder), names)
        features = load_config(project.config).features
        examples = evaluated_examples(project)
        (version,) = project.versions
        model = tf.saved_model.load(str(project.push_base / str(version)))
        evaluated = model.signatures["serving_examples"](examples=tf.constant(examples))[CLICK_PROBABILITY].numpy()
        rows = requests_from_examples(examples, features)

        with running_server(project.push_base) as server:
            with ModelServerClient(server.url) as client:
                np.testing.assert_allclose(client.predict(rows), evaluated, atol=TOLERANCE)
            backend = {"kind": "in_process", "model_base_path": str(project.push_base), "timeout_seconds": 60}
            limits = {"rate": "", "past_days": None, "future_days": None}
            gateway = GatewaySettings.model_validate({"backend": backend, "limits": limits})
            with (
                running_gateway(gateway, model_server=server.model_server, is_open=True) as running,
                httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client,
            ):
                answer = client.post("/v1/score", json={"ads": [fields_of_instance(row, features) for row in rows]})
        assert answer.status_code == 200, answer.text
        scores = {one["index"]: one["click_probability"] for one in answer.json()["ads"]}
        np.testing.assert_allclose([scores[index] for index in range(len(rows))], evaluated, atol=TOLERANCE)

        given = {name: rows[0][name] for name in features.model_inputs if name != features.image_name}
        done = adclick("predict", "--config", project.config, "--quiet", "--json", json.dumps(given))
        assert done.code == 0, done.text
        target = Path(folder) / "scores.parquet"
        done = adclick("batch-predict", "--config", project.config, "--month", MONTHS[-1], "--output", target)
        assert done.code == 0, done.text
        assert pq.read_table(target).num_rows == ROWS
