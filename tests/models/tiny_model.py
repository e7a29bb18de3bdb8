"""A small trained model with a column of every role, for the tests that need one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils

from adclick.components.example_files import example_decoder
from adclick.models.analysis import Analysis, Analyzer
from adclick.models.creatives import OK, Creative, write_record
from adclick.models.requests import TENSOR_TYPES
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.trainer import train
from adclick.models.transform_graph import TransformGraph, write_transform_graph
from adclick.schema.feature_table import FeatureTable, parse_feature_table

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
#: Other names for the columns: a keyword, a path and a script, two that differ in case alone, a field of the prediction
#: log, a formula with quotes, line break, markup, a mark that turns the direction and more bytes than a file's name may
#: have, an input of the signature `score`.
ODD_NAMES = {
    "clicked": "from",
    "shown_at": "a/b\\c: {0} %s <script>alert(1)</script>",
    "ad": "AD",
    "site": "ad",
    "topics": "route",
    "price": '=the "price", in \N{EURO SIGN}\n[red]\N{RIGHT-TO-LEFT OVERRIDE}' + "\N{GRINNING FACE}" * 200,
    "height": "creative_embedding",
    "image": "class",
}
NETWORK = NetworkSettings(embedding_dimension=4, hidden_units=(8,))
Row = dict[str, list[Any]]


def renamed(names: Mapping[str, str]) -> FeatureTable:
    """`FEATURES` with some of its columns under other names."""
    return FeatureTable({names.get(name, name): column for name, column in FEATURES.root.items()})


def as_example(row: Row, names: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """A serialized `tf.Example` of a row, some of whose columns are called otherwise."""
    features = {}
    for name, values in row.items():
        if name in ("clicked", "shown_at"):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        elif name in ("price", "height") or any(isinstance(value, float) for value in values):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    features = {names.get(name, name): feature for name, feature in features.items()}
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
    names: Mapping[str, str]

    @property
    def examples(self) -> list[bytes]:
        return [as_example(row, self.names) for row in self.rows[:64]]


def schema_of(features: FeatureTable) -> schema_pb2.Schema:
    """The schema of the rows' columns."""
    spec = {name: tf.io.VarLenFeature(TENSOR_TYPES[features.raw_type(name)]) for name in features.used}
    return schema_utils.schema_from_feature_spec(spec)


def analysis_of(
    rows: Sequence[Row], features: FeatureTable, names: Mapping[str, str] = MappingProxyType({})
) -> Analysis:
    """The analysis of rows, some columns called otherwise, read in several batches."""
    decoder = example_decoder(features, [*features.used])
    analyzer = Analyzer(features)
    for start in range(0, len(rows), 300):
        analyzer.add(decoder.DecodeBatch([as_example(row, names) for row in rows[start : start + 300]]))
    return analyzer.result()


def transform_of(
    rows: Sequence[Row], features: FeatureTable, folder: Path, names: Mapping[str, str] = MappingProxyType({})
) -> TransformGraph:
    """Analyses rows, some columns called otherwise, and writes their Transform graph to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_transform_graph(analysis_of(rows, features, names), schema_of(features), features, str(folder))
    return TransformGraph(str(folder), features)


def train_tiny_model(folder: Path, names: Mapping[str, str] = MappingProxyType({})) -> TinyModel:
    """Trains and exports a model on some hundred generated impressions, some of whose columns are called otherwise."""
    creatives = make_creatives(8, seed=1)
    rows = make_rows(900, creatives)
    features = renamed(names)
    transform_of(rows[:700], features, folder / "transform", names)
    files = []
    for name, part in (("train", rows[:700]), ("validation", rows[700:])):
        files.append(str(folder / name))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for row in part:
                writer.write(as_example(row, names))
    creative_file = write_creatives(folder / "creatives-0", creatives)
    train(
        features,
        NETWORK,
        # So few clicks show no image's effect; the tests need a network that has one.
        TrainingSettings(max_epochs=2, batch_size=64, learning_rate=0.01, epoch_evidence=-1_000),
        IMAGE_SIZE,
        str(folder / "transform"),
        files[:1],
        files[1:],
        [creative_file],
        str(folder / "model"),
        str(folder / "logs"),
    )
    return TinyModel(
        folder / "model", folder / "transform", features, creatives, rows, (files[0], files[1]), creative_file, names
    )
