"""The data of an earlier run, read from its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from adclick.components.artifacts import Creatives
from adclick.components.example_files import (
    creative_files,
    evaluation_files,
    example_batches,
    training_files,
    validation_files,
)
from adclick.components.splits import SPLITS
from adclick.models.trainer import TrainingData, load_training_data
from adclick.models.training_data import Columns, Reader, read_columns
from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.record import RunRecord
from adclick.storage.local_copy import local_copy


def held_out_files(record: RunRecord) -> list[str]:
    """TFRecord files of the newest month's held-out examples."""
    return evaluation_files(_examples(record, [record.drops[-1].name]))


@dataclass(frozen=True)
class RunData:
    """What a run's model was made from and judged by.

    Attributes:
        training: What the Trainer had.
        evaluation: What the Evaluator had.
    """

    training: TrainingData
    evaluation: Columns


def load_run_data(config: Config, record: RunRecord, folder: Path) -> RunData:
    """Loads a run's data into arrays under `folder`, which must outlive them."""
    newest = [record.drops[-1].name]
    earlier = [drop.name for drop in record.drops[:-1]]
    last = _examples(record, newest)
    creatives = []
    for number, name in enumerate([*earlier, *newest]):
        for uri in record.artifacts[f"AdExampleGen-{name}.creatives"]:
            artifact = Creatives()
            artifact.uri, artifact.id = local_copy(uri), number
            creatives.append(artifact)
    (transform_graph,) = record.artifacts["Transform.transform_graph"]
    training = load_training_data(
        config.features,
        transform_graph,
        training_files(last, _examples(record, earlier)),
        validation_files(last),
        creative_files(creatives),
        config.ingestion.image_size,
        folder,
    )
    reader = Reader(training.transform_graph.columns, config.features)
    return RunData(training, read_columns(evaluation_files(last), reader, training.store, folder, "evaluation"))


def truth_folder(config: Config) -> Path | None:
    """Where `adclick sample-data` leaves the truth beside its drops; None for real data."""
    if "://" in config.data.root:
        return None
    folder = Path(config.data.root).parent / "truth"
    return folder if folder.is_dir() else None


def held_out_truth(config: Config, record: RunRecord) -> pd.DataFrame | None:
    """The truth of the held-out impressions, a row each in the order of `load_run_data`; None for real data."""
    folder, identifier = truth_folder(config), config.features.identifier_name
    if folder is None or identifier is None:
        return None
    file = folder / f"{record.drops[-1].name}.parquet"
    if not file.exists():
        return None
    spec = {identifier: tf.io.FixedLenFeature([], tf.string, "")}
    identifiers = [
        value.decode("utf-8", "replace")
        for path in sorted(held_out_files(record))
        for examples in example_batches(path)
        for value in tf.io.parse_example(examples, spec)[identifier].numpy().tolist()
    ]
    found = pd.read_parquet(file).set_index("impression_id").reindex(identifiers)
    return None if found["probability"].isna().any() else found


def _examples(record: RunRecord, months: Sequence[str]) -> list[standard_artifacts.Examples]:
    found = []
    for month in months:
        for uri in record.artifacts[f"AdExampleGen-{month}.examples"]:
            artifact = standard_artifacts.Examples()
            artifact.uri = local_copy(uri)
            artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
            found.append(artifact)
    return found
