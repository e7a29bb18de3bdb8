"""What the gateway tells of its traffic: all that was sent, by version, over a real socket; bounded, however long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from adclick.serving.gateway.traffic import DAY_MINUTES, LIVE_SECONDS, Traffic
from tests.serving.console.conftest import BEFORE, JUDGED

SECONDS = 120.0
Start = Callable[..., httpx.Client]


def told(client: httpx.Client, requests: int) -> dict[str, Any]:
    """The live traffic, once it holds so many requests."""
    end = time.monotonic() + SECONDS
    while True:
        answer = client.get("/console/api/traffic/live")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        if sum(body["total"]["requests"]) >= requests:
            return body
        assert time.monotonic() < end, body
        time.sleep(0.1)


def test_all_that_was_sent_is_told_by_version(console: Start) -> None:
    routes = [
        {"name": "old", "percent": 50, "version": BEFORE},
        {"name": "new", "percent": 50, "version": JUDGED},
    ]
    client = console(routing={"routes": routes, "by": "site"})
    answered = {str(BEFORE): 0, str(JUDGED): 0}
    for number in range(40):
        body = {"context": {"site": f"s{number}"}, "ads": [{"image": "0" * 32}, {}]}
        answered[str(client.post("/v1/score", json=body).json()["model"]["version"])] += 1
    assert all(answered.values())
    for _ in range(3):
        assert client.post("/v1/score", json={"ads": []}).status_code == 422
    # None of these is traffic.
    for path in ("/v1/fields", "/version", "/metrics", "/console/api/traffic"):
        assert client.get(path).status_code == 200
    found = told(client, 43)
    points = len(found["time"])
    assert all(len(values) == points for values in (found["seconds"], *found["total"].values()))
    total = {name: sum(values) for name, values in found["total"].items() if name not in ("p50", "p99")}
    assert total == {"requests": 43, "refused": 3, "errors": 0, "ads": 80, "images": 40, "unknown_images": 40}
    assert {version: sum(series["requests"]) for version, series in found["versions"].items()} == answered
    assert {version: sum(series["unknown_images"]) for version, series in found["versions"].items()} == answered
    for median, high, requests in zip(*(found["total"][name] for name in ("p50", "p99", "requests")), strict=True):
        assert (0 < median <= high < SECONDS) if requests else median is None is high
    assert found["since"] <= found["time"][0] < found["now"] < time.time() + 1


def test_it_needs_a_key_where_keys_are_asked_for(console: Start, tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("someone " + "0" * 64 + "\n")
    client = console(is_open=False, security={"api_keys_file": str(keys)})
    for path in ("/console/api/traffic", "/console/api/traffic/live"):
        assert client.get(path).status_code == 401


def test_times_are_those_that_were_measured() -> None:
    random = np.random.default_rng(2)
    taken = np.exp(random.normal(-5, 1, 5_000))
    traffic = Traffic(0.0)
    for seconds in taken.tolist():
        traffic.note_answer("score", 200, seconds, [7])
    traffic.close_second(1.0)
    found = traffic.live[0].versions[7]
    assert found.p50 == pytest.approx(np.quantile(taken, 0.5), rel=0.06)
    assert found.p99 == pytest.approx(np.quantile(taken, 0.99), rel=0.06)


def test_what_is_kept_does_not_grow() -> None:
    traffic = Traffic(0.0)
    for second in range(1, 2 * 86_400):
        if second % 30 == 0:
            traffic.note_answer("score", 503 if second % 60 else 200, 0.01, [second // 40_000])
        traffic.close_second(float(second))
    assert len(traffic.live) == LIVE_SECONDS
    assert len(traffic.day) == DAY_MINUTES
    assert {point.seconds for point in traffic.day} == {60.0}
    assert all((point.total.requests, point.total.errors) == (2, 1) for point in list(traffic.day)[1:])
    assert traffic.day[-1].begin == 2 * 86_400 - 120


def test_a_clock_that_is_set_back_makes_no_negative_time() -> None:
    traffic = Traffic(1_000.0)
    traffic.close_second(900.0)
    traffic.close_second(901.0)
    assert [point.seconds for point in traffic.live] == [0.0, 1.0]
