"""What no caller should send and no model should answer: refused in true words, never a 500, never a null."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.serving.gateway.server import running_gateway
from adclick.serving.model_server.server import RunningServer, running_server
from tests.serving.gateway.conftest import BACKENDS, settings_for

Start = Callable[..., Any]
DAY = 86_400


def refusal(client: httpx.Client, body: Any) -> tuple[int, str, str]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/v1/score", content=content)
    error = answer.json()["error"]
    return answer.status_code, error.get("field", ""), error["message"]


class TestNumbers:
    @pytest.mark.parametrize(
        ("ad", "field", "words"),
        [
            ({"shown_at": 2**63}, "shown_at", "9223372036854775807"),
            ({"shown_at": -(2**63) - 1}, "shown_at", "-9223372036854775808"),
            ({"shown_at": 10**60}, "shown_at", "9223372036854775807"),
            ({"price": 1e39}, "price", "3.402823"),
            ({"price": -(10**39)}, "price", "-3.402823"),
            ({"price": 10**400}, "price", "out of range"),
        ],
    )
    def test_one_beyond_its_type_is_refused(self, gateway: Start, ad: dict[str, Any], field: str, words: str) -> None:
        _, client = gateway()
        status, named, message = refusal(client, {"ads": [{}, ad]})
        assert (status, named) == (422, f"ads[1].{field}")
        assert words in message
        assert refusal(client, {"context": ad, "ads": [{}]})[:2] == (422, f"context.{field}")

    def test_the_largest_of_its_type_is_taken(self, gateway: Start) -> None:
        _, client = gateway()
        answer = client.post("/v1/score", json={"ads": [{"height": 3.4028235e38}]})
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "no_probability"


class TestTimes:
    @pytest.mark.parametrize(
        ("factor", "unit"), [(10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")]
    )
    def test_a_finer_unit_is_told(self, gateway: Start, factor: int, unit: str) -> None:
        _, client = gateway()
        status, field, message = refusal(client, {"ads": [{}, {"shown_at": int(time.time()) * factor}]})
        assert (status, field) == (422, "ads[1].shown_at")
        assert f"looks like {unit}: divide it by {factor:,}" in message and "limits.future_days" in message

    def test_the_place_is_where_it_was_given(self, gateway: Start) -> None:
        _, client = gateway()
        wrong = {"context": {"shown_at": 0}, "ads": [{"shown_at": int(time.time())}, {}]}
        assert refusal(client, wrong)[:2] == (422, "context.shown_at")
        answer = client.post("/v1/score:batch", json={"requests": [{"ads": [{}]}, wrong]})
        assert answer.json()["error"]["field"] == "requests[1].context.shown_at"

    def test_last_month_is_scored_and_the_window_is_the_settings(self, gateway: Start) -> None:
        _, client = gateway()
        now = int(time.time())
        assert client.post("/v1/score", json={"ads": [{"shown_at": now - 60 * DAY}]}).status_code == 200
        _, strict = gateway(limits={"rate": "", "past_days": 1, "future_days": 0.5})
        taken = [now - 2 * DAY, now - DAY // 2, now + DAY // 4, now + DAY]
        codes = [strict.post("/v1/score", json={"ads": [{"shown_at": time_}]}).status_code for time_ in taken]
        assert codes == [422, 200, 200, 422]
        _, free = gateway(limits={"rate": "", "past_days": None, "future_days": None})
        for time_ in (-(2**63), -1, 0, 2**63 - 1):
            assert free.post("/v1/score", json={"ads": [{"shown_at": time_}]}).status_code == 200


class TestTexts:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (rb'{"ads": [{}, {"ad": "\ud83d"}]}', "ads[1].ad"),
            (rb'{"context": {"site": "\udc00x"}, "ads": [{}]}', "context.site"),
            (rb'{"ads": [{"topics": ["a", "\ud83dx"]}]}', "ads[0].topics[1]"),
            (rb'{"ads": [{"\ud83d": 1}]}', "ads[0]"),
        ],
    )
    def test_half_a_surrogate_pair(self, gateway: Start, body: bytes, field: str) -> None:
        _, client = gateway()
        status, named, message = refusal(client, body)
        assert (status, named) == (422, field)
        assert "surrogate" in message and "not JSON" not in message

    def test_a_whole_pair_is_a_text(self, gateway: Start) -> None:
        _, client = gateway()
        assert client.post("/v1/score", content=rb'{"ads": [{"ad": "\ud83d\ude00"}]}').status_code == 200

    def test_bytes_that_are_no_text(self, gateway: Start) -> None:
        _, client = gateway()
        status, _, message = refusal(client, b'{"ads": [{"ad": "\xff"}]}')
        assert status == 400 and "utf-8" in message


#: As JSON texts: also what Python's own writer would not write.
ATOMS = [
    *("null", "true", "0", "-0.0", "1e39", "1e400", "9223372036854775808", "9" * 400, "9" * 5_000, "NaN", "-Infinity"),
    *("[]", "{}", "[[]]", "[" * 300 + "]" * 300, '{"b64": "AAAA"}', '{"b64": "%"}', '{"b64": 5}', '["a", ["b"]]'),
    *('""', '"a"', r'"\u0000"', r'"\ud800"', r'"\ud83d\ude00"', '"\xff"', '"/etc/passwd"', r'"/\u0000"', '"gs://"'),
    *('"' + "0" * 32 + '"', '"' + "x" * 70_000 + '"', '"/' + "a/" * 3_000 + '"', "1790000000", "1790000000000"),
]
NAMES = ["ad", "site", "topics", "price", "height", "shown_at", "image", "nope", "", r"\u0000", r"\ud800", "\xff"]
OBJECTS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(ATOMS)), max_size=3).map(
    lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
)
VALUES = OBJECTS | st.sampled_from(ATOMS)
LISTS = st.lists(VALUES, max_size=3).map(lambda items: f"[{', '.join(items)}]") | VALUES
SIGNATURES = st.sampled_from(["serving_default", "serving_examples", "score", "embed_creative", r"\ud800", "\xff"])


@pytest.fixture(scope="module")
def both(models: RunningServer, base: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of a gateway and of a model server."""
    chosen = settings_for("in_process", models, base, log={"access": False})
    with (
        running_gateway(chosen, model_server=models.model_server, is_open=True) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=150) as gateway,
        httpx.Client(base_url=models.url, trust_env=False, timeout=150) as server,
    ):
        yield gateway, server


