"""Warm start: known values keep what was learned of them, new ones begin anew, and another network starts cold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from adclick.models.fitting import Fit
from adclick.models.preprocessing import read_vocabularies
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.trainer import train
from tests.models.tiny_model import FEATURES, IMAGE_SIZE, NETWORK, TinyModel, as_example, transform_of

#: So small a step moves nothing.
STILL = TrainingSettings(max_epochs=1, batch_size=128, learning_rate=1e-12)


def retrain(
    tiny_model: TinyModel, folder: Path, network: NetworkSettings = NETWORK, warm: bool = True
) -> tuple[Fit, Path]:
    """Trains on the same rows with a frequent new ad in every tenth of them."""
    rows = [{**row, "ad": [b"brand-new"]} if index % 10 == 0 else row for index, row in enumerate(tiny_model.rows)]
    transform_of(rows, tiny_model.features, folder / "transform")
    files = []
    for name, part in (("train", rows[:700]), ("validation", rows[700:])):
        path = str(folder / name)
        with tf.io.TFRecordWriter(path) as writer:
            for row in part:
                writer.write(as_example(row))
        files.append(path)
    result = train(
        features=tiny_model.features,
        network=network,
        training=STILL,
        image_size=IMAGE_SIZE,
        transform_graph=str(folder / "transform"),
        train_files=files[:1],
        validation_files=files[1:],
        creative_files=[tiny_model.creative_file],
        model_folder=str(folder / "model"),
        log_folder=str(folder / "log"),
        warm_start_from=str(tiny_model.folder) if warm else None,
    )
    return result, folder / "model"


def embeddings(model: Path) -> np.ndarray:
    """The longest of the model's weights that has columns."""
    reader = tf.train.load_checkpoint(str(model / "variables/variables"))
    names = [name for name, shape in reader.get_variable_to_shape_map().items() if len(shape) == 2 and shape[1] > 1]
    return max((reader.get_tensor(name) for name in names), key=len)


def ads(model: Path) -> list[bytes]:
    return read_vocabularies(str(model), FEATURES)["ad"]


def test_known_values_keep_their_embeddings(tiny_model: TinyModel, tmp_path: Path) -> None:
    result, model = retrain(tiny_model, tmp_path)
    assert result.is_warm and result.cold_because is None
    before, after = embeddings(tiny_model.folder), embeddings(model)
    old, new = ads(tiny_model.folder), ads(model)
    assert b"brand-new" in new and b"brand-new" not in old and old != new
    known = [ad for ad in new if ad in old]
    np.testing.assert_allclose(
        after[[new.index(ad) for ad in known]], before[[old.index(ad) for ad in known]], atol=1e-6
    )
    np.testing.assert_allclose(after[len(new)], before[len(old)], atol=1e-6, err_msg="the unknown ad")
    np.testing.assert_allclose(after[len(new) + 1 :], before[len(old) + 1 :], atol=1e-6, err_msg="the other columns")
    assert np.abs(after[new.index(b"brand-new")]).max() < 0.1


def test_it_begins_where_the_model_stood(tiny_model: TinyModel, tmp_path: Path) -> None:
    warm, _ = retrain(tiny_model, tmp_path / "warm")
    cold, _ = retrain(tiny_model, tmp_path / "cold", warm=False)
    assert not cold.is_warm and cold.cold_because is None
    # After an epoch that moves no weight: what is kept in the end may be the effects alone, which are the same.
    assert warm.history["val_log_loss"][0] != pytest.approx(cold.history["val_log_loss"][0], abs=1e-6)


def test_another_network_starts_cold_and_says_why(tiny_model: TinyModel, tmp_path: Path) -> None:
    result, model = retrain(tiny_model, tmp_path, NetworkSettings(embedding_dimension=5, hidden_units=(8,)))
    assert not result.is_warm and result.cold_because is not None
    assert (model / "saved_model.pb").exists()
