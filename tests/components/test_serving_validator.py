"""ServingValidator: refuses a model that would not serve what was evaluated."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from adclick.components.serving_validator.agreement import disagreements
from adclick.components.serving_validator.warmup import write_warmup_requests
from adclick.models.extension import pixels_as_png
from adclick.serving.model_server.metrics import Metrics
from adclick.serving.model_server.servable import Servable
from adclick.serving.model_server.warmup import warm_up
from tests.models.tiny_model import FEATURES, TinyModel


@pytest.fixture
def base(tiny_model: TinyModel, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model.folder, tmp_path / "base" / "1")
    return tmp_path / "base"


def images(model: TinyModel) -> dict[str, bytes]:
    return {creative.key: pixels_as_png(creative.image or b"") for creative in model.creatives}


def test_a_sound_model_has_nothing_against_it(tiny_model: TinyModel, base: Path) -> None:
    assert disagreements(base, str(base / "1"), tiny_model.examples, images(tiny_model), FEATURES) == []


def test_a_creative_whose_embedding_is_not_its_images_is_refused(
    tiny_model: TinyModel,
    base: Path,
) -> None:
    (asset,) = base.glob("1/assets/creatives.tsv")
    keys, embeddings = zip(*(line.split("\t") for line in asset.read_text().splitlines()), strict=True)
    shifted = [*embeddings[1:], embeddings[0]]
    asset.write_text("".join(f"{key}\t{value}\n" for key, value in zip(keys, shifted, strict=True)))
    found = disagreements(base, str(base / "1"), tiny_model.examples, images(tiny_model), FEATURES)
    assert any("differ" in reason and "embedding" in reason for reason in found)


def test_a_signature_that_answers_otherwise_is_refused(
    tiny_model: TinyModel,
    base: Path,
    tmp_path: Path,
) -> None:
    loaded = tf.saved_model.load(str(tiny_model.folder))
    evaluated = loaded.signatures["serving_examples"]

    def upside_down(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"click_probability": 1 - loaded.signatures["serving_default"](**inputs)["click_probability"]}

    signatures = dict(loaded.signatures)
    signatures["serving_examples"] = evaluated
    specs = loaded.signatures["serving_default"].structured_input_signature[1]
    signatures["serving_default"] = tf.function(upside_down).get_concrete_function(**specs)
    tf.saved_model.save(loaded, str(base / "2"), signatures=signatures)

    found = disagreements(base, str(base / "2"), tiny_model.examples, images(tiny_model), FEATURES)

    assert any(reason.startswith("serving_default: a served probability differs") for reason in found)


def test_a_model_that_only_python_can_load_is_refused(tiny_model: TinyModel, base: Path) -> None:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        lengths = tf.cast(tf.strings.length(examples), tf.float32)[:, None]
        return {"click_probability": network(lengths / 1e4)[:, 0]}

    tf.saved_model.save(network, str(base / "2"), signatures={"serving_examples": serving_examples})

    found = disagreements(base, str(base / "2"), tiny_model.examples, images(tiny_model), FEATURES)

    assert any("cannot be served" in reason for reason in found), found


def test_a_candidate_gets_warm_up_requests_that_it_answers(tiny_model: TinyModel, base: Path) -> None:
    path = write_warmup_requests(str(base / "1"), tiny_model.examples, images(tiny_model), FEATURES)
    assert Path(path) == base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(path)
    ]
    signatures = {log.model_spec.signature_name for log in logs}
    assert signatures == {"serving_default", "serving_examples", "embed_creative", "score"}
    metrics = Metrics()
    servable = Servable.load(base / "1")
    warm_up(servable, str(base / "1"), 2, metrics)
    servable.close()
    assert f'model_warmup_latency_count{{model_path="{base / "1"}",status="OK"}} 1' in metrics.text().decode()
    assert disagreements(base, str(base / "1"), tiny_model.examples, images(tiny_model), FEATURES) == []


def test_a_candidate_that_refuses_its_warm_up_is_refused(tiny_model: TinyModel, base: Path) -> None:
    requests = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(requests)) as writer:
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.model_spec.signature_name = "serving_default"
        writer.write(log.SerializeToString())
    (reason,) = disagreements(base, str(base / "1"), tiny_model.examples, {}, FEATURES)
    assert "input size does not match signature" in reason
