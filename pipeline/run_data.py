"""The data of an earlier run, read from its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Creatives
from components.example_files import creative_files, example_batches, split_files
from models.trainer import TrainingData, load_training_data
from pipeline.config import Config
from pipeline.run_record import RunRecord


def held_out_files(record: RunRecord) -> list[str]:
    """TFRecord files of the newest month's held-out examples."""
    return split_files(_examples(record, [record.drops[-1].name]), "eval")


def load_run_data(config: Config, record: RunRecord, folder: Path) -> TrainingData:
    """Loads what the run's model was trained and held out on into arrays under `folder`, which must outlive them."""
    newest = [record.drops[-1].name]
    earlier = [drop.name for drop in record.drops[:-1]]
    before = _examples(record, earlier)
    creatives = []
    for number, name in enumerate([*earlier, *newest]):
        for uri in record.artifacts[f"AdExampleGen-{name}.creatives"]:
            artifact = Creatives()
            artifact.uri, artifact.id = uri, number
            creatives.append(artifact)
    (transform_graph,) = record.artifacts["Transform.transform_graph"]
    return load_training_data(
        config.features,
        transform_graph,
        split_files(before, "train") + split_files(before, "eval") + split_files(_examples(record, newest), "train"),
        held_out_files(record),
        creative_files(creatives),
        config.ingestion.image_size,
        folder,
    )


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
            artifact.uri = uri
            artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
            found.append(artifact)
    return found
