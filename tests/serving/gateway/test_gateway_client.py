"""The client over a real gateway."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from adclick.models.extension import pixels_as_png
from adclick.serving.client.gateway_client import GatewayClient, GatewayRefusal
from adclick.serving.gateway.security import create_api_key
from tests.models.tiny_model import TinyModel
from tests.serving.gateway.conftest import FIRST


def test_scores(gateway: Callable[..., Any], tiny_model: TinyModel) -> None:
    running, _ = gateway()
    ads = [
        {"ad": "ad0", "image": pixels_as_png(tiny_model.creatives[0].image or b"")},
        {"ad": "ad1", "image": "0" * 32},
    ]
    with GatewayClient(running.url, timeout_seconds=120) as client:
        scores = client.score(ads, {"site": "site3", "shown_at": 1_790_812_800}, creative_status=True)
        assert (scores.model_version, scores.route) == (FIRST, "default")
        assert {ad.index: ad.creative_status for ad in scores.ads} == {0: "ok", 1: "unknown_key"}
        assert [ad.rank for ad in scores.ads] == [1, 2]
        several = client.score_batch([({"site": "site3", "shown_at": 1_790_812_800}, ads), ({}, ads[:1])])
        assert [len(one.ads) for one in several] == [2, 1]
        assert [ad.click_probability for ad in several[0].ads] == pytest.approx(
            [ad.click_probability for ad in scores.ads], abs=1e-6
        )


def test_refusals_are_told_in_the_gateways_words(gateway: Callable[..., Any]) -> None:
    running, _ = gateway()
    with GatewayClient(running.url) as client, pytest.raises(GatewayRefusal, match="unknown field `add`") as refusal:
        client.score([{"add": "x"}], request_id="r-3")
    assert (refusal.value.status, refusal.value.code, refusal.value.request_id) == (422, "invalid_request", "r-3")


def test_a_key_is_sent(gateway: Callable[..., Any], tmp_path: Any) -> None:
    key, line = create_api_key("agency")
    (tmp_path / "keys").write_text(line)
    running, _ = gateway(is_open=False, security={"api_keys_file": str(tmp_path / "keys")})
    with GatewayClient(running.url, key, timeout_seconds=120) as client:
        assert client.score([{"ad": "ad0"}]).model_version == FIRST
    with GatewayClient(running.url) as client, pytest.raises(GatewayRefusal) as refusal:
        client.score([{"ad": "ad0"}])
    assert refusal.value.status == 401


def test_an_overloaded_gateway_is_asked_again(gateway: Callable[..., Any]) -> None:
    running, _ = gateway(limits={"in_flight": 1, "rate": ""})
    running.gateway._in_flight = 1

    def relieve() -> None:
        time.sleep(0.3)
        running.gateway._in_flight = 0

    thread = threading.Thread(target=relieve, daemon=True)
    thread.start()
    with GatewayClient(running.url, timeout_seconds=120) as client:
        assert client.score([{"ad": "ad0"}]).model_version == FIRST
    thread.join(60)
    assert not thread.is_alive()


def test_no_gateway_is_said_within_the_deadline() -> None:
    # Asked again for as long as there is time, and no longer: the test ends.
    with GatewayClient("http://127.0.0.1:9", timeout_seconds=0.5) as client, pytest.raises(GatewayRefusal) as refusal:
        client.score([{"ad": "ad0"}])
    assert refusal.value.code == "unreachable"
