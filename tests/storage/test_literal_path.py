"""Folders whose names TensorFlow takes for patterns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from adclick.serving.model_server.servable import Servable
from adclick.storage import google_storage
from adclick.storage.literal_path import literal_path
from tests.buckets import reached
from tests.gcs import Storage, running_storage

NAMES = ["plain", "a b", "[v1]", "*", "?", "back\\slash", "#%20'\"ü"]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    running = running_storage(tmp_path_factory.mktemp("storage"))
    with reached(running, google_storage._made_client, "models") as storage:
        yield storage


def save(folder: Path, weight: float) -> None:
    """A SavedModel that gives twice its weight times `x`."""
    module = tf.Module()
    module.weight = tf.Variable(weight)
    module.twice = tf.function(
        lambda x: {"y": module.weight * 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(folder), signatures=module.twice)


def loaded(folder: str) -> float:
    model = tf.saved_model.load(literal_path(folder))
    return float(model.twice(tf.constant([1.0]))["y"][0])


def served(folder: str) -> float:
    return float(Servable.load(folder).run("serving_default", {"x": np.ones(1, np.float32)})["y"][0])


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_restored_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "model"
    save(folder, 3.0)
    for _ in range(2):
        assert loaded(str(folder)) == served(str(folder)) == 6.0


@pytest.mark.parametrize("name", ["[v1]", "*", "a ?"])
def test_weights_are_restored_whatever_a_folder_of_a_bucket_is_called(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    address = f"gs://models/{name}/x"
    for weight in (3.0, 4.0):
        save(tmp_path / str(weight), weight)
        storage.put_folder(tmp_path / str(weight), address)
        assert loaded(address) == 2 * weight
        assert literal_path(address) == literal_path(address)


def test_other_addresses_stay() -> None:
    assert literal_path("/plain/folder") == "/plain/folder"
    assert literal_path("gs://bucket/plain folder") == "gs://bucket/plain folder"
    assert literal_path("hdfs://host/[x]") == "hdfs://host/[x]"
