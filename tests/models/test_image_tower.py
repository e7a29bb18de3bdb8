"""The image tower: trained here, a Keras application, or a file; each must load where it is served."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from adclick.models.network import build_image_tower
from adclick.models.settings import ImageTowerSettings
from adclick.schema.errors import ConfigError
from adclick.serving.model_server.servable import Servable

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tower") / "features.keras"
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(4, 3, strides=2)]).save(path)
    return path


@pytest.mark.parametrize("kind", ["small", "keras.applications.MobileNetV3Small", "file"])
def test_a_tower_gives_the_same_embeddings_where_it_is_served(kind: str, keras_file: Path, tmp_path: Path) -> None:
    architecture = str(keras_file) if kind == "file" else kind
    tower = build_image_tower(ImageTowerSettings(architecture=architecture, embedding_dimension=6), SIZE)
    module = tf.Module()
    module.weights = [variable.value for variable in tower.variables]
    embed = tf.function(lambda images: {"embedding": tower(images, training=False)})
    signature = embed.get_concrete_function(tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, "images"))
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": signature})

    served = Servable.load(tmp_path).run("serving_default", {"images": IMAGES})["embedding"]

    assert served.shape == (5, 6)
    np.testing.assert_allclose(served, np.asarray(tower(IMAGES, training=False)), atol=1e-5)
    assert np.ptp(served, axis=0).max() > 0, "different images must have different embeddings"


def test_weights_from_elsewhere_stay_as_they_are_unless_asked(keras_file: Path) -> None:
    frozen = build_image_tower(ImageTowerSettings(architecture=str(keras_file)), SIZE)
    trained = build_image_tower(ImageTowerSettings(architecture=str(keras_file), trainable=True), SIZE)
    assert len(trained.trainable_variables) > len(frozen.trainable_variables) > 0


def test_a_file_for_another_image_size_is_refused(keras_file: Path) -> None:
    with pytest.raises(ConfigError, match="image_size"):
        build_image_tower(ImageTowerSettings(architecture=str(keras_file)), SIZE * 2)


@pytest.mark.parametrize("architecture", ["large", "keras.applications.NoSuchNet", "nowhere.Net", "missing.keras"])
def test_an_unknown_architecture_is_refused_by_name(architecture: str) -> None:
    with pytest.raises(ConfigError, match=architecture):
        build_image_tower(ImageTowerSettings(architecture=architecture), SIZE)
