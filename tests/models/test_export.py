"""The exported model: one graph, several signatures, the same answers by every way in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.models.description import read_description
from adclick.models.extension import extend_creatives, pixels_as_png
from adclick.models.requests import requests_from_examples
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.trainer import train
from adclick.schema.signatures import CLICK_PROBABILITY, CREATIVE_EMBEDDING
from adclick.serving.model_server.servable import Servable
from tests.models.tiny_model import FEATURES, IMAGE_SIZE, TinyModel, as_example, make_creatives, write_creatives

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def servable(tiny_model: TinyModel) -> Servable:
    return Servable.load(tiny_model.folder)


def by_examples(servable: Servable, examples: list[bytes]) -> np.ndarray[Any, Any]:
    return servable.run("serving_examples", {"examples": np.array(examples, object)})[CLICK_PROBABILITY]


def by_columns(
    servable: Servable, rows: list[dict[str, Any]], signature: str = "serving_default"
) -> np.ndarray[Any, Any]:
    types = {name: spec.dtype for name, spec in servable.signatures[signature].inputs.items()}
    columns = {
        name: np.array([row[name] for row in rows], object if kind == tf.string else kind.as_numpy_dtype)
        for name, kind in types.items()
    }
    return servable.run(signature, columns)[CLICK_PROBABILITY]


def test_every_way_in_gives_the_same_probability(tiny_model: TinyModel, servable: Servable) -> None:
    examples = tiny_model.examples
    evaluated = (
        tf.saved_model.load(str(tiny_model.folder))
        .signatures["serving_examples"](examples=tf.constant(examples))[CLICK_PROBABILITY]
        .numpy()
    )
    rows = requests_from_examples(examples, FEATURES)
    assert np.ptp(evaluated) > 0.01 and evaluated.min() > 0 and evaluated.max() < 1

    np.testing.assert_allclose(by_examples(servable, examples), evaluated, atol=TOLERANCE)
    np.testing.assert_allclose(by_columns(servable, rows), evaluated, atol=TOLERANCE)
    np.testing.assert_allclose([by_columns(servable, [row])[0] for row in rows[:8]], evaluated[:8], atol=TOLERANCE)
    embeddings = servable.run("embed_creative", {"image": np.array([row["image"] for row in rows], object)})
    scored = [
        {**row, CREATIVE_EMBEDDING: embedding}
        for row, embedding in zip(rows, embeddings[CREATIVE_EMBEDDING], strict=True)
    ]
    np.testing.assert_allclose(by_columns(servable, scored, "score"), evaluated, atol=TOLERANCE)


def test_an_image_by_bytes_is_the_image_by_key(tiny_model: TinyModel, servable: Servable) -> None:
    def embed(images: list[bytes]) -> np.ndarray[Any, Any]:
        return servable.run("embed_creative", {"image": np.array(images, object)})[CREATIVE_EMBEDDING]

    keys = [creative.key.encode() for creative in tiny_model.creatives]
    images = [pixels_as_png(creative.image or b"") for creative in tiny_model.creatives]
    by_key = embed(keys)
    assert np.ptp(by_key, axis=0).max() > 0.01
    np.testing.assert_allclose(embed(images), by_key, atol=1e-5)
    np.testing.assert_allclose(embed([keys[0], images[1], b"", images[1]])[[0, 1, 3]], by_key[[0, 1, 1]], atol=1e-5)
    unknown = embed([b"", b"no such key"])
    assert (unknown[:, 0] == 0).all() and (by_key[:, 0] == 1).all(), "the first component says whether it is known"


@pytest.mark.parametrize(
    ("absent", "sent"),
    [
        ({"ad": []}, {"ad": ""}),
        ({"price": []}, {"price": float("nan")}),
        ({"topics": []}, {"topics": ["", ""]}),
        ({"image": []}, {"image": ""}),
        ({"shown_at": []}, {"shown_at": -1}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_is_missing_is_missing_however_it_is_written(
    tiny_model: TinyModel, servable: Servable, absent: dict[str, Any], sent: dict[str, Any]
) -> None:
    row = {**tiny_model.rows[0], "topics": [b"t1", b"t2"]}
    (request,) = requests_from_examples([as_example(row)], FEATURES)
    (name,) = absent
    empty = as_example({**row, **absent})
    left_out = as_example({key: value for key, value in row.items() if key != name})
    answers = [by_examples(servable, [example])[0] for example in (empty, left_out)]
    answers.append(by_columns(servable, [{**request, **sent}])[0])
    np.testing.assert_allclose(answers, answers[0], atol=TOLERANCE)


def test_values_never_seen_are_answered(servable: Servable, tiny_model: TinyModel) -> None:
    (request,) = requests_from_examples(tiny_model.examples[:1], FEATURES)
    strange = {**request, "ad": "new", "site": "\N{SNOWMAN}", "topics": ["x"] * len(request["topics"]), "price": 1e30}
    assert 0 < by_columns(servable, [strange])[0] < 1


@given(prices=st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_any_number_has_a_probability_and_beyond_training_that_of_the_last(
    servable: Servable, tiny_model: TinyModel, prices: list[float]
) -> None:
    (request,) = requests_from_examples(tiny_model.examples[:1], FEATURES)
    limits = np.array(read_description(str(tiny_model.folder)).limits["price"], np.float32)
    assert -500 < limits[0] < limits[1] < 500, "training held prices of some hundred at most"
    found = by_columns(servable, [{**request, "price": price} for price in prices])
    assert (found > 0).all() and (found < 1).all()
    clipped = np.clip(np.array(prices, np.float32), *limits)
    np.testing.assert_array_equal(found, by_columns(servable, [{**request, "price": price} for price in clipped]))


def test_the_model_says_what_it_takes(tiny_model: TinyModel, servable: Servable) -> None:
    description = read_description(str(tiny_model.folder))
    assert description.features == FEATURES
    assert set(servable.signatures["serving_default"].inputs) == set(FEATURES.model_inputs)
    history = json.loads((tiny_model.folder.parent / "logs" / "history.json").read_text())
    assert len(history["val_log_loss"]) == 2
    assert list((tiny_model.folder.parent / "logs").rglob("events.out.tfevents.*")), "TensorBoard logs"


def test_the_network_is_saved_as_its_weights_alone(tiny_model: TinyModel) -> None:
    reader = tf.train.load_checkpoint(str(tiny_model.folder / "variables/variables"))
    names = {name.partition("/")[0] for name in reader.get_variable_to_shape_map()}
    assert names - {"_CHECKPOINTABLE_OBJECT_GRAPH"} == {"weights"}


def test_creatives_are_added_by_the_models_own_tower(tiny_model: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(tiny_model.folder, tmp_path / "model")
    new = make_creatives(5, seed=2)
    file = write_creatives(tmp_path / "creatives-0", [*tiny_model.creatives[:2], *new])
    before = Servable.load(tmp_path / "model")

    assert extend_creatives(str(tmp_path / "model"), [file]) == 5
    assert extend_creatives(str(tmp_path / "model"), [file]) == 0, "known by now"

    after = Servable.load(tmp_path / "model")
    images = np.array([pixels_as_png(creative.image or b"") for creative in new], object)
    keys = np.array([creative.key.encode() for creative in [*new, *tiny_model.creatives]], object)
    by_bytes = before.run("embed_creative", {"image": images})[CREATIVE_EMBEDDING]
    by_key = after.run("embed_creative", {"image": keys})[CREATIVE_EMBEDDING]
    np.testing.assert_allclose(by_key[:5], by_bytes, atol=1e-5)
    np.testing.assert_array_equal(by_key[5:], before.run("embed_creative", {"image": keys[5:]})[CREATIVE_EMBEDDING])


def test_the_probability_is_corrected_for_a_sampled_log(tiny_model: TinyModel, tmp_path: Path) -> None:
    rates = (1.0, 0.1)
    answers = []
    for rate in rates:
        folder = tmp_path / str(rate)
        train(
            FEATURES,
            NetworkSettings(embedding_dimension=2, hidden_units=(4,)),
            TrainingSettings(max_epochs=1, negative_sampling_rate=rate),
            IMAGE_SIZE,
            str(tiny_model.transform_graph),
            [tiny_model.files[0]],
            [tiny_model.files[1]],
            [tiny_model.creative_file],
            str(folder / "model"),
            str(folder / "logs"),
        )
        answers.append(by_examples(Servable.load(folder / "model"), tiny_model.examples).astype(np.float64))
    plain, corrected = answers
    np.testing.assert_allclose(corrected, plain / (plain + (1 - plain) / 0.1), rtol=1e-4)
