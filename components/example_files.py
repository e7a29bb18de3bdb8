"""The files of Examples and Creatives artifacts, and examples read from them a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from adclick.components.splits import EVALUATION, SPLITS, TRAIN, VALIDATION
from adclick.models.training_data import record_datasets
from adclick.schema.feature_table import FeatureTable, RawType
from adclick.storage import filesystem

#: Larger batches decode more slowly: they leave the processor's cache.
_BATCH_ROWS = 8_192
_FEATURE_TYPES = {RawType.STRING: schema_pb2.BYTES, RawType.INT: schema_pb2.INT, RawType.FLOAT: schema_pb2.FLOAT}


def split_files(artifacts: Sequence[types.Artifact], split: str) -> list[str]:
    """TFRecord files of one split of every artifact, sorted; none where a split is empty."""
    files: list[str] = []
    for artifact in artifacts:
        folder = artifact_utils.get_split_uri([artifact], split)
        if filesystem.exists(folder):
            files += filesystem.list_files(folder)
    return files


def training_files(newest: Sequence[types.Artifact], earlier: Sequence[types.Artifact]) -> list[str]:
    """TFRecord files of what a window's model is trained on: earlier months whole, the oldest first, then the newest's.

    Args:
        newest: The examples of the newest month.
        earlier: Those of the others; where they have no span, in the order of time.
    """
    by_time = sorted(earlier, key=lambda artifact: artifact.span)
    whole = [file for artifact in by_time for split in SPLITS for file in split_files([artifact], split)]
    return whole + split_files(newest, TRAIN)


def validation_files(newest: Sequence[types.Artifact]) -> list[str]:
    """TFRecord files of what the training of a window's model stops and chooses by."""
    return split_files(newest, VALIDATION)


def evaluation_files(newest: Sequence[types.Artifact]) -> list[str]:
    """TFRecord files of what a window's model is judged by, and by nothing else."""
    return split_files(newest, EVALUATION)


def creative_files(artifacts: Sequence[types.Artifact]) -> list[str]:
    """TFRecord files of creatives of every artifact, the newest month's first."""
    # By the month first: on a platform ids are hashes.
    ordered = sorted(artifacts, key=lambda artifact: (artifact.span, artifact.id), reverse=True)
    return [file for artifact in ordered for file in filesystem.list_files(artifact.uri, ["creatives-*"])]


def example_decoder(features: FeatureTable, columns: Sequence[str]) -> ExamplesToRecordBatchDecoder:
    """Decodes these columns of serialized examples to an Arrow column of lists each; absent ones are null."""
    schema = schema_pb2.Schema()
    for name in columns:
        raw_type = RawType.STRING if name == features.image_status_name else features.raw_type(name)
        schema.feature.add(name=name, type=_FEATURE_TYPES[raw_type])
    return ExamplesToRecordBatchDecoder(schema.SerializeToString())


def read_schema(artifacts: Sequence[types.Artifact]) -> schema_pb2.Schema:
    """The schema of a Schema artifact."""
    return io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(artifacts)))


def example_batches(path: str) -> Iterator[tf.Tensor]:
    """Reads a TFRecord file, gzipped where its name ends in `.gz`, as tensors of serialized examples."""
    for records in record_datasets([path]):
        yield from records.batch(_BATCH_ROWS).prefetch(2)


def record_batches(path: str, decoder: ExamplesToRecordBatchDecoder) -> Iterator[pa.RecordBatch]:
    """Reads a TFRecord file as decoded batches."""
    for examples in example_batches(path):
        yield decoder.DecodeBatch(examples.numpy().tolist())
