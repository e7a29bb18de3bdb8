"""Scores over a real socket, from every backend, equal to what the model itself says."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from adclick.models.extension import pixels_as_png
from adclick.serving.client.client import ModelServerClient
from adclick.serving.model_server.server import RunningServer
from tests.models.tiny_model import TinyModel
from tests.serving.gateway.conftest import BACKENDS, FIRST

TOLERANCE = 1e-6
CONTEXT = {"site": "site3", "topics": ["t1", "t2"], "height": 0.25, "shown_at": 1_790_812_800}
Start = Callable[..., Any]


def known_key(model: TinyModel) -> str:
    return model.creatives[0].key


def ads(model: TinyModel) -> list[dict[str, Any]]:
    image = base64.b64encode(pixels_as_png(model.creatives[1].image or b"")).decode()
    return [
        {"ad": "ad0", "price": 10.0, "image": known_key(model)},
        {"ad": "ad1", "price": None, "image": {"b64": image}},
        {"ad": "never seen", "image": "0" * 32},
        {"ad": "ad3", "price": 3, "site": "site1"},
    ]


def expected(models: RunningServer, model: TinyModel) -> list[float]:
    """The same ads as rows for the model itself."""
    images: list[Any] = [known_key(model), pixels_as_png(model.creatives[1].image or b""), "0" * 32, ""]
    rows = []
    for ad, image in zip(ads(model), images, strict=True):
        row = {**CONTEXT, **ad, "image": image, "topics": ["t1", "t2"]}
        row["price"] = float("nan") if row.get("price") is None else row["price"]
        rows.append(row)
    with ModelServerClient(models.url) as client:
        return [float(probability) for probability in client.predict(rows)]


@pytest.mark.parametrize("kind", BACKENDS)
class TestEveryBackend:
    def test_scores_are_the_models_and_ranked(
        self, kind: str, gateway: Start, models: RunningServer, tiny_model: TinyModel
    ) -> None:
        _, client = gateway(kind)
        request = {"context": CONTEXT, "ads": ads(tiny_model), "creative_status": True}
        answer = client.post("/v1/score", json=request, headers={"x-request-id": "r-1"})
        assert answer.status_code == 200
        document = answer.json()
        assert document["request_id"] == answer.headers["x-request-id"] == "r-1"
        assert document["model"] == {"name": "adclick", "version": FIRST, "route": "default"}
        found = {ad["index"]: ad for ad in document["ads"]}
        np.testing.assert_allclose(
            [found[index]["click_probability"] for index in range(4)], expected(models, tiny_model), atol=TOLERANCE
        )
        assert [found[index]["creative_status"] for index in range(4)] == ["ok", "ok", "unknown_key", "none"]
        probabilities = [ad["click_probability"] for ad in document["ads"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert [ad["rank"] for ad in document["ads"]] == [1, 2, 3, 4]

    def test_many_contexts(self, kind: str, gateway: Start, models: RunningServer, tiny_model: TinyModel) -> None:
        _, client = gateway(kind)
        one = {"context": CONTEXT, "ads": ads(tiny_model)}
        other = {"context": {"site": "site5"}, "ads": ads(tiny_model)[:1]}
        responses = client.post("/v1/score:batch", json={"requests": [one, other]}).json()["responses"]
        assert [len(response["ads"]) for response in responses] == [4, 1]
        found = sorted((ad["index"], ad["click_probability"]) for ad in responses[0]["ads"])
        np.testing.assert_allclose([score for _, score in found], expected(models, tiny_model), atol=TOLERANCE)
        alone = client.post("/v1/score", json=other).json()["ads"][0]["click_probability"]
        assert responses[1]["ads"][0]["click_probability"] == pytest.approx(alone, abs=TOLERANCE)

    def test_an_image_costs_once(self, kind: str, gateway: Start, tiny_model: TinyModel) -> None:
        _, client = gateway(kind)
        for _ in range(3):
            assert client.post("/v1/score", json={"context": CONTEXT, "ads": ads(tiny_model)}).status_code == 200
        metrics = client.get("/metrics").text
        assert 'adclick_gateway_creative_embeddings_total{source="model"} 4.0' in metrics
        assert 'adclick_gateway_creative_embeddings_total{source="cache"} 8.0' in metrics

    def test_tells_its_fields(self, kind: str, gateway: Start) -> None:
        _, client = gateway(kind)
        fields = {field["name"]: field for field in client.get("/v1/fields").json()["fields"]}
        assert fields["topics"]["type"] == "list of string"
        assert (fields["shown_at"]["type"], fields["shown_at"]["default"]) == ("int64", "now")
        assert fields["image"]["default"] == "the unknown creative"

    def test_a_model_that_is_not_there(self, kind: str, gateway: Start) -> None:
        routing = {"routes": [{"name": "later", "percent": 100, "version": 99}]}
        _, client = gateway(kind, routing=routing)
        answer = client.post("/v1/score", json={"ads": [{}]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_model")
        assert answer.headers["retry-after"] == "1"
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "99" in ready.json()["no_model"]["later"]
        assert client.get("/healthz").status_code == 200


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "status", "field", "words"),
        [
            ({"ads": [{"ad": 5}]}, 422, "ads[0].ad", "Expected `str"),
            ({"ads": [{"ad": "a"}, {"price": "dear"}]}, 422, "ads[1].price", "got `str`"),
            ({"ads": [{"add": "a"}]}, 422, "ads[0]", "unknown field `add`"),
            ({"context": {"height": []}, "ads": [{}]}, 422, "context.height", "got `array`"),
            ({"ads": []}, 422, "ads", "length >= 1"),
            ({"ads": [{}] * 501}, 422, "ads", "length <= 500"),
            ({}, 422, "", "missing required field `ads`"),
            ([], 422, "", "Expected `object`"),
            ({"ads": [{"image": {"b64": "AAAA"}}]}, 422, "ads[0].image", "not_an_image"),
            ({"ads": [{"image": "x" * 65}]}, 422, "ads[0].image", "at most 64 bytes"),
            ({"ads": [{"image": "gs://secret/ad.png"}]}, 403, "ads[0].image", "creatives.allowed"),
            ({"ads": [{"image": "/etc/passwd"}]}, 403, "ads[0].image", "creatives.allowed"),
        ],
    )
    def test_refusals_name_the_field(self, gateway: Start, request_: Any, status: int, field: str, words: str) -> None:
        _, client = gateway()
        answer = client.post("/v1/score", json=request_)
        error = answer.json()["error"]
        assert (answer.status_code, error.get("field", "")) == (status, field)
        assert words in error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]
        assert "Traceback" not in answer.text

    def test_other_refusals(self, gateway: Start) -> None:
        _, client = gateway(limits={"body_bytes": 1000, "rate": ""})
        assert client.post("/v1/score", content=b"{").status_code == 400
        assert client.post("/v1/score", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
        assert client.post("/v1/score", content=b"[" * 2000).status_code == 413
        assert client.get("/v1/score").status_code == 405

    def test_a_field_left_out_counts_as_missing(self, gateway: Start, models: RunningServer) -> None:
        _, client = gateway()
        now = int(time.time())
        got = client.post("/v1/score", json={"context": {"shown_at": now}, "ads": [{}]}).json()["ads"][0]
        row = {"shown_at": now, "ad": "", "site": "", "topics": [""], "price": float("nan"), "height": float("nan")}
        with ModelServerClient(models.url) as model:
            (expected_,) = model.predict([{**row, "image": ""}])
        assert got["click_probability"] == pytest.approx(expected_, abs=TOLERANCE)

    def test_too_many_at_a_time(self, gateway: Start) -> None:
        running, client = gateway(limits={"in_flight": 1, "rate": ""})
        running.gateway.in_flight = 1
        answer = client.post("/v1/score", json={"ads": [{}]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        running.gateway.in_flight = 0
        assert client.post("/v1/score", json={"ads": [{}]}).status_code == 200


class TestFetching:
    @pytest.fixture
    def images(self, tmp_path: Path, tiny_model: TinyModel) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        (folder / "known.png").write_bytes(pixels_as_png(tiny_model.creatives[1].image or b""))
        (folder / "not.png").write_bytes(b"no image")
        (folder / "large.png").write_bytes(bytes(20_000))
        wide = io.BytesIO()
        Image.new("1", (3000, 3000)).save(wide, "PNG")
        (folder / "wide.png").write_bytes(wide.getvalue())
        (folder / "cut.png").write_bytes((folder / "known.png").read_bytes()[:200])
        (tmp_path / "secret.png").write_bytes((folder / "known.png").read_bytes())
        (folder / "link.png").symlink_to(tmp_path / "secret.png")
        return folder

    def ask(self, client: httpx.Client, image: Any) -> tuple[int, Any]:
        answer = client.post("/v1/score", json={"ads": [{"ad": "ad1", "image": image}], "creative_status": True})
        if answer.status_code != 200:
            return answer.status_code, answer.json()["error"]["code"]
        return 200, answer.json()["ads"][0]["creative_status"]

    def test_what_comes_of_a_file(self, gateway: Start, images: Path, tiny_model: TinyModel) -> None:
        limits = {"allowed": [str(images)], "max_bytes": 10_000, "max_pixels": 1_000_000, "timeout_seconds": 120}
        _, client = gateway(creatives=limits)
        assert self.ask(client, str(images / "known.png")) == (200, "ok")
        assert self.ask(client, f"file://{images}/known.png") == (200, "ok")
        assert self.ask(client, str(images / "not.png")) == (200, "not_an_image")
        assert self.ask(client, str(images / "cut.png")) == (200, "not_an_image")
        assert self.ask(client, str(images / "large.png")) == (200, "too_large")
        assert self.ask(client, str(images / "wide.png")) == (200, "too_large")
        assert self.ask(client, str(images / "absent.png")) == (200, "not_fetched")

    def test_only_from_allowed_places(self, gateway: Start, images: Path) -> None:
        _, client = gateway(creatives={"allowed": [str(images), "gs://ads/creatives"]})
        refused = (403, "image_not_allowed")
        assert self.ask(client, str(images.parent / "secret.png")) == refused
        assert self.ask(client, f"{images}/../secret.png") == refused
        assert self.ask(client, str(images / "link.png")) == refused
        assert self.ask(client, f"{images}-more/x.png") == refused
        assert self.ask(client, "gs://ads/creatives-more/x.png") == refused
        assert self.ask(client, "gs://ads/creatives/../x.png") == refused
        assert self.ask(client, "https://example.com/x.png") == refused

    def test_a_fetched_image_scores_as_its_bytes(self, gateway: Start, images: Path) -> None:
        _, client = gateway(creatives={"allowed": [str(images)], "timeout_seconds": 120})
        encoded = base64.b64encode((images / "known.png").read_bytes()).decode()
        by_file, by_bytes = (
            client.post("/v1/score", json={"context": CONTEXT, "ads": [{"ad": "ad1", "image": image}]}).json()["ads"]
            for image in (str(images / "known.png"), {"b64": encoded})
        )
        assert by_file == by_bytes


class TestDocuments:
    def test_openapi_has_the_models_fields(self, gateway: Start) -> None:
        _, client = gateway()
        document = client.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        assert "shown_at" in document["components"]["schemas"]["Ad"]["properties"]
        text = json.dumps(document)
        assert "{'" not in text

    def test_openapi_is_true_of_many_contexts(self, gateway: Start) -> None:
        _, client = gateway()
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        (scored,) = client.post("/v1/score:batch", json={"requests": [{"ads": [{}]}]}).json()["responses"]
        assert scored.keys() == set(schemas["ContextScores"]["required"])
        assert schemas["Scores"]["required"] == ["request_id", *schemas["ContextScores"]["required"]]

    def test_openapi_is_true_of_what_is_read(self, gateway: Start) -> None:
        _, client = gateway()
        document = client.get("/openapi.json").json()
        for path in ("/v1/fields", "/version"):
            answered = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            schema = document["components"]["schemas"][answered["$ref"].rpartition("/")[2]]
            assert set(schema["required"]) == set(client.get(path).json()) == set(schema["properties"])

    def test_openapi_says_which_endpoints_need_a_key(self, gateway: Start, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("")
        _, client = gateway(is_open=False, security={"api_keys_file": str(tmp_path / "keys")})
        document = client.get("/openapi.json").json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                is_open = operation.get("security") == []
                assert (client.request(method, path).status_code != 401) == is_open, path
