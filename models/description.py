"""What an exported model says of itself, in `assets.extra`, which model servers ignore."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict

from schema.errors import ConfigError
from schema.feature_table import FeatureTable

_FOLDER = "assets.extra"
_FILE = "adclick.json"


class ModelDescription(BaseModel):
    """What clients and tools need to know of a model.

    Attributes:
        features: The columns it was trained on.
        image_size: Edge of the images in pixels.
        negative_sampling_rate: The share of unclicked impressions that the log kept.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    features: FeatureTable
    image_size: int
    negative_sampling_rate: float = 1.0


def write_description(model_folder: str, description: ModelDescription) -> None:
    """Writes the description into a SavedModel."""
    import tensorflow as tf

    folder = os.path.join(model_folder, _FOLDER)
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(os.path.join(folder, _FILE), "w") as stream:
        stream.write(description.model_dump_json(indent=1))


def read_description(model_folder: str) -> ModelDescription:
    """Reads the description of a SavedModel of ours.

    Raises:
        ConfigError: It has none.
    """
    import tensorflow as tf

    path = os.path.join(model_folder, _FOLDER, _FILE)
    if not tf.io.gfile.exists(path):
        raise ConfigError(f"{model_folder}: not a model of ours: it has no {_FOLDER}/{_FILE}", "Give --config.")
    with tf.io.gfile.GFile(path, "r") as stream:
        return ModelDescription.model_validate_json(stream.read())
