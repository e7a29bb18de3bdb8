"""Ads compared over a version's audience, over a real socket: the model's own means, and honest intervals."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from adclick.models.extension import pixels_as_png
from adclick.models.held_out import HELD_OUT_FILE, HeldOut
from adclick.serving.client.client import ModelServerClient
from adclick.serving.gateway.comparison import ROWS_FOR_INTERVAL, compare
from adclick.serving.model_server.server import RunningServer
from tests.models.tiny_model import TinyModel
from tests.serving.console.conftest import BEFORE, JUDGED, ROWS, model_row
from tests.serving.gateway.conftest import BACKENDS

PATH = "/console/api/compare"
Start = Callable[..., httpx.Client]


@pytest.fixture
def audience(judged_base: Path) -> list[dict[str, Any]]:
    return list(HeldOut.from_bytes((judged_base / str(JUDGED) / "assets.extra" / HELD_OUT_FILE).read_bytes()).audience)


def images(model: TinyModel) -> list[bytes]:
    return [pixels_as_png(creative.image or b"") for creative in model.creatives[:3]]


def given(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


def means(models: RunningServer, rows: list[dict[str, Any]]) -> float:
    with ModelServerClient(models.url, timeout_seconds=120) as client:
        return float(np.mean(client.predict([model_row(row) for row in rows])))


@pytest.mark.parametrize("kind", BACKENDS)
def test_rates_are_the_models_own_means(
    kind: str, console: Start, judged_models: RunningServer, tiny_model: TinyModel, audience: list[dict[str, Any]]
) -> None:
    client = console(kind)
    answer = client.post(PATH, json={"ads": [{"image": given(image)} for image in images(tiny_model)]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["audience"] == {"span": 202610, "rows": ROWS, "replaced_values": 0, "left_out_rows": 0}
    assert body["model"]["version"] == JUDGED
    expected = [means(judged_models, [row | {"image": image} for row in audience]) for image in images(tiny_model)]
    found = {ad["index"]: ad["click_rate"] for ad in body["ads"]}
    assert [found[index]["value"] for index in range(3)] == pytest.approx(expected, abs=1e-6)
    ranked = [ad["click_rate"]["value"] for ad in body["ads"]]
    assert ranked == sorted(ranked, reverse=True)
    assert all(rate["lower"] < rate["value"] < rate["upper"] for rate in found.values())
    assert body["as_shown"]["value"] == pytest.approx(means(judged_models, audience), abs=1e-6)
    assert body["ads"][0]["difference_to_best"] == {"value": 0.0, "lower": 0.0, "upper": 0.0}
    assert sum(ad["best_share"] for ad in body["ads"]) == pytest.approx(1)


def test_what_the_request_gives_counts_for_every_row(
    console: Start, judged_models: RunningServer, tiny_model: TinyModel, audience: list[dict[str, Any]]
) -> None:
    client = console()
    image = images(tiny_model)[0]
    ads = [{"image": given(image)}, {"image": given(image), "ad": "ad3"}]
    body = client.post(PATH, json={"ads": ads, "context": {"site": "site1"}}).json()
    expected = [
        means(judged_models, [row | {"image": image, "site": "site1"} | own for row in audience])
        for own in ({}, {"ad": "ad3"})
    ]
    found = {ad["index"]: ad["click_rate"]["value"] for ad in body["ads"]}
    assert [found[0], found[1]] == pytest.approx(expected, abs=1e-6)
    assert expected[0] != pytest.approx(expected[1], abs=1e-4)
    # Neither parts the audience any more.
    assert not {"site", "ad"} & {part["column"] for part in body["breakdowns"]}


def test_parts_of_the_audience_are_told_apart(
    console: Start, judged_models: RunningServer, tiny_model: TinyModel, audience: list[dict[str, Any]]
) -> None:
    client = console()
    body = client.post(PATH, json={"ads": [{"image": given(images(tiny_model)[0])}, {}]}).json()
    (by_site,) = body["breakdowns"]
    assert by_site["column"] == "site"
    assert sum(part["rows"] for part in by_site["parts"]) == ROWS
    part = by_site["parts"][0]
    rows = [row for row in audience if row["site"] == part["value"]]
    assert part["rows"] == len(rows) == max(other["rows"] for other in by_site["parts"])
    image = images(tiny_model)[0]
    assert part["click_rates"][0]["value"] == pytest.approx(
        means(judged_models, [row | {"image": image} for row in rows]), abs=1e-6
    )
    for each in by_site["parts"]:
        has_interval = each["rows"] >= ROWS_FOR_INTERVAL
        assert all((rate["lower"] is not None) == has_interval for rate in each["click_rates"])
    # The ad without an image says so.
    statuses = {ad["index"]: ad["creative_status"] for ad in body["ads"]}
    assert statuses == {0: "ok", 1: "none"}


def test_nobody_was_shown_them(console: Start, tiny_model: TinyModel) -> None:
    client = console()
    before = client.get("/metrics").text
    assert client.post(PATH, json={"ads": [{"image": given(images(tiny_model)[0])}]}).status_code == 200
    after = client.get("/metrics").text
    for name in ("adclick_gateway_ads_total{", "adclick_gateway_creatives_total{"):
        assert name not in before
        assert name not in after


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"ads": [{}] * 21}, 422, "ads"),
        ({"ads": []}, 422, "ads"),
        ({"ads": [{"image": {"b64": "AAAA"}}]}, 422, "ads[0].image"),
        ({"ads": [{}], "context": {"site": 3}}, 422, "context.site"),
        ({"ads": [{}], "audience": "all"}, 422, ""),
    ],
)
def test_what_is_wrong_is_named(console: Start, body: dict[str, Any], status: int, field: str) -> None:
    answer = console().post(PATH, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].get("field", "") == field


def test_a_version_of_before_serves_and_says_that_it_keeps_none(console: Start) -> None:
    client = console(routing={"routes": [{"name": "all", "percent": 100, "version": BEFORE}]})
    assert client.post("/v1/score", json={"ads": [{}]}).status_code == 200
    refusal = client.post(PATH, json={"ads": [{}]})
    assert refusal.status_code == 501
    assert refusal.json()["error"]["code"] == "no_audience"
    assert str(BEFORE) in refusal.json()["error"]["message"]
    place = client.post("/console/api/place", json={"click_probability": 0.1, "version": BEFORE}).json()
    assert place["higher_than"] is None
    assert "without its held-out rows" in place["reason"]


def test_old_rows_are_scored_whatever_times_requests_may_have(console: Start, tiny_model: TinyModel) -> None:
    client = console(limits={"rate": "", "past_days": 0, "future_days": 0})
    assert client.post(PATH, json={"ads": [{}]}).status_code == 200


def test_the_place_of_a_probability(console: Start) -> None:
    client = console()

    def place(probability: float) -> float:
        answer = client.post("/console/api/place", json={"click_probability": probability, "version": JUDGED})
        assert answer.status_code == 200, answer.text
        return float(answer.json()["higher_than"])

    score = client.post("/v1/score", json={"ads": [{"ad": "ad3", "site": "site1"}]}).json()["ads"][0]
    assert 0 <= place(0.0) <= place(score["click_probability"]) <= place(1.0) == 1
    unknown = client.post("/console/api/place", json={"click_probability": 0.1, "version": 3})
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "version")
    assert client.post("/console/api/place", json={"click_probability": 2, "version": 3}).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"[" * 100_000, 422, "invalid_request", ""),
        (b'{"click_probability": 0.1, "version": "\\ud83d"}', 422, "invalid_request", "version"),
        (b'{"click_probability": "high", "version": 3}', 422, "invalid_request", "click_probability"),
        (b"{", 400, "malformed_json", ""),
        (b"\xff", 400, "malformed_json", ""),
    ],
)
@pytest.mark.parametrize("path", ["/console/api/place", PATH])
def test_a_body_that_is_not_what_is_expected_is_refused_alike(
    console: Start, path: str, body: bytes, status: int, code: str, field: str
) -> None:
    answer = console().post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    if path != PATH:
        assert answer.json()["error"].get("field", "") == field


def test_the_interval_holds_the_mean_of_the_population_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    hits = differences = 0
    trials = 200
    for _ in range(trials):
        base = random.beta(2, 30, 300)
        scored = np.stack([base, base * random.uniform(1.0, 1.2, 300)], axis=1)
        found = compare(scored, 2, {})
        hits += found.rates[0].lower <= 2 / 32 <= found.rates[0].upper
        differences += found.differences[0].lower <= -0.1 * 2 / 32 <= found.differences[0].upper
    # Binomial of 0.95: a standard deviation of 3 in 200.
    assert 180 <= hits <= 199
    assert 180 <= differences <= 199
    # Paired: the difference is known far better than either rate.
    widths = [found.differences[0].upper - found.differences[0].lower, found.rates[0].upper - found.rates[0].lower]
    assert widths[0] < widths[1] / 3


def test_few_rows_have_no_interval() -> None:
    found = compare(np.full((ROWS_FOR_INTERVAL - 1, 2), 0.1), 2, {})
    assert found.rates[0].lower is None
    assert found.best_shares == [None, None]


def test_ads_that_the_model_does_not_tell_apart_are_level(console: Start, tiny_model: TinyModel) -> None:
    image = given(images(tiny_model)[0])
    body = console().post(PATH, json={"ads": [{"image": image}, {"image": image}, {"image": image}]}).json()
    assert [ad["rank"] for ad in body["ads"]] == [1, 1, 1]
    assert [ad["best_share"] for ad in body["ads"]] == pytest.approx([1 / 3] * 3)
