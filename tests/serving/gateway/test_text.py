"""A model that reads texts behind every backend: it takes the plain text, and its explanation names the words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adclick.serving.client.gateway_client import GatewayClient
from adclick.serving.gateway.server import running_gateway
from adclick.serving.model_server.server import RunningServer, running_server
from tests.models.text_model import NEW, train_text_model
from tests.serving.gateway.conftest import BACKENDS, FIRST, settings_for


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _ = train_text_model(tmp_path_factory.mktemp("text"))
    base = tmp_path_factory.mktemp("gateway") / "versions"
    shutil.copytree(folder, base / str(FIRST))
    return base


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[RunningServer]:
    with running_server(versions, grpc_port=0, poll_seconds=0.1) as running:
        yield running


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_explanation_names_the_words(kind: str, server: RunningServer, versions: Path) -> None:
    settings = settings_for(kind, server, versions)
    with (
        running_gateway(settings, model_server=server.model_server, is_open=True) as gateway,
        GatewayClient(gateway.url, timeout_seconds=120) as client,
    ):
        known, other = client.score([{"the headline": NEW}, {"the headline": "konox in a new text"}]).ads
        found = client.explain({"the headline": f"<b>{NEW}</b>", "site": "s1"})
    assert known.click_probability > 1.5 * other.click_probability
    assert next(iter(found.contributions)) == "the headline"
    words = found.words["the headline"]
    assert next(iter(words)) == "balam" and words["balam"] > 0.4
    assert sum(words.values()) == pytest.approx(found.contributions["the headline"], abs=1e-4)
    assert found.words["lede"] == {}
