"""Impressions as every model of a comparison gets them: the same rows in the same order, split the same way.

They come through the product's own ingestion; the Transform graph is made of the training rows alone.
"""

from __future__ import annotations

import hashlib
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

from adclick.components.ad_example_gen.executor import AdExampleGenExecutor
from adclick.components.artifacts import Creatives, Quarantine
from adclick.components.example_files import example_decoder, record_batches
from adclick.components.splits import SPLITS, TRAIN
from adclick.models.analysis import Analyzer, first_values
from adclick.models.text_store import Texts
from adclick.models.trainer import TrainingData
from adclick.models.training_data import Columns, Reader, TrainingCreatives, read_columns
from adclick.models.transform_graph import TransformGraph, write_transform_graph
from adclick.pipeline.config.settings import Config
from adclick.pipeline.drops import Drop, find_drops
from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS
from adclick.schema.curated import load_schema
from adclick.schema.feature_table import Bucketised, Categorical, FeatureTable, Image, Numeric

Rows = npt.NDArray[np.int64]

#: What the label is called in the rivals' files.
LABEL = "clicked"


@dataclass(frozen=True)
class Split:
    """Positions of the rows to train on, to choose by, and to score."""

    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Impressions:
    """The ingested impressions of a data set.

    Attributes:
        config: Its config.
        files: TFRecord files of examples, in the order of the rows.
        creative_files: TFRecord files of creatives.
        frame: A row per impression, the columns under their names in the config, without label, timestamp and image.
        times: By impression the hour and the weekday as texts; no column where there is no timestamp.
        clicked: The labels, float32 [rows].
        split: How ingestion parted them; earlier drops are trained on whole.
    """

    config: Config
    files: tuple[str, ...]
    creative_files: tuple[str, ...]
    frame: pd.DataFrame
    times: pd.DataFrame
    clicked: npt.NDArray[np.float32]
    split: Split


