"""Explanations over a real socket, from every backend: complete, and of the score that is served."""

from __future__ import annotations

import base64
import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from adclick.models.extension import pixels_as_png
from adclick.serving.client.gateway_client import GatewayClient, GatewayRefusal
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import running_server
from tests.models.tiny_model import FEATURES, TinyModel
from tests.serving.gateway.conftest import BACKENDS, FIRST
from tests.serving.gateway.test_score import CONTEXT, known_key

Start = Callable[..., Any]
COMPLETENESS = 1e-3


def image_of(model: TinyModel) -> bytes:
    return pixels_as_png(model.creatives[1].image or b"")


@pytest.mark.parametrize("kind", BACKENDS)
def test_contributions_add_up_to_the_score(kind: str, gateway: Start, tiny_model: TinyModel) -> None:
    running, _ = gateway(kind)
    with GatewayClient(running.url, timeout_seconds=120) as client:
        for ad in (
            {"ad": "ad0", "price": 10.0, "image": known_key(tiny_model)},
            {"ad": "ad1", "image": image_of(tiny_model)},
            {"ad": "never seen", "site": "site5"},
        ):
            explanation = client.explain(ad, CONTEXT)
            (scored,) = client.score([ad], CONTEXT).ads
            assert explanation.model_version == FIRST
            assert explanation.click_probability == pytest.approx(scored.click_probability, abs=1e-6)
            assert set(explanation.contributions) == set(FEATURES.model_inputs)
            total = math.fsum(explanation.contributions.values())
            assert total == pytest.approx(explanation.logit - explanation.baseline_logit, abs=COMPLETENESS)
            sizes = [abs(one) for one in explanation.contributions.values()]
            assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0.02
            assert (explanation.heat_map is not None) == isinstance(ad.get("image"), bytes)


def test_what_is_as_in_the_baseline_adds_nothing(gateway: Start) -> None:
    running, _ = gateway()
    with GatewayClient(running.url, timeout_seconds=120) as client:
        noon = {"shown_at": 1_791_374_400}  # Wednesday, 7 October 2026, 12:00
        explanation = client.explain({"ad": "never seen", "topics": []}, noon)
        unlike = {name: one for name, one in explanation.contributions.items() if name in ("price", "height")}
        assert unlike["price"] != 0 != unlike["height"]
        others = [one for name, one in explanation.contributions.items() if name not in unlike]
        np.testing.assert_allclose(others, 0, atol=1e-6)
        total = explanation.logit - explanation.baseline_logit
        assert sum(unlike.values()) == pytest.approx(total, abs=COMPLETENESS), "a missing quantity is not the mean"


def test_the_heat_map_shows_the_image(gateway: Start, tiny_model: TinyModel) -> None:
    running, _ = gateway()
    wide = io.BytesIO()
    Image.open(io.BytesIO(image_of(tiny_model))).resize((640, 320)).save(wide, "PNG")
    with GatewayClient(running.url, timeout_seconds=120) as client:
        explanation = client.explain({"ad": "ad1", "image": wide.getvalue()}, CONTEXT)
        grey = io.BytesIO()
        Image.new("RGB", (16, 16), (128, 128, 128)).save(grey, "PNG")
        plain = client.explain({"ad": "ad1", "image": grey.getvalue()}, CONTEXT)
    assert explanation.heat_map is not None and plain.heat_map is not None
    overlay = Image.open(io.BytesIO(explanation.heat_map))
    assert (overlay.format, overlay.size) == ("PNG", (512, 256))
    red, _, blue = (np.asarray(channel, int) for channel in overlay.convert("RGB").split())
    assert (red > blue + 20).any() and (blue > red + 20).any(), "some pixels help, some harm"
    assert explanation.logit_against_grey == pytest.approx(explanation.logit - plain.logit, abs=COMPLETENESS)
    assert plain.logit_against_grey == 0
    flat = np.asarray(Image.open(io.BytesIO(plain.heat_map)).convert("RGB"), int)
    assert np.ptp(flat, axis=2).max() == 0, "nothing to colour"


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"ads": [{"ad": "a"}, {"ad": "b"}]}, 422, "ads"),
        ({"ads": [{"add": "a"}]}, 422, "ads[0]"),
        ({"ads": [{"image": "/etc/passwd"}]}, 403, "ads[0].image"),
    ],
)
def test_refusals_are_those_of_scores(gateway: Start, request_: Any, status: int, field: str) -> None:
    _, client = gateway()
    answer = client.post("/v1/explain", json=request_)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_only_with_a_key(gateway: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("")
    _, client = gateway(is_open=False, security={"api_keys_file": str(keys)})
    assert client.post("/v1/explain", json={"ads": [{}]}).status_code == 401


def test_the_document_describes_it(gateway: Start) -> None:
    _, client = gateway()
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/explain"]["post"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    given = client.post("/v1/explain", json={"ads": [{"ad": "ad1"}]}).json()
    assert set(document["components"]["schemas"][answer]["properties"]) == set(given)


def test_a_model_without_explanations_says_so(tmp_path: Path, tiny_model: TinyModel) -> None:
    """A version that was exported before there were explanations: its other signatures alone."""
    model = tf.saved_model.load(str(tiny_model.folder))
    signatures = {name: one for name, one in model.signatures.items() if name != "explain"}
    tf.saved_model.save(model, str(tmp_path / "base" / "1"), signatures=signatures)
    shutil.copytree(tiny_model.folder / "assets.extra", tmp_path / "base" / "1" / "assets.extra")
    settings = GatewaySettings.model_validate({"backend": {"model_base_path": str(tmp_path / "base")}})
    with (
        running_server(tmp_path / "base") as models,
        running_gateway(settings, model_server=models.model_server, is_open=True) as running,
        GatewayClient(running.url, timeout_seconds=120) as client,
    ):
        assert client.score([{"ad": "ad1"}]).ads
        with pytest.raises(GatewayRefusal, match="no signature explain") as refusal:
            client.explain({"ad": "ad1"})
        assert (refusal.value.status, refusal.value.code) == (501, "no_explanation")


def test_tensorflow_serving_can_answer_it_in_rows(models: Any, tiny_model: TinyModel) -> None:
    """By the plain TensorFlow Serving API, whose answers in rows need a row for each in every output."""
    import httpx

    row = {**CONTEXT, "ad": "ad1", "price": 1.0, "image": {"b64": base64.b64encode(image_of(tiny_model)).decode()}}
    body = {"signature_name": "explain", "instances": [row, {**row, "image": ""}]}
    answer = httpx.post(f"{models.url}/v1/models/adclick:predict", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["predictions"]
    assert first["columns"] == second["columns"] == list(FEATURES.model_inputs)
    assert np.abs(first["heat_map"]).max() > 0 == np.abs(second["heat_map"]).max()
