"""Thin glue of the Trainer: load data, fit, export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from absl import logging

from adclick.models.export import export
from adclick.models.features import InputLayout
from adclick.models.fitting import Fit, fit
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.training_data import Columns, Reader, TrainingCreatives, read_columns
from adclick.models.transform_graph import TransformGraph
from adclick.models.warm_start import warm_start
from adclick.schema.feature_table import FeatureTable

HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class TrainingData:
    """The window's impressions and creatives, ready for the network."""

    layout: InputLayout
    train: Columns
    validation: Columns
    store: TrainingCreatives | None
    transform_graph: TransformGraph


def load_training_data(
    features: FeatureTable,
    transform_graph: str,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    creative_files: Sequence[str],
    image_size: int,
    folder: Path,
) -> TrainingData:
    """Transforms the window's examples into arrays under `folder`, which must outlive them."""
    graph = TransformGraph(transform_graph, features)
    layout = graph.columns.layout
    store = TrainingCreatives(creative_files, image_size, folder) if layout.has_image else None
    reader = Reader(graph.columns, features)
    train = read_columns(train_files, reader, store, folder, "train")
    validation = read_columns(validation_files, reader, store, folder, "validation")
    return TrainingData(layout, train, validation, store, graph)


def train(
    features: FeatureTable,
    network: NetworkSettings,
    training: TrainingSettings,
    image_size: int,
    transform_graph: str,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    creative_files: Sequence[str],
    model_folder: str,
    log_folder: str,
    warm_start_from: str | None = None,
) -> Fit:
    """Fits the network and exports it.

    Args:
        features: The feature table.
        network: Sizes of the network.
        training: How it is fitted.
        image_size: Edge of the creatives in pixels.
        transform_graph: The folder of Transform's output.
        train_files: TFRecord files of training examples.
        validation_files: TFRecord files of what training stops and chooses by.
        creative_files: TFRecord files of the window's creatives.
        model_folder: Where the SavedModel goes.
        log_folder: Where TensorBoard logs and `history.json` go.
        warm_start_from: A SavedModel of ours whose weights to start from; None to start anew.
    """
    with tempfile.TemporaryDirectory(prefix="adclick-training-") as work:
        folder = Path(work)
        data = load_training_data(
            features, transform_graph, train_files, validation_files, creative_files, image_size, folder
        )
        result = fit(
            data.train,
            data.validation,
            data.store,
            data.layout,
            network,
            training,
            image_size,
            log_folder,
            _log_epoch,
            None if warm_start_from is None else lambda made: warm_start(made, data.transform_graph, warm_start_from),
        )
        if result.cold_because is not None:
            logging.warning("no warm start from %s: %s", warm_start_from, result.cold_because)
        export(
            result.network,
            data.transform_graph,
            features,
            data.store,
            image_size,
            training.negative_sampling_rate,
            model_folder,
            folder,
        )
        with tf.io.gfile.GFile(f"{log_folder}/{HISTORY_FILE}", "w") as stream:
            stream.write(json.dumps(result.history, indent=1))
    return result


def _log_epoch(epoch: int, metrics: dict[str, float]) -> None:
    logging.info("epoch %d: %s", epoch + 1, ", ".join(f"{name} {value:.5f}" for name, value in metrics.items()))
