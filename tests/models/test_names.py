"""Columns by names that no program, graph or file system would choose: the model takes each as it is."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from adclick.components.example_files import example_decoder
from adclick.models.analysis import Analyzer, read_analysis, write_analysis
from adclick.models.description import read_description
from adclick.models.explanation import model_importance
from adclick.models.extension import extend_creatives
from adclick.models.requests import requests_from_examples
from adclick.models.scoring import Scorer
from adclick.models.settings import TrainingSettings
from adclick.models.trainer import train
from adclick.models.transform_graph import write_transform_graph
from adclick.schema.curated import build_schema
from adclick.schema.feature_table import MultiValued, RawType
from adclick.schema.signatures import CLICK_PROBABILITY
from adclick.serving.client.client import ModelServerClient
from adclick.serving.model_server.servable import Servable
from adclick.serving.model_server.server import running_server
from adclick.serving.model_server.tensor_proto import array_from_proto, proto_from_array
from tests.models.tiny_model import (
    FEATURES,
    IMAGE_SIZE,
    NETWORK,
    ODD_NAMES,
    TinyModel,
    as_example,
    make_creatives,
    make_rows,
    renamed,
    write_creatives,
)
from tests.names import column_names

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def model(oddly_named_model: TinyModel) -> TinyModel:
    return oddly_named_model


@pytest.fixture(scope="module")
def evaluated(model: TinyModel) -> np.ndarray[Any, Any]:
    signature = tf.saved_model.load(str(model.folder)).signatures["serving_examples"]
    return np.asarray(signature(examples=tf.constant(model.examples))[CLICK_PROBABILITY])


def test_the_signatures_take_the_columns_own_names(model: TinyModel) -> None:
    signatures = Servable.load(model.folder).signatures
    inputs = set(ODD_NAMES.values()) - {ODD_NAMES["clicked"]}
    assert set(signatures["serving_default"].inputs) == set(signatures["explain"].inputs) == inputs
    assert set(signatures["embed_creative"].inputs) == {"class"}
    assert set(signatures["score"].inputs) == inputs - {"class"} | {model.features.creative_embedding_name}
    assert read_description(str(model.folder)).features == model.features


def test_every_server_answers_as_the_model_was_evaluated(
    model: TinyModel, evaluated: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    rows = requests_from_examples(model.examples, model.features)
    (tmp_path / "1").symlink_to(model.folder)
    with running_server(tmp_path, grpc_port=0) as server:
        with ModelServerClient(server.url) as client:
            np.testing.assert_allclose(client.predict(rows), evaluated, atol=TOLERANCE)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "adclick"
        for name, spec in Servable.load(model.folder).signatures["serving_default"].inputs.items():
            tensor = tf.constant([row[name] for row in rows], spec.dtype)
            request.inputs[name].CopyFrom(proto_from_array(tensor.numpy()))
        with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
            response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    answers = array_from_proto(response.outputs[CLICK_PROBABILITY], CLICK_PROBABILITY)
    np.testing.assert_allclose(answers, evaluated, atol=TOLERANCE)


def test_what_calls_the_model_from_python_gives_the_columns_too(
    model: TinyModel, evaluated: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    scorer = Scorer(str(model.folder))
    rows = [{ODD_NAMES[name]: values for name, values in row.items()} for row in model.rows[:64]]
    columns = {}
    for name, column in model.features.model_inputs.items():
        values = [row[name] if isinstance(column, MultiValued) else (row[name] or [None])[0] for row in rows]
        kind = {RawType.STRING: pa.binary(), RawType.FLOAT: pa.float32(), RawType.INT: pa.int64()}
        wanted = kind[model.features.raw_type(name)]
        columns[name] = pa.array(values, pa.list_(wanted) if isinstance(column, MultiValued) else wanted)
    images = columns.pop("class")
    embeddings = scorer.embed([image or b"" for image in images.to_pylist()])
    np.testing.assert_allclose(scorer.score(columns, embeddings), evaluated, atol=TOLERANCE)

    importance = model_importance(str(model.folder), [model.files[1]], rows=64, repeats=2)
    assert {one.name for one in importance} == set(model.features.model_inputs)

    shutil.copytree(model.folder, tmp_path / "model")
    creatives = write_creatives(tmp_path / "creatives-0", make_creatives(2, seed=5))
    assert extend_creatives(str(tmp_path / "model"), [creatives]) == 2


def test_an_explanation_names_the_columns(model: TinyModel) -> None:
    rows = requests_from_examples(model.examples[:2], model.features)
    servable = Servable.load(model.folder)
    inputs = {
        name: tf.constant([row[name] for row in rows], spec.dtype).numpy()
        for name, spec in servable.signatures["explain"].inputs.items()
    }
    explained = servable.run("explain", inputs)
    assert [name.decode() for name in explained["columns"][0]] == list(model.features.model_inputs)


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(names=st.lists(column_names(), min_size=len(FEATURES.root), max_size=len(FEATURES.root), unique=True))
def test_a_model_of_any_names_is_served_as_it_is_evaluated(names: list[str]) -> None:
    by_name = dict(zip(FEATURES.root, names, strict=True))
    features = renamed(by_name)
    creatives = make_creatives(4, seed=1)
    examples = [as_example(row, by_name) for row in make_rows(200, creatives)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        analyzer = Analyzer(features)
        analyzer.add(example_decoder(features, [*features.used]).DecodeBatch(examples))
        write_analysis(analyzer.result(), str(folder / "analysis"))
        analysis = read_analysis(str(folder / "analysis"))
        write_transform_graph(analysis, build_schema(features), features, str(folder / "transform"))
        with tf.io.TFRecordWriter(str(folder / "examples")) as writer:
            for example in examples:
                writer.write(example)
        train(
            features,
            NETWORK,
            TrainingSettings(max_epochs=1, batch_size=64),
            IMAGE_SIZE,
            str(folder / "transform"),
            [str(folder / "examples")],
            [str(folder / "examples")],
            [write_creatives(folder / "creatives-0", creatives)],
            str(folder / "model"),
            str(folder / "logs"),
        )
        servable = Servable.load(folder / "model")
        assert set(servable.signatures["serving_default"].inputs) == set(features.model_inputs)
        rows = requests_from_examples(examples, features)
        inputs = {
            name: tf.constant([row[name] for row in rows], spec.dtype).numpy()
            for name, spec in servable.signatures["serving_default"].inputs.items()
        }
        evaluated = servable.run("serving_examples", {"examples": np.array(examples, object)})
        served = servable.run("serving_default", inputs)
        np.testing.assert_allclose(served[CLICK_PROBABILITY], evaluated[CLICK_PROBABILITY], atol=TOLERANCE)
