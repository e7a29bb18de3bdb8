"""Impressions as every model of a comparison gets them: the same rows in the same order, split the same way.

They come through the product's own ingestion; the Transform graph is made of the training rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import tensorflow as tf
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from components.ad_example_gen.executor import AdExampleGenExecutor
from components.artifacts import Creatives, Quarantine
from components.example_files import example_decoder, record_batches
from models.analysis import Analyzer, first_values
from models.features import input_layout
from models.trainer import TrainingData
from models.training_data import Columns, CreativeStore, Reader, read_columns
from models.transform_graph import TransformGraph, write_transform_graph
from pipeline.beam_runner import LOCAL_BEAM_ARGUMENTS
from pipeline.config import Config
from pipeline.drops import Drop, find_drops
from schema.curated import load_schema
from schema.feature_table import Categorical, FeatureTable, Image, Numeric, Timestamp

Rows = npt.NDArray[np.int64]

LABEL = "clicked"


@dataclass(frozen=True)
class Impressions:
    """The ingested impressions of a data set.

    Attributes:
        config: Its config.
        files: TFRecord files of examples, in the order of the rows.
        creative_files: TFRecord files of creatives.
        frame: A row per impression: identifier, raw columns, hour and weekday, and the label as `clicked`.
        is_held_out: Whether ingestion held the impression out, bool [rows]; only of the newest drop.
    """

    config: Config
    files: tuple[str, ...]
    creative_files: tuple[str, ...]
    frame: pd.DataFrame
    is_held_out: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Positions of the rows to train on, to choose by, and to score."""

    train: Rows
    validation: Rows
    test: Rows


def ingest(config: Config, folder: Path) -> Impressions:
    """Ingests every drop of a config's data root."""
    drops = find_drops(config.data.root, config.data.window)
    files: list[str] = []
    creatives: list[str] = []
    held_out: list[str] = []
    for drop in drops:
        output = _ingest_drop(config, drop, folder / drop.name)
        creatives += sorted(tf.io.gfile.glob(f"{output}/creatives/creatives-*"))
        for split in ("train", "eval"):
            found = sorted(tf.io.gfile.glob(f"{output}/examples/Split-{split}/*"))
            files += found
            held_out += found if split == "eval" and drop is drops[-1] else []
    frames = [_frame(config.features, path) for path in files]
    is_held_out = np.concatenate([np.full(len(f), p in held_out) for f, p in zip(frames, files, strict=True)])
    return Impressions(config, tuple(files), tuple(creatives), pd.concat(frames, ignore_index=True), is_held_out)


def _ingest_drop(config: Config, drop: Drop, folder: Path) -> Path:
    outputs = {"examples": standard_artifacts.Examples(), "creatives": Creatives(), "quarantine": Quarantine()}
    for name, artifact in outputs.items():
        artifact.uri = str(folder / name)
    AdExampleGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=list(LOCAL_BEAM_ARGUMENTS))).Do(
        {},
        {name: [artifact] for name, artifact in outputs.items()},
        {
            "drop_uri": drop.uri,
            "span": drop.span,
            "version": drop.version,
            "features": config.features.model_dump_json(),
            "csv": config.csv.model_dump_json(),
            "ingestion": config.ingestion.model_dump_json(),
            "split": config.split.model_dump_json(),
        },
    )
    return folder


def _frame(features: FeatureTable, path: str) -> pd.DataFrame:
    names = [name for name in features.used if not isinstance(features.root[name], Image)]
    decoder = example_decoder(features, names)
    table = pa.Table.from_batches(
        [
            pa.RecordBatch.from_arrays([_first_values(batch[name]) for name in names], names)
            for batch in record_batches(path, decoder)
        ]
    )
    frame = table.to_pandas().rename(columns={features.label_name: LABEL})
    for name in features.of(Timestamp):
        seconds = frame.pop(name)
        frame["hour"] = (seconds // 3600 % 24).astype(str)
        frame["weekday"] = ((seconds // 86_400 + 3) % 7).astype(str)
    return frame


def _first_values(lists: pa.Array) -> pa.Array:
    """The first value of each list, null where it has none, text as text."""
    rows, values = first_values(lists)
    where = np.full(len(lists), -1, np.int64)
    where[rows] = np.arange(len(rows))
    found = values.take(pa.array(np.where(where < 0, 0, where), mask=where < 0))
    return found.cast(pa.large_string()) if pa.types.is_large_binary(values.type) else found


def categorical_and_numeric(impressions: Impressions) -> tuple[list[str], list[str]]:
    """The columns that a model of any family reads, by kind."""
    inputs = impressions.config.features.model_inputs
    times = [name for name in ("hour", "weekday") if name in impressions.frame]
    return (
        [name for name, column in inputs.items() if isinstance(column, Categorical)] + times,
        [name for name, column in inputs.items() if isinstance(column, Numeric)],
    )


def write_for_rivals(impressions: Impressions, split: Split, clicked: npt.NDArray[np.float32], folder: Path) -> None:
    """Writes the rows as the rivals' training script reads them, with these labels."""
    folder.mkdir(parents=True, exist_ok=True)
    categorical, numeric = categorical_and_numeric(impressions)
    frame = impressions.frame[[*categorical, *numeric]].astype(dict.fromkeys(numeric, np.float64))
    frame[LABEL] = clicked.astype(np.int64)
    for name, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        frame.iloc[rows].reset_index(drop=True).to_parquet(folder / f"{name}.parquet")
    columns = {"label": LABEL, "categorical": categorical, "numeric": numeric}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")


def transform(impressions: Impressions, split: Split, folder: Path) -> tuple[TrainingData, Columns]:
    """Transforms the rows in the product's way.

    Returns:
        The training data, held out on the validation rows, and the columns of the test rows.
    """
    config = impressions.config
    graph = TransformGraph(_trace(impressions, split, folder / "transform"))
    layout = input_layout(config.features, graph.output.vocabulary_size_by_name)
    (folder / "columns").mkdir(parents=True)
    store = None
    if layout.has_image:
        store = CreativeStore(impressions.creative_files, config.ingestion.image_size, folder / "columns")
    reader = Reader(graph, config.features, layout)
    parts = [
        read_columns([path], reader, store, folder / "columns", f"part{number}")
        for number, path in enumerate(impressions.files)
    ]
    whole = Columns(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("categories", "multiples", "numbers", "creative", "clicked")
        }
    )
    data = TrainingData(layout, whole.take(split.train), whole.take(split.validation), store, graph)
    return data, whole.take(split.test)


def _trace(impressions: Impressions, split: Split, folder: Path) -> str:
    features = impressions.config.features
    decoder = example_decoder(features, [*features.used])
    analyzer = Analyzer(features)
    is_train = np.zeros(len(impressions.frame), bool)
    is_train[split.train] = True
    start = 0
    for path in impressions.files:
        for batch in record_batches(path, decoder):
            analyzer.add(batch.filter(pa.array(is_train[start : start + len(batch)])))
            start += len(batch)
    write_transform_graph(analyzer.result(), load_schema(impressions.config.schema_file), features, str(folder))
    return str(folder)


def random_split(rows: int, seed: int, shares: Sequence[float] = (0.8, 0.1)) -> Split:
    """Parts rows at random into training, validation and, what is left, test."""
    order = np.random.default_rng(seed).permutation(rows)
    first, second = int(rows * shares[0]), int(rows * (shares[0] + shares[1]))
    return Split(np.sort(order[:first]), np.sort(order[first:second]), np.sort(order[second:]))