@settings(max_examples=200, deadline=None)
@given(LISTS, VALUES, st.sampled_from(["score", "score:batch", "explain"]))
def test_whatever_is_sent_is_refused_or_scored(
    both: tuple[httpx.Client, httpx.Client], ads: str, context: str, endpoint: str
) -> None:
    body = f'{{"ads": {ads}, "context": {context}}}'
    body = f'{{"requests": [{body}]}}' if endpoint == "score:batch" else body
    answer = both[0].post(f"/v1/{endpoint}", content=body.encode("latin-1"))
    if answer.status_code == 200:
        assert "null" not in answer.text and "NaN" not in answer.text
    else:
        code = answer.json()["error"]["code"]
        assert answer.status_code in (400, 403, 413, 422) or code == "no_probability", (body, answer.text)


@settings(max_examples=200, deadline=None)
@given(
    LISTS,
    SIGNATURES,
    st.sampled_from(["instances", "inputs", "examples"]),
    st.sampled_from(["predict", "classify", "regress"]),
)
def test_whatever_is_sent_to_the_model_server_is_its_senders_fault(
    both: tuple[httpx.Client, httpx.Client], values: str, signature: str, form: str, method: str
) -> None:
    body = f'{{"signature_name": "{signature}", "{form}": {values}}}'
    answer = both[1].post(f"/v1/models/adclick:{method}", content=body.encode("latin-1"))
    assert answer.status_code in (200, 400), (body, answer.text)


class Logarithm(tf.Module):  # type: ignore[misc]
    """Of a price: a probability up to e, none beyond, and none for a price that is not positive."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="price")])  # type: ignore[misc]
    def serve(self, price: Any) -> dict[str, Any]:
        return {"click_probability": tf.math.log(price)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="price")])  # type: ignore[misc]
    def explain(self, price: Any) -> dict[str, Any]:
        logit = tf.math.log(price) * 1000.0
        return {
            "columns": tf.fill([tf.size(price), 1], "price"),
            "contributions": logit[:, None],
            "logit": logit,
            "baseline_logit": tf.zeros_like(logit),
        }


@pytest.fixture(scope="module")
def logarithm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    base = tmp_path_factory.mktemp("logarithm")
    module = Logarithm()
    signatures = {"serving_default": module.serve, "explain": module.explain}
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    with running_server(base, grpc_port=0, poll_seconds=0.1) as running:
        yield running, base


@pytest.mark.parametrize("kind", BACKENDS)
def test_no_answer_holds_a_probability_that_is_none(
    kind: str, logarithm: tuple[RunningServer, Path], tmp_path: Path
) -> None:
    models, base = logarithm
    log = {"predictions": str(tmp_path / "log"), "sample_percent": 100}
    chosen = settings_for(kind, models, base, log=log, routing={"shadow": {"version": 1}})
    with (
        running_gateway(chosen, model_server=models.model_server, is_open=True) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=150) as client,
    ):
        assert client.post("/v1/score", json={"ads": [{"price": 2.0}]}).status_code == 200
        for price, given in ((-1.0, "nan"), (0.0, "-inf"), (1e30, "69.")):
            answer = client.post("/v1/score", json={"ads": [{"price": 2.0}, {"price": price}]})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (502, "no_probability")
            assert "Version 1" in error["message"] and given in error["message"] and "ad 1 of 2" in error["message"]
        for price, status in ((0.1, 200), (9.0, 200), (-1.0, 502)):
            explained = client.post("/v1/explain", json={"ads": [{"price": price}]})
            assert explained.status_code == status, explained.text
            assert "null" not in explained.text
        metrics = client.get("/metrics").text
        assert 'adclick_gateway_no_probability_total{model_version="1"} 4.0' in metrics
        deadline = time.monotonic() + 60
        while 'shadow_requests_total{outcome="answered"} 1.0' not in metrics and time.monotonic() < deadline:
            time.sleep(0.05)
            metrics = client.get("/metrics").text
        assert 'shadow_requests_total{outcome="answered"} 1.0' in metrics
    records = list(tf.data.TFRecordDataset([str(file) for file in (tmp_path / "log").glob("*.tfrecord")]))
    assert len(records) == 1
