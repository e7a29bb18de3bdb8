"""Who is told of alerts: a webhook, and Prometheus' Alertmanager."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from adclick.schema.errors import ConfigError
from adclick.schema.times import microseconds_of
from adclick.stream.settings import AlertmanagerSettings, AlertsSettings, WebhookSettings

logger = logging.getLogger(__name__)

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 30.0
_ALERT_NAME = "AdclickSuspiciousClicks"


class Undelivered(Exception):
    """A receiver did not take an alert, however often it was tried."""


class _TryAgain(Exception):
    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class AlertReceiver(Protocol):
    """Is told of each revision of each alert, in their order."""

    name: str

    def deliver(self, alert: Mapping[str, Any], body: bytes) -> None:
        """Tells a revision; takes as long as it is tried again.

        Args:
            alert: The revision, as `Alert.document` gives it.
            body: The same as JSON.

        Raises:
            Undelivered: It refused, or did not answer for long enough.
        """

    def close(self) -> None:
        """Frees connections."""


class _Poster:
    """Posts, and posts again what a server that is away or busy did not take."""

    def __init__(self, url: str, timeout_seconds: float, retry_seconds: float) -> None:
        self._url = url
        # The environment's proxies are for the world outside; receivers of alerts mostly stand inside.
        self._http = httpx.Client(timeout=timeout_seconds, trust_env=False)
        self._retrying = Retrying(
            stop=stop_after_delay(retry_seconds),
            wait=_wait,
            retry=retry_if_exception_type(_TryAgain),
            reraise=True,
        )

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            for attempt in self._retrying.copy():
                with attempt:
                    self._once(body, headers)
        except _TryAgain as error:
            raise Undelivered(f"{self._url}: {error}") from None

    def _once(self, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            answer = self._http.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise _TryAgain(f"cannot be reached: {error or type(error).__name__}") from None
        if answer.status_code in _RETRIED:
            after = answer.headers.get("retry-after", "")
            raise _TryAgain(f"answers with status {answer.status_code}", float(after) if after.isdecimal() else 0.0)
        if not answer.is_success:
            raise Undelivered(f"{self._url}: refuses with status {answer.status_code}: {answer.text[:200]}")

    def close(self) -> None:
        self._http.close()


def _wait(state: RetryCallState) -> float:
    """Twice as long each time, and not before the receiver said."""
    failed = state.outcome.exception() if state.outcome is not None else None
    after = failed.after if isinstance(failed, _TryAgain) else 0.0
    waited = wait_exponential_jitter(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, jitter=_FIRST_WAIT_SECONDS)(state)
    return max(min(after, _LONGEST_WAIT_SECONDS), waited)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a request: HMAC-SHA256 (RFC 2104) over `TIMESTAMP.BODY`, in hexadecimal.

    The time is signed too, so that a receiver can refuse what was recorded long ago.
    """
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Posts alerts as JSON, signed.

    Each attempt bears `Idempotency-Key`, the same for the same revision; `X-Adclick-Timestamp`, seconds since 1970;
    and, with a secret, `X-Adclick-Signature: sha256=…`, see `signature`.

    Raises:
        ConfigError: The secret cannot be read, or is empty.
    """

    name = "webhook"

    def __init__(self, settings: WebhookSettings) -> None:
        self._poster = _Poster(settings.url, settings.timeout_seconds, settings.retry_seconds)
        self._secret = b""
        if settings.secret_file is not None:
            try:
                self._secret = settings.secret_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError(
                    f"{settings.secret_file}: cannot be read: {error.strerror}",
                    "Correct stream.alerts.webhook.secret_file.",
                ) from None
            if not self._secret:
                raise ConfigError(f"{settings.secret_file}: holds no secret", "Write one: openssl rand -hex 32")

    def deliver(self, alert: Mapping[str, Any], body: bytes) -> None:
        """As `AlertReceiver.deliver`."""
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "idempotency-key": f"{alert['id']}-{alert['revision']}",
            "x-adclick-timestamp": timestamp,
        }
        if self._secret:
            headers["x-adclick-signature"] = f"sha256={signature(self._secret, timestamp, body)}"
        self._poster.post(body, headers)

    def close(self) -> None:
        """As `AlertReceiver.close`."""
        self._poster.close()


class Alertmanager:
    """Posts alerts to Alertmanager's API, version 2.

    An open alert lasts there for twice `alerts.quiet` after its last revision, and is resolved when it closes.
    """

    name = "alertmanager"

    def __init__(self, settings: AlertmanagerSettings, quiet: str) -> None:
        self._poster = _Poster(f"{settings.url.rstrip('/')}/api/v2/alerts", 5.0, 300.0)
        self._labels = settings.labels
        self._lasts = timedelta(microseconds=2 * microseconds_of(quiet))

    def deliver(self, alert: Mapping[str, Any], body: bytes) -> None:
        """As `AlertReceiver.deliver`."""
        import orjson

        self._poster.post(orjson.dumps([self._form(alert)]), {"content-type": "application/json"})

    def _form(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC)
        begun = min(now, datetime.fromisoformat(alert["first_time"]))
        ends = now if alert["state"] == "closed" else now + self._lasts
        entity = {f"entity_{_label(column)}": value for column, value in alert["entity"].items()}
        evidence = "; ".join(f"{one['column']} = {one['value']}" for one in alert["evidence"])
        annotations = {
            "summary": alert["title"],
            "evidence": evidence,
            "mean_fraud_probability": f"{alert['mean_probability']:.4f}",
            "last_click": alert["last_click"],
        }
        return {
            "labels": {"alertname": _ALERT_NAME, "severity": "ticket", "wave": alert["id"], **entity, **self._labels},
            "annotations": {name: text for name, text in annotations.items() if text},
            "startsAt": begun.isoformat(),
            "endsAt": ends.isoformat(),
        }

    def close(self) -> None:
        """As `AlertReceiver.close`."""
        self._poster.close()


def _label(column: str) -> str:
    """A column's name as Prometheus allows it in the name of a label."""
    return "".join(one if one.isascii() and (one.isalnum() or one == "_") else "_" for one in column)


def receivers_of(settings: AlertsSettings) -> list[AlertReceiver]:
    """Those that a config names.

    Raises:
        ConfigError: A secret cannot be read.
    """
    found: list[AlertReceiver] = []
    if settings.webhook.url:
        found.append(Webhook(settings.webhook))
    if settings.alertmanager.url:
        found.append(Alertmanager(settings.alertmanager, settings.quiet))
    return found
