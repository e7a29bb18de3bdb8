"""The ad API of a model whose columns are called as no program would call them: it takes these names."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf

from adclick.models.extension import pixels_as_png
from adclick.models.requests import requests_from_examples
from adclick.pipeline.monitor.traffic import read_log
from adclick.pipeline.prediction.explanation import fields_of_instance
from adclick.schema.signatures import CLICK_PROBABILITY
from adclick.serving.gateway.fields import Field, RequestForm
from adclick.serving.gateway.prediction_log import ROUTE, logged_name
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import LimitSettings
from adclick.serving.model_server.server import RunningServer, running_server
from tests.models.tiny_model import ODD_NAMES, TinyModel
from tests.serving.gateway.conftest import BACKENDS, FIRST, settings_for

TOLERANCE = 1e-6
PRICE = ODD_NAMES["price"]


@pytest.fixture(scope="module")
def base(oddly_named_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oddly_named") / "versions"
    shutil.copytree(oddly_named_model.folder, folder / str(FIRST))
    return folder


@pytest.fixture(scope="module")
def models(base: Path) -> Iterator[RunningServer]:
    with running_server(base, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(params=BACKENDS)
def client(request: Any, models: RunningServer, base: Path, log: Path) -> Iterator[httpx.Client]:
    logged = {"predictions": str(log / request.param), "sample_percent": 100, "file_seconds": 0.2}
    settings = settings_for(request.param, models, base, log=logged)
    backend = settings.backend.model_copy(update={"explain_timeout_seconds": 60})
    settings = settings.model_copy(update={"backend": backend})
    with ExitStack() as stack:
        running = stack.enter_context(running_gateway(settings, model_server=models.model_server, is_open=True))
        yield stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=60))


@pytest.fixture(scope="module")
def ads(oddly_named_model: TinyModel) -> list[dict[str, Any]]:
    features = oddly_named_model.features
    rows = requests_from_examples(oddly_named_model.examples, features)
    return [fields_of_instance(row, features) for row in rows]


def test_scores_are_those_evaluated(
    client: httpx.Client, oddly_named_model: TinyModel, ads: list[dict[str, Any]], log: Path
) -> None:
    signature = tf.saved_model.load(str(oddly_named_model.folder)).signatures["serving_examples"]
    evaluated = signature(examples=tf.constant(oddly_named_model.examples))[CLICK_PROBABILITY].numpy()
    answer = client.post("/v1/score", json={"ads": ads})
    assert answer.status_code == 200, answer.text
    scores = {one["index"]: one["click_probability"] for one in answer.json()["ads"]}
    np.testing.assert_allclose([scores[index] for index in range(len(ads))], evaluated, atol=TOLERANCE)

    shared = {name: value for name, value in ads[0].items() if name != ODD_NAMES["image"]}
    batch = client.post("/v1/score:batch", json={"requests": [{"context": shared, "ads": [ads[0]]}]}).json()
    np.testing.assert_allclose(batch["responses"][0]["ads"][0]["click_probability"], evaluated[0], atol=TOLERANCE)


def test_explanations_and_fields_name_the_columns(
    client: httpx.Client, oddly_named_model: TinyModel, ads: list[dict[str, Any]]
) -> None:
    names = set(oddly_named_model.features.model_inputs)
    image = pixels_as_png(oddly_named_model.creatives[0].image or b"")
    ad = {**ads[0], ODD_NAMES["image"]: {"b64": base64.b64encode(image).decode()}}
    explanation = client.post("/v1/explain", json={"ads": [ad]})
    assert explanation.status_code == 200, explanation.text
    assert {one["field"] for one in explanation.json()["contributions"]} == names
    assert {one["name"] for one in client.get("/v1/fields").json()["fields"]} == names
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["Ad"]["properties"]) == names
    assert set(schemas["Context"]["properties"]) == names - {ODD_NAMES["image"]}


@pytest.mark.parametrize(
    ("ad", "message"),
    [
        ({PRICE: "x"}, "Expected `float | null`, got `str`"),
        ({PRICE.replace('"', "\N{REPLACEMENT CHARACTER}").replace("\n", "\N{REPLACEMENT CHARACTER}"): 1.0}, "unknown"),
        ({"height": 1.0}, "unknown field `height`"),
    ],
    ids=["type", "spelling", "unknown"],
)
def test_what_is_wrong_is_named(client: httpx.Client, ad: dict[str, Any], message: str) -> None:
    answer = client.post("/v1/score", json={"ads": [ad]})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["field"] == (f"ads[0].{PRICE}" if message.startswith("Expected") else "ads[0]")


def test_the_log_keeps_columns_apart_from_what_it_says_itself(
    models: RunningServer, base: Path, oddly_named_model: TinyModel, ads: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = settings_for("in_process", models, base, log={"predictions": str(tmp_path), "sample_percent": 100})
    with (
        running_gateway(settings, model_server=models.model_server, is_open=True) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client,
    ):
        assert client.post("/v1/score", json={"ads": ads}).status_code == 200
    (batch,) = read_log(sorted(tmp_path.glob("*.tfrecord")), oddly_named_model.features)
    topics = ODD_NAMES["topics"]
    assert topics == ROUTE
    logged = batch.columns[logged_name(topics)].to_pylist()
    assert [[one.decode() for one in row] for row in logged] == [list(filter(None, ad.get(topics, []))) for ad in ads]


def test_names_that_are_spelled_alike_stay_apart() -> None:
    names = ['a"b', "a\\b", "a\N{REPLACEMENT CHARACTER}b", "a\nb", "", "ads", "context", "class"]
    form = RequestForm([Field(name, "float32") for name in names], LimitSettings())
    for number, name in enumerate(names):
        request = form.read(json.dumps({"ads": [{name: number}]}).encode())
        columns = form.columns([request])
        assert {given for given in names if columns[given][0] == number} == {name}
