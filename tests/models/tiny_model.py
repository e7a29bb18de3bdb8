"""A small trained model with a column of every role, for the tests that need one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from models.creatives import OK, Creative, write_record
from models.preprocessing import preprocessing_fn
from models.settings import NetworkSettings, TrainingSettings
from models.trainer import train
from schema.feature_table import FeatureTable, parse_feature_table

IMAGE_SIZE = 16
FEATURES = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "shown_at": {"role": "timestamp"},
        "ad": {"role": "categorical"},
        "site": {"role": "categorical", "encoding": "hashed", "hash_buckets": 32},
        "topics": {"role": "multi_valued", "max_values": 3, "min_count": 1},
        "price": {"role": "numeric", "scaling": "log", "buckets": 4},
        "height": {"role": "bucketised", "buckets": 4},
        "image": {"role": "image"},
    }
)
NETWORK = NetworkSettings(embedding_dimension=4, hidden_units=(8,))
Row = dict[str, list[Any]]


def as_example(row: Row) -> bytes:
    """A serialized `tf.Example`; a feature whose list is None is absent."""
    features = {}
    for name, values in row.items():
        if name in ("clicked", "shown_at"):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        elif name in ("price", "height"):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def make_creatives(count: int, seed: int) -> list[Creative]:
    random = np.random.default_rng(seed)
    pixels = [random.integers(0, 256, IMAGE_SIZE * IMAGE_SIZE * 3, dtype=np.uint8).tobytes() for _ in range(count)]
    return [
        Creative(hashlib.sha256(image).hexdigest()[:32], OK, f"images/{number}.png", "", image, IMAGE_SIZE, IMAGE_SIZE)
        for number, image in enumerate(pixels)
    ]


def write_creatives(path: Path, creatives: list[Creative]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for creative in creatives:
            writer.write(write_record(creative))
    return str(path)


def make_rows(count: int, creatives: list[Creative], seed: int = 0) -> list[Row]:
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        ad = int(random.zipf(1.4)) % 30
        rows.append(
            {
                "clicked": [int(random.random() < (0.3 if ad % 3 == 0 else 0.05))],
                "shown_at": [1_790_812_800 + number * 977],
                "ad": [b"ad%d" % ad],
                "site": [b"site%d" % random.integers(12)],
                "topics": [b"t%d" % topic for topic in random.integers(0, 6, random.integers(0, 5))],
                "price": [float(random.normal() * 50)] if random.random() < 0.9 else [],
                "height": [float(random.random())],
                "image": [creatives[ad % len(creatives)].key.encode()] if random.random() < 0.9 else [],
            }
        )
    return rows


@dataclass(frozen=True)
class TinyModel:
    """A trained, exported model and what it was made of."""

    folder: Path
    transform_graph: Path
    features: FeatureTable
    creatives: list[Creative]
    rows: list[Row]
    files: tuple[str, str]
    creative_file: str

    @property
    def examples(self) -> list[bytes]:
        return [as_example(row) for row in self.rows[:64]]


def analyze(rows: list[Row], features: FeatureTable, folder: Path) -> tft.TFTransformOutput:
    """Runs Transform's analysis over rows and writes its output to `folder`."""
    types = {"clicked": tf.int64, "shown_at": tf.int64, "price": tf.float32, "height": tf.float32}
    spec = {name: tf.io.VarLenFeature(types.get(name, tf.string)) for name in rows[0]}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    config = {"features": features.model_dump_json()}
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        transform = (rows, metadata) | tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, config))
        _ = transform | tft_beam.WriteTransformFn(str(folder))
    metadata_io.write_metadata(metadata, str(folder / "metadata"))
    return tft.TFTransformOutput(str(folder))


def train_tiny_model(folder: Path) -> TinyModel:
    """Trains and exports a model on some hundred generated impressions."""
    creatives = make_creatives(8, seed=1)
    rows = make_rows(900, creatives)
    analyze(rows[:700], FEATURES, folder / "transform")
    files = []
    for name, part in (("train", rows[:700]), ("held_out", rows[700:])):
        files.append(str(folder / name))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for row in part:
                writer.write(as_example(row))
    creative_file = write_creatives(folder / "creatives-0", creatives)
    train(
        FEATURES,
        NETWORK,
        TrainingSettings(max_epochs=2, batch_size=64, learning_rate=0.01),
        IMAGE_SIZE,
        str(folder / "transform"),
        files[:1],
        files[1:],
        [creative_file],
        str(folder / "model"),
        str(folder / "logs"),
    )
    return TinyModel(
        folder / "model", folder / "transform", FEATURES, creatives, rows, (files[0], files[1]), creative_file
    )
