"""Gateways whose newest version keeps what it was judged by."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from adclick.components.click_evaluator.audience import audience_rows
from adclick.models.held_out import HELD_OUT_FILE, QUANTILE_SHARES, Estimate, HeldOut
from adclick.serving.client.client import ModelServerClient
from adclick.serving.gateway.pipeline_runs import PipelineRuns
from adclick.serving.gateway.server import running_gateway
from adclick.serving.model_server.server import RunningServer, running_server
from tests.models.tiny_model import TinyModel, as_example
from tests.serving.gateway.conftest import settings_for

#: A version of before held-out rows were kept, and one with them.
BEFORE, JUDGED = 1_790_000_000, 1_790_000_001
ROWS = 200


@pytest.fixture(scope="session")
def judged_base(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console") / "output" / "serving_model" / "adclick"
    for version in (BEFORE, JUDGED):
        shutil.copytree(tiny_model.folder, folder / str(version))
    rows, _, _ = audience_rows([as_example(row) for row in tiny_model.rows[-ROWS:]], tiny_model.features)
    with running_server(folder) as models, ModelServerClient(models.url, timeout_seconds=120) as client:
        predictions = client.predict([model_row(row) for row in rows])
    held_out = HeldOut(
        span=202610,
        metrics={"auc": Estimate(value=0.7, lower=0.6, upper=0.8), "click_rate": Estimate(value=0.1)},
        quantiles=tuple(np.quantile(predictions, QUANTILE_SHARES).tolist()),
        audience=rows,
    )
    (folder / str(JUDGED) / "assets.extra" / HELD_OUT_FILE).write_bytes(held_out.to_bytes())
    return folder


def model_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the audience as the model itself takes it."""
    missing = {"topics": [""], "price": float("nan"), "image": ""}
    full = missing | row
    return full | {"topics": [*full["topics"], *[""] * (4 - len(full["topics"]))]}


@pytest.fixture(scope="session")
def judged_models(judged_base: Path) -> Iterator[RunningServer]:
    with running_server(judged_base, grpc_port=0, poll_seconds=0.1) as running:
        yield running


@pytest.fixture
def console(judged_models: RunningServer, judged_base: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Starts gateways: `console(kind, routing={...}, ...)` gives a client of one."""
    with ExitStack() as stack:

        def start(
            kind: str = "in_process",
            *,
            is_open: bool = True,
            runs: PipelineRuns | None = None,
            base: Path = judged_base,
            **sections: Any,
        ) -> httpx.Client:
            settings = settings_for(kind, judged_models, base, **sections)
            running = stack.enter_context(
                running_gateway(settings, model_server=judged_models.model_server, is_open=is_open, runs=runs)
            )
            return stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=150))

        yield start
