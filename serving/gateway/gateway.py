"""The gateway without its transport: the parts that endpoints answer with, and what keeps them up to date."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.gateway.audience import AudienceScorer
from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.device_metrics import DeviceMetrics
from adclick.serving.gateway.device_state import DeviceState
from adclick.serving.gateway.devices import DeviceReports
from adclick.serving.gateway.embedding import ImageEmbedder
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.fields import RequestForm
from adclick.serving.gateway.held_out import HeldOutRows
from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.pipeline_runs import PipelineRuns
from adclick.serving.gateway.reload import Reloader
from adclick.serving.gateway.scoring import GatewayScorer, Scored
from adclick.serving.gateway.security import read_hash_key
from adclick.serving.gateway.sessions import Sessions
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.gateway.shadow import ShadowTraffic
from adclick.serving.gateway.snapshot import Snapshots, first_snapshot, read_keys
from adclick.serving.gateway.telemetry import Telemetry
from adclick.serving.gateway.traffic import Traffic

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0


class Gateway:
    """Holds the parts of one gateway.

    Args:
        settings: The settings that it starts with.
        backend: Where the models run.
        settings_file: The file that the settings came from; its changes are taken over. None for settings that stay.
        is_open: Whether anyone may ask, for development.
        runs: The pipeline's runs, where they are at hand.

    Attributes:
        backend: Where the models run.
        metrics: What is counted.
        traffic: The same over time, for people.
        snapshots: What answers requests now.
        embedder: Has images embedded.
        scorer: Asks versions for scores.
        held_out: What versions keep of the rows they were judged by.
        audience: Compares ads over those rows.
        shadow: Asks a version that has no say.
        telemetry: Notes requests and scores.
        reloader: Takes over changed settings.
        devices: What devices reported; None where no reports are kept.
        device_metrics: The same for Prometheus.
        runs: The pipeline's runs; None where they are not at hand.
        sessions: Who has signed in to the console; None where there is none.
        in_flight: How many requests are being answered.

    Raises:
        NotFoundError, InvalidArgumentError: The API keys or the secret of the hashes cannot be read.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        backend: Backend,
        *,
        settings_file: Path | None = None,
        is_open: bool = False,
        runs: PipelineRuns | None = None,
    ) -> None:
        security = settings.security
        if not is_open and security.api_keys_file is None and security.client_authority_file is None:
            raise InvalidArgumentError(
                "anyone could ask: set security.api_keys_file or security.client_authority_file, or start in "
                "development mode on this machine alone"
            )
        keys = read_keys(settings)
        self.backend = backend
        self.metrics = GatewayMetrics()
        self.traffic = Traffic(time.time())
        self.snapshots = Snapshots(first_snapshot(settings, keys, backend))
        self.embedder = ImageEmbedder(backend, self.metrics, self.traffic)
        self.scorer = GatewayScorer(backend, self.embedder, self.metrics)
        self.held_out = HeldOutRows(settings.backend.model_base_path)
        self.audience = AudienceScorer(self.scorer, self.embedder, self.held_out)
        self.shadow = ShadowTraffic(self.snapshots, self.scorer, self.metrics)
        self.telemetry = Telemetry(settings.log, self.metrics, self.traffic)
        self.reloader = Reloader(self.snapshots, settings_file, backend, self.metrics)
        self.devices: DeviceReports | None = None
        if settings.edge.reports_file is not None:
            edge = settings.edge
            self.devices = DeviceReports(settings.edge.reports_file, edge.total_bytes, edge.most_devices)
        devices = self.devices
        self.device_metrics = DeviceMetrics(
            self.metrics.registry,
            devices.states if devices is not None else dict[str, DeviceState],
            lambda: devices.dropped if devices is not None else 0,
        )
        self.runs = runs
        self.sessions: Sessions | None = None
        if settings.console.enabled:
            secret = read_hash_key(settings.console.session_key_file)
            self.sessions = Sessions(secret, settings.console.session_seconds)
        self.in_flight = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps what is known of models and settings up to date, for the length of an `async with` block."""
        snapshot = self.snapshots.current
        routing = snapshot.settings.routing
        self.telemetry.start()
        await asyncio.to_thread(self.backend.route, routing.labels, routing.versions)
        await snapshot.models.refresh_all(snapshot.router.targets)
        tasks = [asyncio.create_task(work()) for work in (self._keep_up_to_date, self.shadow.ask, self._close_seconds)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.telemetry.close)
            if self.devices is not None:
                await asyncio.to_thread(self.devices.close)
            await self.backend.close()

    async def score(self, exchange: Exchange, form: RequestForm, contexts: Sequence[Any]) -> list[Scored]:
        """Scores the contexts of a request, notes them, and offers them to the shadow.

        What asks for a route by name tries it: whom a route answers is then no chance, and neither the log of
        predictions nor the shadow takes it.

        Raises:
            GatewayError: A field is wrong, or a version cannot be asked.
        """
        snapshot = exchange.snapshot
        users = (form.value(context, snapshot.settings.log.user_field) for context in contexts)
        exchange.user = next(filter(None, users), "")
        deadline = exchange.started + snapshot.settings.backend.timeout_seconds
        if exchange.route:
            target = snapshot.first_target(exchange.route)
            scored = await self.scorer.score_by(snapshot, target, contexts, deadline)
        else:
            scored = await self.scorer.score(snapshot, form, contexts, deadline)
        for index, (context, scores) in enumerate(zip(contexts, scored, strict=True)):
            self.telemetry.note_scores(exchange, scores)
            if exchange.route:
                continue
            self.telemetry.log_prediction(exchange, index, scores, form.identifiers(context))
            if snapshot.router.is_shadowed():
                self.shadow.offer(context, scores)
        return scored

    async def _keep_up_to_date(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self.reloader.look()
                snapshot = self.snapshots.current
                await snapshot.models.refresh_all(snapshot.router.targets)
            except Exception:  # This must outlive whatever one look meets.
                logger.exception("keeping up to date failed")

    async def _close_seconds(self) -> None:
        while True:
            await asyncio.sleep(1.0 - time.time() % 1.0)
            self.traffic.close_second(time.time())
