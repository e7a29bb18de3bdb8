"""From events to a blessed fraud model, by the three commands that docs/how-to/click-fraud.md names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from adclick.components.splits import EVALUATION
from tests.end_to_end.harness import Project, adclick

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("stream") / "sample"
    written = adclick("sample-data", "--stream", "--output", folder, "--rows", "30000")
    assert written.code == 0, written.text
    backfilled = adclick("stream", "backfill", "--config", folder / "config.yaml")
    assert backfilled.code == 0, backfilled.text
    assert "3 months" in backfilled.out
    return Project(folder)


@pytest.fixture(scope="module")
def version(project: Project) -> Path:
    # So few clicks decide few gates; what they may decide they do.
    done = project.run()
    assert done.code == 0, done.text
    assert "Blessed" in done.out
    assert "recall@1%" in done.out
    (number,) = project.versions
    return project.push_base / str(number)


def test_the_model_carries_the_thresholds_of_alerts(version: Path) -> None:
    described = json.loads((version / "assets.extra" / "adclick.json").read_text())
    thresholds = {float(rate): threshold for rate, threshold in described["fraud_thresholds"].items()}
    assert 0.001 in thresholds
    ordered = [thresholds[rate] for rate in sorted(thresholds)]
    assert ordered == sorted(ordered, reverse=True)
    assert 0 < ordered[-1] < ordered[0] <= 1


def test_at_the_threshold_fraud_is_caught_and_the_honest_are_left_alone(project: Project, version: Path) -> None:
    import tensorflow as tf

    from adclick.serving.model_server.servable import Servable

    files = sorted((project.output / "pipeline_root" / "AdExampleGen-2026-10").glob(f"examples/*/Split-{EVALUATION}/*"))
    examples = [record.numpy() for record in tf.data.TFRecordDataset(list(map(str, files)))]
    predicted = Servable.load(version).run("serving_examples", {"examples": np.array(examples, object)})
    probability = predicted["click_probability"]
    parsed = [tf.train.Example.FromString(example).features.feature for example in examples]
    fraud = np.array([features["is_fraud"].int64_list.value[0] for features in parsed]) == 1
    thresholds = json.loads((version / "assets.extra" / "adclick.json").read_text())["fraud_thresholds"]
    alerting = probability >= thresholds["0.01"]
    assert alerting[~fraud].mean() <= 0.01
    assert alerting[fraud].mean() > 0.4
    # By the truth beside the traffic, not only by the verdicts.
    with (project.folder / "truth" / "clicks.csv").open(newline="") as stream:
        truth = {row["click_id"]: row["is_fraud"] == "1" for row in csv.DictReader(stream)}
    ids = [features["click_id"].bytes_list.value[0].decode() for features in parsed]
    assert [truth[name] for name in ids] == fraud.tolist()


def test_a_second_backfill_writes_the_same_bytes(project: Project, version: Path) -> None:
    def content() -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in sorted((project.folder / "drops").glob("*/*"))}

    before = content()
    refused = adclick("stream", "backfill", "--config", project.config)
    assert refused.code == 2
    assert "--replace" in refused.text
    again = adclick("stream", "backfill", "--config", project.config, "--replace", "--quiet")
    assert again.code == 0, again.text
    assert content() == before