def ingest(config: Config, folder: Path) -> Impressions:
    """Ingests every drop of a config's data root."""
    drops = find_drops(config.data.root, config.data.window)
    files: list[str] = []
    creatives: list[str] = []
    split_of_file: list[str] = []
    for drop in drops:
        output = _ingest_drop(config, drop, folder / drop.name)
        creatives += sorted(tf.io.gfile.glob(f"{output}/creatives/creatives-*"))
        for name in SPLITS:
            found = sorted(tf.io.gfile.glob(f"{output}/examples/Split-{name}/*"))
            files += found
            split_of_file += [name if drop is drops[-1] else TRAIN] * len(found)
    features = config.features
    frames = [_frame(features, path) for path in files]
    split_of_row = np.repeat(split_of_file, [len(frame) for frame in frames])
    split = Split(*(np.flatnonzero(split_of_row == name) for name in SPLITS))
    frame = pd.concat(frames, ignore_index=True)
    clicked = frame.pop(features.label_name).to_numpy(np.float32)
    times = pd.DataFrame(index=frame.index)
    if features.timestamp_name is not None:
        seconds = frame.pop(features.timestamp_name)
        times = pd.DataFrame(
            {"hour": (seconds // 3600 % 24).astype(str), "weekday": ((seconds // 86_400 + 3) % 7).astype(str)}
        )
    return Impressions(config, tuple(files), tuple(creatives), frame, times, clicked, split)


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
    return table.to_pandas()


def _first_values(lists: pa.Array) -> pa.Array:
    """The first value of each list, null where it has none, text as text."""
    rows, values = first_values(lists)
    where = np.full(len(lists), -1, np.int64)
    where[rows] = np.arange(len(rows))
    found = values.take(pa.array(np.where(where < 0, 0, where), mask=where < 0))
    return found.cast(pa.large_string()) if pa.types.is_large_binary(values.type) else found


def categorical_and_numeric(features: FeatureTable) -> tuple[list[str], list[str]]:
    """The columns that a model of any family reads, by kind."""
    inputs = features.model_inputs
    return (
        [name for name, column in inputs.items() if isinstance(column, Categorical)],
        [name for name, column in inputs.items() if isinstance(column, Numeric | Bucketised)],
    )


def inputs_by_kind(impressions: Impressions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a model of any family reads: categories as text, null where missing, and quantities as float64.

    The columns are numbered: no name that a log may have can meet another, or a library that dislikes it.
    """
    categorical, numeric = categorical_and_numeric(impressions.config.features)
    categories = pd.concat([impressions.frame[categorical].astype(object), impressions.times], axis=1)
    quantities = impressions.frame[numeric].astype(np.float64)
    categories.columns = pd.Index([f"c{number}" for number in range(categories.shape[1])])
    quantities.columns = pd.Index([f"n{number}" for number in range(quantities.shape[1])])
    return categories, quantities


def order_of_content(impressions: Impressions) -> Rows:
    """An order of the rows that follows from what they hold, not from how they were stored."""
    return np.argsort(_hashes(impressions, impressions.clicked), kind="stable")


def fingerprint(impressions: Impressions, split: Split, clicked: npt.NDArray[np.float32]) -> str:
    """Changes with anything that a rival reads: the inputs, the labels and how they are parted."""
    hashes = _hashes(impressions, clicked)
    digest = hashlib.sha256()
    for rows in (split.train, split.validation, split.test):
        digest.update(np.sort(hashes[rows]).tobytes())
    return digest.hexdigest()


def _hashes(impressions: Impressions, clicked: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    frame = pd.concat([impressions.frame, impressions.times], axis=1)
    frame.columns = pd.RangeIndex(frame.shape[1])
    frame[frame.shape[1]] = clicked
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), np.uint64)


def write_for_rivals(impressions: Impressions, split: Split, clicked: npt.NDArray[np.float32], folder: Path) -> None:
    """Writes the rows as the rivals' training script reads them, with these labels."""
    folder.mkdir(parents=True, exist_ok=True)
    categories, quantities = inputs_by_kind(impressions)
    frame = pd.concat([categories, quantities], axis=1)
    frame[LABEL] = clicked.astype(np.int64)
    for name, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        frame.iloc[rows].reset_index(drop=True).to_parquet(folder / f"{name}.parquet")
    columns = {"label": LABEL, "categorical": [*categories], "numeric": [*quantities]}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")


def transform(impressions: Impressions, split: Split, folder: Path) -> tuple[TrainingData, Columns]:
    """Transforms the rows in the product's way.

    Returns:
        The data of training and validation, and the columns of the test rows.
    """
    config = impressions.config
    graph = TransformGraph(_trace(impressions, split, folder / "transform"), config.features)
    layout = graph.columns.layout
    (folder / "columns").mkdir(parents=True)
    store = None
    if layout.has_image:
        store = TrainingCreatives(impressions.creative_files, config.ingestion.image_size, folder / "columns")
    reader = Reader(graph.columns, config.features)
    parts = [
        read_columns([path], reader, store, folder / "columns", f"part{number}")
        for number, path in enumerate(impressions.files)
    ]
    whole = Columns(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("categories", "multiples", "numbers", "creative", "clicked")
        },
        texts=None
        if reader.texts is None
        else Texts(np.concatenate([part.texts.positions for part in parts if part.texts is not None]), reader.texts),
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


def random_split(rows: int, seed: int, shares: Sequence[float] = (0.8, 0.1), order: Rows | None = None) -> Split:
    """Parts rows at random into training, validation and, what is left, test.

    Args:
        rows: How many.
        seed: Seeds the choice.
        shares: Of the training and the validation rows.
        order: An order of the rows that the choice is to follow; theirs if None.
    """
    chosen = np.random.default_rng(seed).permutation(rows)
    order = chosen if order is None else order[chosen]
    first, second = int(rows * shares[0]), int(rows * (shares[0] + shares[1]))
    return Split(np.sort(order[:first]), np.sort(order[first:second]), np.sort(order[second:]))
