"""Asks the fraud model about clicks, many at a time: in this process, or a server of TensorFlow Serving's API.

New versions are loaded while the one before answers; each batch is answered by one version.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable, MultiValued
from adclick.schema.signatures import CLICK_PROBABILITY, EXPLAIN, SERVING_DEFAULT
from adclick.serving.errors import Code, ServingError
from adclick.serving.gateway.backends import Backend, Signatures, create_backend
from adclick.serving.gateway.explanation import EXPLANATION
from adclick.serving.gateway.routing import Target
from adclick.serving.gateway.served import description_path, text_of
from adclick.serving.gateway.settings import BackendSettings
from adclick.stream.clicks import Click, Evidence
from adclick.stream.events import iso_time
from adclick.stream.settings import AlertsSettings, ScorerSettings

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

#: How long a first version is waited for, and a server that went away, in seconds.
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.5
_THRESHOLDS = "fraud_thresholds"


_NO_CLICK = Click("", 0, {}, {})


@dataclass(frozen=True)
class ClickScores:
    """The answers for a batch of clicks.

    Attributes:
        version: The version that answered.
        threshold: From which probability on a click counts for an alert.
        probabilities: By click; NaN or an infinity where the model gave no probability.
    """

    version: int
    threshold: float
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Version:
    number: int
    columns: tuple[tuple[str, Callable[[Sequence[Click]], Array]], ...]
    threshold: float
    explains: bool


class ClickScorer:
    """Scores clicks by the newest version.

    Args:
        settings: Where the model runs.
        alerts: The threshold, or the rate of false positives that it follows from.
        features: The config's columns.
        model_name: The model's name.
        model_base_path: The push directory; may be empty for a server, which then needs `alerts.threshold`.

    Raises:
        ConfigError: No version can be asked within two minutes, or it has no threshold.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        alerts: AlertsSettings,
        features: FeatureTable,
        *,
        model_name: str,
        model_base_path: str,
    ) -> None:
        self._settings = settings
        self._alerts = alerts
        self._features = features
        self._base_path = model_base_path
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._backend = self._connect(model_name)
        self._version: _Version | None = None
        self._looked = -math.inf
        self._faults: set[str] = set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._version is None:
            try:
                self._refresh()
            except ServingError as error:
                if time.monotonic() > deadline:
                    self.close()
                    raise ConfigError(
                        f"no fraud model can be asked: {error.message}",
                        "Push a version (`adclick run`), or correct stream.scorer and serving.push_directory.",
                    ) from None
                time.sleep(_PAUSE_SECONDS)

    @property
    def version(self) -> int:
        """The version that answers now."""
        assert self._version is not None
        return self._version.number

    def score(self, clicks: Sequence[Click]) -> ClickScores:
        """The fraud probabilities of clicks, all by one version; waits for a model server that is away.

        Raises:
            ConfigError: No version could be asked for two minutes.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._look()
                version = self._version
                assert version is not None
                (found,) = self._ask(version, SERVING_DEFAULT, clicks, [CLICK_PROBABILITY])
                return ClickScores(
                    version.number, version.threshold, np.asarray(found, np.float32).reshape(len(clicks))
                )
            except ServingError as error:
                if time.monotonic() > deadline or error.code is Code.INVALID_ARGUMENT:
                    raise ConfigError(
                        f"the fraud model cannot be asked: {error.message}",
                        "Nothing is lost: what was not judged is read again from Kafka at the next start.",
                    ) from None
                self._tell_once(f"the fraud model does not answer, it is asked again: {error.message}")
                self._looked = -math.inf
                time.sleep(_PAUSE_SECONDS)

    def explain(self, click: Click, count: int) -> tuple[Evidence, ...]:
        """The columns that speak most for fraud in a click, at most `count`; none where the model cannot say."""
        version = self._version
        if version is None or not version.explains or not count:
            return ()
        try:
            columns, contributions, *_ = self._ask(version, EXPLAIN, [click], list(EXPLANATION))
        except ServingError as error:
            self._tell_once(f"an alert goes out without evidence: {error.message}")
            return ()
        found = [
            Evidence(name.decode(), self._shown(click, name.decode()), float(contribution))
            for name, contribution in zip(columns[0], contributions[0], strict=True)
            if contribution > 0
        ]
        return tuple(sorted(found, key=lambda one: -one.contribution)[:count])

    def _shown(self, click: Click, name: str) -> str | float | None:
        return iso_time(click.time) if name == self._features.timestamp_name else click.value(name)

    def close(self) -> None:
        """Frees the model, or the connection."""
        self._loop.run_until_complete(self._backend.close())
        self._loop.close()
        if self._server is not None:
            self._server.stop()

    def _connect(self, model_name: str) -> Backend:
        settings = BackendSettings(
            kind=self._settings.backend,
            address=self._settings.address,
            model_name=model_name,
            model_base_path=self._base_path,
        )
        if settings.kind == "in_process":
            if not self._base_path:
                raise ConfigError("there is no push directory to load the fraud model from")
            # TensorFlow's import takes seconds.
            from adclick.serving.model_server.configuration import ModelConfig
            from adclick.serving.model_server.dataplane import ServerOptions
            from adclick.serving.model_server.server import create_model_server

            options = ServerOptions(poll_seconds=self._settings.poll_seconds, waits_for_base_paths=True)
            self._server = create_model_server((ModelConfig(model_name, self._base_path),), options)
            self._server.start()
        try:
            return create_backend(settings, self._server)
        except ServingError as error:
            raise ConfigError(
                error.message.replace("backend.kind", "stream.scorer.backend").replace("backend.", "stream.scorer.")
            ) from None

    def _ask(self, version: _Version, signature: str, clicks: Sequence[Click], outputs: list[str]) -> list[Array]:
        inputs = {name: read(clicks) for name, read in version.columns}
        deadline = time.monotonic() + self._settings.timeout_seconds
        return self._loop.run_until_complete(
            self._backend.run_all(version.number, signature, inputs, outputs, deadline)
        )

    def _look(self) -> None:
        """Looks for a new version, if it is time to; the one before goes on where that fails."""
        if time.monotonic() - self._looked < self._settings.poll_seconds:
            return
        try:
            self._refresh()
        except (ServingError, ConfigError) as error:
            self._tell_once(f"looking for a new version failed: {error.message}")
            self._looked = time.monotonic()

    def _refresh(self) -> None:
        metadata = self._loop.run_until_complete(self._backend.metadata(Target()))
        if self._version is None or self._version.number != metadata.version:
            version = self._describe(metadata.version, metadata.signatures)
            # The first answers of a model take long: not while clicks wait.
            self._ask(version, SERVING_DEFAULT, [_NO_CLICK], [CLICK_PROBABILITY])
            if version.explains:
                self._ask(version, EXPLAIN, [_NO_CLICK], list(EXPLANATION))
            self._version = version
            logger.info(
                "fraud model: version %d, clicks of at least %.6f count",
                self._version.number,
                self._version.threshold,
            )
        self._looked = time.monotonic()

    def _describe(self, number: int, signatures: Signatures) -> _Version:
        if SERVING_DEFAULT not in signatures:
            raise ServingError(f"version {number} has no signature {SERVING_DEFAULT}")
        readers = tuple(
            (name, self._reader(name, dtype, rank)) for name, (dtype, rank) in signatures[SERVING_DEFAULT].items()
        )
        return _Version(number, readers, self._threshold(number), EXPLAIN in signatures)

    def _threshold(self, number: int) -> float:
        if self._alerts.threshold is not None:
            return self._alerts.threshold
        rate = self._alerts.false_positive_rate
        remedy = "Set stream.alerts.threshold, or push a version that was evaluated with its thresholds."
        if not self._base_path:
            raise ConfigError("the threshold of alerts is not known", "Set stream.alerts.threshold.")
        path = description_path(self._base_path, number)
        try:
            if (text := text_of(path)) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            curve = json.loads(text).get(_THRESHOLDS) or {}
            points = sorted((float(at), float(threshold)) for at, threshold in dict(curve).items())
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: the threshold of alerts cannot be read: {error}", remedy) from None
        # The highest rate that does not exceed the one that is tolerated.
        allowed = [threshold for at, threshold in points if at <= rate]
        if not allowed:
            raise ConfigError(f"{path}: has no threshold for a false-positive rate of {rate:g}", remedy)
        return allowed[-1]

    def _reader(self, name: str, dtype: str, rank: int) -> Callable[[Sequence[Click]], Array]:
        """Makes an input of the model from clicks."""
        if name == self._features.timestamp_name:
            return lambda clicks: np.array([click.time // 1_000_000 for click in clicks], np.int64)
        column = self._features.root.get(name)
        if rank == 2:
            separator, most = (column.separator, column.max_values) if isinstance(column, MultiValued) else ("|", 16)
            return lambda clicks: _lists([click.fields.get(name) for click in clicks], separator, most)
        if dtype == "string":
            return lambda clicks: _texts([click.fields.get(name) for click in clicks])
        missing: float = -1 if dtype == "int64" else math.nan

        def numbers(clicks: Sequence[Click]) -> Array:
            values = [click.features.get(name) for click in clicks]
            if None in values:
                values = [
                    click.fields.get(name, missing) if value is None else value  # type: ignore[misc]
                    for click, value in zip(clicks, values, strict=True)
                ]
            return np.array(values, dtype)

        return numbers

    def _tell_once(self, text: str) -> None:
        """Says a thing once, not with each batch."""
        if text not in self._faults:
            self._faults.add(text)
            logger.warning("%s", text)


def _texts(values: Sequence[str | float | None]) -> Array:
    array = np.empty(len(values), object)
    array[:] = [b"" if value is None else str(value).encode() for value in values]
    return array


def _lists(values: Sequence[str | float | None], separator: str, most: int) -> Array:
    rows = [str(value).split(separator)[:most] if value is not None else [] for value in values]
    width = max([1, *map(len, rows)])
    array = np.full((len(rows), width), b"", object)
    for index, row in enumerate(rows):
        array[index, : len(row)] = [one.encode() for one in row]
    return array
