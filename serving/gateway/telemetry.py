"""What is told of requests: metrics, a line of the access log for each, and a sample of predictions."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

import numpy as np
import orjson
from starlette.types import Scope

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.prediction_log import Prediction, PredictionLog
from adclick.serving.gateway.scoring import Scored
from adclick.serving.gateway.security import keyed_hash, read_hash_key
from adclick.serving.gateway.settings import LogSettings
from adclick.serving.gateway.traffic import Traffic

access_logger = logging.getLogger("adclick.access")


class Telemetry:
    """Notes requests and scores.

    Args:
        settings: What is written down.
        metrics: Where they are counted.
        traffic: Where they are tallied for people.

    Raises:
        NotFoundError, InvalidArgumentError: The secret with which people's names are hashed cannot be read, or
            predictions cannot be kept where the settings say.
    """

    def __init__(self, settings: LogSettings, metrics: GatewayMetrics, traffic: Traffic) -> None:
        self._settings = settings
        self._metrics = metrics
        self._traffic = traffic
        self._hash_key = read_hash_key(settings.hash_key_file)
        if settings.predictions is not None:
            try:
                settings.predictions.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"{settings.predictions}: predictions cannot be kept there: {error.strerror}"
                raise InvalidArgumentError(message) from error
        self._predictions: PredictionLog | None = None

    def start(self) -> None:
        """Begins the log of predictions, where there is to be one."""
        if self._settings.predictions is not None:
            self._predictions = PredictionLog(self._settings, self._hash_key, self._metrics)

    def close(self) -> None:
        """Writes what waits."""
        if self._predictions is not None:
            self._predictions.close()

    def note_answer(self, exchange: Exchange, scope: Scope, status: int) -> None:
        """Notes that a request is answered."""
        seconds = time.monotonic() - exchange.started
        self._metrics.count_request(exchange.endpoint, status, seconds)
        self._traffic.note_answer(exchange.endpoint, status, seconds, exchange.versions)
        if not self._settings.access:
            return
        line: dict[str, Any] = {
            "time": time.time(),
            "request_id": exchange.request_id,
            "client": exchange.client,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
        }
        if exchange.ads:
            line["ads"] = exchange.ads
            line["model_version"] = sorted(exchange.versions)
            line["route"] = sorted(exchange.routes)
        if exchange.user:
            line["user"] = keyed_hash(self._hash_key, exchange.user)
        access_logger.info(orjson.dumps(line).decode())

    def note_scores(self, exchange: Exchange, scored: Scored) -> None:
        """Counts the scores of one context of a request."""
        version, route = scored.model.version, scored.target.name
        exchange.ads += len(scored.probabilities)
        exchange.versions.add(version)
        exchange.routes.add(route)
        self._metrics.count_ads(route, version, scored.probabilities)
        self._traffic.note_ads(version, len(scored.probabilities))

    def log_prediction(self, exchange: Exchange, context_index: int, scored: Scored, identifiers: list[bytes]) -> None:
        """Logs the scores of one context if they fall into the sample.

        Args:
            exchange: The request.
            context_index: Which of its contexts.
            scored: The scores.
            identifiers: What the request names each impression; empty where it does not.
        """
        if self._predictions is None or random.random() * 100 >= self._settings.sample_percent:
            return
        columns = dict(scored.columns)
        if scored.model.image is not None:
            keys = np.empty(len(scored.keys), object)
            keys[:] = scored.keys
            columns[scored.model.image] = keys
        self._predictions.put(
            Prediction(
                request_id=exchange.request_id,
                context_index=context_index,
                route=scored.target.name,
                model_version=scored.model.version,
                columns=columns,
                probabilities=scored.probabilities,
                impression_ids=identifiers,
                creative_statuses=scored.statuses,
                logged_at=time.time(),
            )
        )
