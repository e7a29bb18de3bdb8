"""The recogniser's training, its cameras and edits, on a few creatives."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from adclick.models.recognition.camera import DISTORTIONS, captured
from adclick.models.recognition.conversion import FORMS, ConvertedRecogniser, Form, convert
from adclick.models.recognition.edits import are_different, edited
from adclick.models.recognition.settings import RecognitionSettings
from adclick.models.recognition.training import build_embedder, captures, train_embedder
from adclick.pipeline.sample_data.images import draw_looks, render
from adclick.schema.errors import ConfigError, ModelRefused
from adclick.serving.edge.frame import prepare

SETTINGS = RecognitionSettings(size=32, dimension=16, width=8, steps=40, batch_size=12)


@pytest.fixture(scope="module")
def creatives() -> npt.NDArray[np.uint8]:
    looks = draw_looks(40, np.random.default_rng(3))
    pictures = [render(looks, row, np.random.default_rng([4, row])) for row in range(40)]
    return np.concatenate([prepare(picture, 32) for picture in pictures]).astype(np.uint8)


@pytest.fixture(scope="module")
def network(creatives: npt.NDArray[np.uint8]) -> keras.Model:
    return train_embedder(creatives[:24], SETTINGS)


def _embeddings(network: keras.Model, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.asarray(network(pixels.astype(np.float32), training=False))


def test_training_teaches_to_know_captures_of_creatives_never_seen(
    creatives: npt.NDArray[np.uint8], network: keras.Model
) -> None:
    unseen = creatives[24:]
    shots = np.concatenate([captures(unseen, seed) for seed in range(6)])
    rows = np.tile(np.arange(len(unseen)), 6)

    def top_1(embedder: keras.Model) -> float:
        similarities = _embeddings(embedder, shots) @ _embeddings(embedder, unseen).T
        return float((similarities.argmax(axis=1) == rows).mean())

    keras.utils.set_random_seed(1)
    assert top_1(network) > top_1(build_embedder(SETTINGS)) + 0.1
    assert top_1(network) > 0.5


def test_embeddings_have_unit_length_also_of_a_blank_picture(network: keras.Model) -> None:
    random = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    embeddings = _embeddings(network, np.concatenate([random, np.zeros_like(random)]))
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-4)


def test_the_same_seed_trains_the_same_network(creatives: npt.NDArray[np.uint8]) -> None:
    short = SETTINGS.model_copy(update={"steps": 3})
    first, again, other = (
        train_embedder(creatives, short.model_copy(update={"seed": seed})).get_weights() for seed in (1, 1, 2)
    )
    assert all((left == right).all() for left, right in zip(first, again, strict=True))
    assert any((left != right).any() for left, right in zip(first, other, strict=True))


def test_a_loss_that_is_not_finite_refuses_the_recogniser(creatives: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ModelRefused, match="not finite at step"):
        train_embedder(creatives, SETTINGS.model_copy(update={"learning_rate": 1e30}))


def test_training_goes_on_from_an_embedder_of_ones_own(creatives: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.AveragePooling2D(8)(inputs)
    own = keras.Model(inputs, keras.layers.Dense(16)(keras.layers.Flatten()(pooled)))
    own.save(tmp_path / "own.keras")
    settings = SETTINGS.model_copy(update={"embedder": str(tmp_path / "own.keras"), "steps": 2})
    trained = train_embedder(creatives, settings)
    assert np.linalg.norm(_embeddings(trained, creatives), axis=1) == pytest.approx(1, abs=1e-4)
    assert len(trained.get_weights()) == len(own.get_weights())


def test_an_embedder_of_another_form_is_refused(creatives: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    build_embedder(SETTINGS.model_copy(update={"dimension": 8})).save(tmp_path / "other.keras")
    settings = SETTINGS.model_copy(update={"embedder": str(tmp_path / "other.keras")})
    with pytest.raises(ConfigError, match="wanted"):
        train_embedder(creatives, settings)
    missing = SETTINGS.model_copy(update={"embedder": str(tmp_path / "missing.keras")})
    with pytest.raises(ConfigError, match="cannot be read"):
        train_embedder(creatives, missing)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_the_file_gives_the_networks_embeddings(
    creatives: npt.NDArray[np.uint8], network: keras.Model, form: Form
) -> None:
    examples = np.concatenate([captures(creatives, 1), creatives]).astype(np.float32)
    converted = ConvertedRecogniser(convert(network, form, examples)).embed(creatives)
    cosine = (converted * _embeddings(network, creatives)).sum(axis=1)
    assert cosine.min() > (0.97 if form == "int8" else 0.9999)
    assert np.linalg.norm(converted, axis=1) == pytest.approx(1, abs=0.03)


def test_int8_is_the_smallest_file(creatives: npt.NDArray[np.uint8], network: keras.Model) -> None:
    sizes = {form: len(convert(network, form, creatives.astype(np.float32))) for form in FORMS}
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_each_distortion_of_the_training_camera_changes_pictures_and_keeps_their_form(
    creatives: npt.NDArray[np.uint8], distortion: str
) -> None:
    tf.random.set_seed(7)
    images = tf.constant(creatives, tf.float32)
    distorted = DISTORTIONS[distortion](images)
    assert distorted.shape == images.shape
    assert np.isfinite(distorted).all()
    changed = np.abs(distorted - images).mean(axis=(1, 2, 3)) > 0.1
    # Some are left to chance.
    assert changed.mean() > 0.1


def test_captures_stay_within_the_range_of_pixels(creatives: npt.NDArray[np.uint8]) -> None:
    shots = captured(tf.constant(creatives, tf.float32)).numpy()
    assert shots.min() >= 0
    assert shots.max() <= 255


def test_twins_differ_from_their_creatives_and_a_creative_does_not_from_itself(
    creatives: npt.NDArray[np.uint8],
) -> None:
    tf.random.set_seed(5)
    images = tf.constant(creatives, tf.float32)
    different = are_different(tf.concat([images, edited(images)], 0)).numpy()
    count = len(creatives)
    assert not different[np.arange(2 * count), np.arange(2 * count)].any()
    assert different[np.arange(count), np.arange(count) + count].mean() > 0.8


def test_a_plain_picture_has_no_twin_but_by_its_colour() -> None:
    plain = tf.fill([6, 32, 32, 3], 128.0)
    assert not are_different(tf.concat([plain, edited(plain)], 0)).numpy().any()
