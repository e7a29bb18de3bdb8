"""A version that is asked what another has answered, without a say in it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import numpy as np

from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.scoring import GatewayScorer, Scored
from adclick.serving.gateway.snapshot import Snapshots

logger = logging.getLogger(__name__)


class ShadowTraffic:
    """Asks the shadow in its own time; what it cannot keep up with is dropped and counted.

    Args:
        snapshots: Which version is the shadow.
        scorer: Asks it.
        metrics: Where its answers are compared.
    """

    def __init__(self, snapshots: Snapshots, scorer: GatewayScorer, metrics: GatewayMetrics) -> None:
        settings = snapshots.current.settings.routing.shadow
        self._snapshots = snapshots
        self._scorer = scorer
        self._metrics = metrics
        self._waiting: asyncio.Queue[tuple[Any, Scored]] = asyncio.Queue(settings.queue if settings is not None else 1)

    def offer(self, context: Any, scored: Scored) -> None:
        """Hands over a context and what was answered; never waits."""
        try:
            self._waiting.put_nowait((context, scored))
        except asyncio.QueueFull:
            self._metrics.shadow.labels("dropped").inc()

    async def ask(self) -> None:
        """Asks, until it is cancelled."""
        while True:
            context, answered = await self._waiting.get()
            snapshot = self._snapshots.current
            target = snapshot.router.shadow
            if target is None:
                continue
            try:
                deadline = time.monotonic() + snapshot.settings.backend.timeout_seconds
                (scored,) = await self._scorer.score_by(snapshot, target, [context], deadline)
            except Exception as error:
                self._metrics.shadow.labels("failed").inc()
                logger.debug("the shadow failed: %s", error)
                continue
            self._metrics.shadow.labels("answered").inc()
            for difference in np.abs(scored.probabilities - answered.probabilities).tolist():
                self._metrics.shadow_difference.observe(difference)
