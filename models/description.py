"""What an exported model says of itself, in `assets.extra`, which model servers ignore."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.schema.signatures import DESCRIPTION_FILE, EXTRA_FOLDER
from adclick.storage import bucket
from adclick.storage.bucket import is_bucket_address

#: In the folders of an evaluation and of its blessing: the thresholds by false-positive rate.
THRESHOLDS_FILE = "fraud_thresholds.json"


class ModelDescription(BaseModel):
    """What clients and tools need to know of a model.

    Attributes:
        features: The columns it was trained on.
        image_size: Edge of the images in pixels.
        negative_sampling_rate: The share of unclicked impressions that the log kept.
        limits: By numeric column, the least and the largest value that the model tells apart: what lies beyond is read
            as the nearer of them. Empty for models of before they were written down.
        fraud_thresholds: By false-positive rate, such as 0.001, the probability from which on no more of the held-out
            rows with a negative label lay. Alerts of the stream go by it. Written when the model is pushed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    features: FeatureTable
    image_size: int
    negative_sampling_rate: float = 1.0
    limits: dict[str, tuple[float, float]] = {}
    fraud_thresholds: dict[str, float] = {}


def write_description(model_folder: str, description: ModelDescription) -> None:
    """Writes the description into a SavedModel."""
    folder = os.path.join(model_folder, EXTRA_FOLDER)
    content = description.model_dump_json(indent=1)
    if is_bucket_address(folder):
        bucket.write(f"{folder}/{DESCRIPTION_FILE}", content.encode())
        return
    import tensorflow as tf

    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(os.path.join(folder, DESCRIPTION_FILE), "w") as stream:
        stream.write(content)


def read_description(model_folder: str) -> ModelDescription:
    """Reads the description of a SavedModel of ours.

    Raises:
        ConfigError: It has none.
    """
    path = os.path.join(model_folder, EXTRA_FOLDER, DESCRIPTION_FILE)
    unknown = ConfigError(
        f"{model_folder}: not a model of ours: it has no {EXTRA_FOLDER}/{DESCRIPTION_FILE}", "Give --config."
    )
    if is_bucket_address(path):
        try:
            return ModelDescription.model_validate_json(bucket.read(path))
        except FileNotFoundError:
            raise unknown from None
    import tensorflow as tf

    if not tf.io.gfile.exists(path):
        raise unknown
    with tf.io.gfile.GFile(path, "r") as stream:
        return ModelDescription.model_validate_json(stream.read())
