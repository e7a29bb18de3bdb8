"""A webhook and Alertmanager are told over real sockets: signed, again where they are away, once where they refuse."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.alerts.alert import Alert, alert_bytes
from adclick.stream.alerts.receivers import Alertmanager, AlertReceiver, Undelivered, Webhook, receivers_of
from adclick.stream.clicks import Evidence
from adclick.stream.settings import AlertmanagerSettings, AlertsSettings, WebhookSettings

ALERT = Alert(
    "a" * 32,
    2,
    "open",
    {"publisher id": "p1"},
    1_793_491_200_000_000,
    1_793_491_260_000_000,
    "c1",
    "c9",
    9,
    12,
    4.5,
    0.93,
    0.99,
    7,
    (Evidence("clicks_by_ip", 40.0, 2.5),),
)


class Endpoint:
    """Answers with the given statuses, then with 200; keeps what it got."""

    def __init__(self) -> None:
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                endpoint.requests.append((self.path, headers, body))
                status, extra = endpoint.statuses.pop(0) if endpoint.statuses else (200, {})
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    threading.Thread(target=endpoint.server.serve_forever, daemon=True).start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def deliver(receiver: AlertReceiver, alert: Alert = ALERT) -> None:
    receiver.deliver(alert.document(), alert_bytes(alert))
    receiver.close()


def test_the_webhook_gets_the_alert_signed_under_its_key(endpoint: Endpoint, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    deliver(Webhook(WebhookSettings(url=f"{endpoint.url}/hook", secret_file=secret)))
    ((path, headers, body),) = endpoint.requests
    assert path == "/hook" and json.loads(body) == json.loads(json.dumps(ALERT.document()))
    assert headers["idempotency-key"] == f"{'a' * 32}-2" == ALERT.idempotency_key
    assert abs(int(headers["x-adclick-timestamp"]) - time.time()) < 120
    # As any receiver would check it.
    signed = headers["x-adclick-timestamp"].encode() + b"." + body
    assert headers["x-adclick-signature"] == "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


def test_it_is_tried_again_under_the_same_key(endpoint: Endpoint) -> None:
    endpoint.statuses = [(503, {}), (429, {"retry-after": "1"}), (500, {})]
    begun = time.monotonic()
    deliver(Webhook(WebhookSettings(url=endpoint.url)))
    assert len(endpoint.requests) == 4 and len({headers["idempotency-key"] for _, headers, _ in endpoint.requests}) == 1
    assert time.monotonic() - begun >= 1
    assert "x-adclick-signature" not in endpoint.requests[0][1]


def test_what_is_refused_is_not_tried_again(endpoint: Endpoint) -> None:
    endpoint.statuses = [(400, {})]
    with pytest.raises(Undelivered, match="refuses with status 400"):
        deliver(Webhook(WebhookSettings(url=endpoint.url)))
    assert len(endpoint.requests) == 1


def test_who_stays_away_is_given_up() -> None:
    with pytest.raises(Undelivered, match="cannot be reached"):
        deliver(Webhook(WebhookSettings(url="http://127.0.0.1:1", retry_seconds=0.5)))


@pytest.mark.parametrize("text", [None, "\n"])
def test_a_secret_that_is_none_is_said(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match="secret"):
        receivers_of(AlertsSettings(webhook=WebhookSettings(url="http://x", secret_file=file)))


@pytest.mark.parametrize("state", ["open", "closed"])
def test_alertmanager_gets_labels_and_times_of_its_api(endpoint: Endpoint, state: Any) -> None:
    from dataclasses import replace

    settings = AlertmanagerSettings(url=f"{endpoint.url}/", labels={"team": "traffic"})
    deliver(Alertmanager(settings, "10m"), replace(ALERT, state=state))
    ((path, _, body),) = endpoint.requests
    assert path == "/api/v2/alerts"
    (sent,) = json.loads(body)
    assert sent["labels"] == {
        "alertname": "AdclickSuspiciousClicks",
        "severity": "ticket",
        "wave": "a" * 32,
        "entity_publisher_id": "p1",
        "team": "traffic",
    }
    assert sent["annotations"]["summary"].startswith("Suspicious clicks of publisher id p1: 9 of 12, 4.50")
    assert sent["annotations"]["evidence"] == "clicks_by_ip = 40.0"
    now = datetime.now(UTC)
    starts, ends = (datetime.fromisoformat(sent[name]) for name in ("startsAt", "endsAt"))
    assert starts <= now and starts <= ends
    assert (ends > now) is (state == "open")
