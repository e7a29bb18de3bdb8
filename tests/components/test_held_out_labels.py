"""The labels of evaluation are the gate's alone: whatever they are, the model is the same to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from adclick.components.ad_example_gen.executor import AdExampleGenExecutor
from adclick.components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from adclick.components.artifacts import Creatives, FeatureAnalysis, Quarantine
from adclick.components.click_statistics_gen.component import ClickStatisticsGenExecutor
from adclick.components.click_trainer.component import ClickTrainerExecutor
from adclick.components.click_transform.component import ClickTransformExecutor
from adclick.components.example_files import evaluation_files, training_files, validation_files
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.training_data import record_datasets
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.schema.curated import build_schema, write_schema
from adclick.schema.feature_table import FeatureTable

FEATURES = FeatureTable.model_validate(
    {
        "impression": {"role": "identifier"},
        "shown_at": {"role": "timestamp", "format": "epoch_seconds"},
        "site": {"role": "categorical"},
        "price": {"role": "numeric"},
        "banner": {"role": "image"},
        "clicked": {"role": "label"},
    }
)
ROWS = 1_000
#: Where, of a month of a row a minute, evaluation begins.
EVALUATION = 800
START = 1_790_812_800
#: It holds the layers' names, in which Keras counts the layers of the whole process.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def write_drop(folder: Path, clicked: list[int]) -> None:
    folder.mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (20, 20), (50 * number, 90, 200 - 40 * number)).save(folder / f"{number}.png")
    lines = ["impression,shown_at,site,price,banner,clicked"]
    lines += [
        f"i{row},{START + 60 * row},s{row * row % 17},{row % 13},{row % 5}.png,{label}"
        for row, label in enumerate(clicked)
    ]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


def artifact(kind: type[Any], folder: Path) -> list[Any]:
    made = kind()
    made.uri = str(folder)
    return [made]


def train_on(drop: Path, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The weights of the exported model by name, and the examples that it was trained on."""
    features = FEATURES.model_dump_json()
    beam = BaseBeamExecutor.Context(beam_pipeline_args=list(LOCAL_BEAM_ARGUMENTS))
    examples, creatives = artifact(standard_artifacts.Examples, folder / "e"), artifact(Creatives, folder / "c")
    AdExampleGenExecutor(beam).Do(
        {},
        {"examples": examples, "creatives": creatives, "quarantine": artifact(Quarantine, folder / "q")},
        {
            "drop_uri": str(drop),
            "span": 202610,
            "version": 1,
            "features": features,
            "csv": CsvSettings().model_dump_json(),
            "ingestion": IngestionSettings(image_size=16).model_dump_json(),
            "split": SplitSettings().model_dump_json(),
        },
    )
    (folder / "schema").mkdir()
    write_schema(build_schema(FEATURES), str(folder / "schema" / "schema.pbtxt"))
    schema = artifact(standard_artifacts.Schema, folder / "schema")
    analysis = artifact(FeatureAnalysis, folder / "a")
    ClickStatisticsGenExecutor(beam).Do(
        {"examples": examples, "schema": schema},
        {"statistics": artifact(standard_artifacts.ExampleStatistics, folder / "s"), "analysis": analysis},
        {"features": features},
    )
    graph = artifact(standard_artifacts.TransformGraph, folder / "g")
    ClickTransformExecutor().Do(
        {"analysis": analysis, "schema": schema}, {"transform_graph": graph}, {"features": features}
    )
    model = artifact(standard_artifacts.Model, folder / "m")
    ClickTrainerExecutor().Do(
        {"examples": examples, "creatives": creatives, "transform_graph": graph},
        {"model": model, "model_run": artifact(standard_artifacts.ModelRun, folder / "r")},
        {
            "features": features,
            "network": NetworkSettings(hidden_units=(8,)).model_dump_json(),
            "training": TrainingSettings(max_epochs=3, batch_size=128).model_dump_json(),
            "image_size": 16,
        },
    )
    reader = tf.train.load_checkpoint(f"{path_utils.serving_model_path(model[0].uri)}/variables/variables")
    names = set(reader.get_variable_to_shape_map()) - {_OBJECT_GRAPH}
    weights = {name: reader.get_tensor(name) for name in names}
    return weights, examples


def records(files: list[str]) -> list[bytes]:
    return [record for dataset in record_datasets(files) for record in dataset.as_numpy_iterator()]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], list[Any]]]:
    """What becomes of a log, and of the same with the labels of evaluation shuffled."""
    folder = tmp_path_factory.mktemp("held-out-labels")
    random = np.random.default_rng(1)
    clicked = (random.random(ROWS) < 0.2).astype(int)
    shuffled = np.concatenate([clicked[:EVALUATION], random.permutation(clicked[EVALUATION:])])
    found = []
    for name, labels in (("true", clicked), ("shuffled", shuffled)):
        write_drop(folder / name / "drop", labels.tolist())
        found.append(train_on(folder / name / "drop", folder / name))
    return found


def test_shuffled_labels_of_evaluation_change_no_bit_of_the_model(outcomes: list[Any]) -> None:
    (weights, examples), (others, other_examples) = outcomes
    assert weights and set(weights) == set(others)
    for name, values in weights.items():
        np.testing.assert_array_equal(values, others[name], err_msg=name, strict=True)
    assert records(evaluation_files(examples)) != records(evaluation_files(other_examples)), "the labels were shuffled"


def test_a_month_is_parted_without_rest(outcomes: list[Any]) -> None:
    (_, examples), _ = outcomes
    parts = [records(files(examples)) for files in (lambda newest: training_files(newest, []), validation_files)]
    parts.append(records(evaluation_files(examples)))
    assert [len(part) for part in parts] == [700, 100, 200]
    numbers = [
        [tf.train.Example.FromString(record).features.feature["shown_at"].int64_list.value[0] for record in part]
        for part in parts
    ]
    assert max(numbers[0]) < min(numbers[1]) <= max(numbers[1]) < min(numbers[2])
    assert sorted(number for part in numbers for number in part) == [START + 60 * row for row in range(ROWS)]


def test_earlier_months_are_trained_on_whole(outcomes: list[Any]) -> None:
    (_, earlier), (_, newest) = outcomes
    files = training_files(newest, earlier)
    assert len(records(files)) == ROWS + 700
    assert not set(files) & set(validation_files(newest) + evaluation_files(newest))
