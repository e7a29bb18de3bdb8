"""Who is told: a webhook, an MQTT broker; each by a thread of its own that sends what waits in the outbox."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import random
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from .errors import EdgeError
from .log import Log
from .outbox import Message, Outbox

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 60.0
#: A message that is refused so will always be; anything else is tried again, for as long as it takes.
_REFUSALS = frozenset({400, 413, 422})
_MOST_ANSWERED = 1 << 20
#: So many bytes of reports may lie in a folder until somebody collects them; what is more waits in the outbox.
_MOST_COLLECTED = 64 << 20


class ReportUndelivered(Exception):
    """A receiver did not take a message; it is tried again."""


class DeviceReceiver(Protocol):
    """Takes messages.

    Attributes:
        name: Its name in the outbox.
        at_once: How many messages it takes together at most.
    """

    name: str
    at_once: int

    def deliver(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """Delivers messages.

        Returns:
            By number, why it will never take one.

        Raises:
            Undelivered: They were not taken, or nobody knows.
        """

    def close(self) -> None:
        """Frees connections."""


def read_secret(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        EdgeError: There is none.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise EdgeError(f"{path}: cannot be read: {error.strerror}", "Name the secret's file.") from None
    if not secret:
        raise EdgeError(f"{path}: holds no secret", "Write one: openssl rand -hex 32")
    return secret


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a request: HMAC-SHA256 (RFC 2104) over `TIMESTAMP.BODY`, in hexadecimal.

    The same as that of the stream's alerts.
    """
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _Refused(Exception):
    """A receiver will never take what was posted."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body; it counts as an answer instead."""

    def redirect_request(self, *_: Any) -> None:
        return None


class DeviceWebhook:
    """Posts messages as JSON, signed.

    Each attempt bears `Idempotency-Key`, the same for the same message; `X-Adclick-Timestamp`, seconds since 1970; and,
    with a secret, `X-Adclick-Signature: sha256=…`, see `signature`.

    Args:
        url: Where to post.
        secret: Signs; empty for no signature.
        certificates: A file of authorities to trust for https instead of the system's.
        headers: Further headers.
    """

    def __init__(
        self,
        url: str,
        secret: bytes = b"",
        certificates: Path | None = None,
        headers: dict[str, str] | None = None,
        name: str = "webhook",
        timeout_seconds: float = 10.0,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise EdgeError(f"{url}: no address of a webhook", "Give one that begins with https:// or http://.")
        self.name = name
        self.at_once = 1
        self._url, self._secret, self._headers = url, secret, headers or {}
        self._timeout = timeout_seconds
        context = ssl.create_default_context(cafile=str(certificates) if certificates else None)
        # The environment's proxies are for the world outside; receivers mostly stand inside.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect
        )

    def deliver(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """As `DeviceReceiver.deliver`."""
        for message in messages:
            try:
                self.post(message.body, {"idempotency-key": message.key})
            except _Refused as error:
                return {message.number: str(error)}
        return {}

    def post(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Posts a body; gives the answer's.

        Raises:
            Undelivered: It was not taken, or nobody knows.
        """
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "x-adclick-timestamp": timestamp,
            **headers,
            **self._headers,
        }
        if self._secret:
            headers["x-adclick-signature"] = f"sha256={signature(self._secret, timestamp, body)}"
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return bytes(answer.read(_MOST_ANSWERED))
        except urllib.error.HTTPError as error:
            with error:
                kind = _Refused if error.code in _REFUSALS else ReportUndelivered
                raise kind(f"{self._url}: status {error.code}: {error.read(200)!r}") from None
        except (OSError, http.client.HTTPException) as error:
            raise ReportUndelivered(f"{self._url}: {error or type(error).__name__}") from None

    def close(self) -> None:
        """As `DeviceReceiver.close`."""


class GatewayReceiver:
    """Posts reports to `POST /v1/edge/reports` of adclick's gateway, many at once, by the device's API key.

    Args:
        url: The gateway's address, such as https://gateway.example.
        key: The device's key.
        certificates: As for `DeviceWebhook`.
    """

    name = "gateway"
    at_once = 100

    def __init__(self, url: str, key: str, certificates: Path | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._webhook = DeviceWebhook(f"{url.rstrip('/')}/v1/edge/reports", b"", certificates, headers)

    def deliver(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """As `DeviceReceiver.deliver`."""
        reports = [{"type": message.kind, **json.loads(message.body)} for message in messages]
        body = json.dumps({"reports": reports}, ensure_ascii=False).encode()
        try:
            answer = json.loads(self._webhook.post(body, {}))
            reasons = {str(each["key"]): str(each["reason"]) for each in answer["refused"]}
        except _Refused as error:
            return {message.number: str(error) for message in messages}
        except (ValueError, KeyError, TypeError) as error:
            raise ReportUndelivered(f"the gateway's answer is none: {error!r}") from None
        return {message.number: reasons[message.key] for message in messages if message.key in reasons}

    def close(self) -> None:
        """As `DeviceReceiver.close`."""


class Folder:
    """Writes reports as files, for a device that cannot call: `FOLDER/DEVICE/KEY.json`, and `heartbeat.json`, the last.

    Whoever collects a file removes it.
    """

    name = "folder"
    at_once = 1

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder / "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in device)

    def deliver(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """As `DeviceReceiver.deliver`."""
        for message in messages:
            name = "heartbeat" if message.kind == "heartbeat" else message.key
            report = json.dumps({"type": message.kind, **json.loads(message.body)}, ensure_ascii=False).encode()
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                lying = sum(file.stat().st_size for file in self._folder.iterdir())
                if lying + len(report) > _MOST_COLLECTED:
                    raise ReportUndelivered(f"{self._folder}: {lying} bytes of reports that nobody collected")
                partial = self._folder / f".{name}.partial"
                with open(partial, "wb") as file:
                    file.write(report)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, self._folder / f"{name}.json")
            except OSError as error:
                with contextlib.suppress(OSError):
                    (self._folder / f".{name}.partial").unlink()
                raise ReportUndelivered(f"{self._folder}: {error}") from None
        return {}

    def close(self) -> None:
        """As `DeviceReceiver.close`."""


@dataclass(frozen=True)
class Broker:
    """An MQTT broker.

    Attributes:
        url: `mqtt://HOST[:1883]/PREFIX` or `mqtts://HOST[:8883]/PREFIX`; the prefix is `adclick/edge` if left out.
        user: The login, or an empty string.
        password: The password.
        certificates: A file of authorities to trust instead of the system's.
    """

    url: str
    user: str = ""
    password: str = ""
    certificates: Path | None = None


class Mqtt:
    """Publishes messages at quality of service 1 below `PREFIX/DEVICE/alerts` and `PREFIX/DEVICE/plays` (MQTT 3.1.1).

    A message counts as taken when the broker has acknowledged it. The idempotency key is `key` in the body.
    """

    name = "mqtt"
    at_once = 1

    def __init__(self, broker: Broker, device: str, timeout_seconds: float = 10.0) -> None:
        address = urlsplit(broker.url)
        if address.scheme not in ("mqtt", "mqtts") or not address.hostname:
            raise EdgeError(f"{broker.url}: no broker", "Give mqtts://HOST:8883/PREFIX or mqtt://HOST:1883/PREFIX.")
        try:
            import paho.mqtt.client  # noqa: F401
        except ImportError:
            raise EdgeError("MQTT needs paho-mqtt", "pip install 'adclick-edge[mqtt]'") from None
        self._broker, self._device, self._timeout = broker, device, timeout_seconds
        self._tls = address.scheme == "mqtts"
        self._host, self._port = address.hostname, address.port or (8883 if self._tls else 1883)
        self._prefix = address.path.strip("/") or "adclick/edge"
        self._client: Any = None

    def deliver(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """As `DeviceReceiver.deliver`."""
        for message in messages:
            self._publish(message)
        return {}

    def _publish(self, message: Message) -> None:
        try:
            if self._client is None:
                self._client = self._connect()
            topic = f"{self._prefix}/{self._device}/{message.kind}s"
            sent = self._client.publish(topic, message.body, qos=1)
            sent.wait_for_publish(self._timeout)
            if not sent.is_published():
                raise ReportUndelivered(f"{self._broker.url}: no acknowledgement in {self._timeout:g} s")
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise ReportUndelivered(f"{self._broker.url}: {error or type(error).__name__}") from None
        except ReportUndelivered:
            self.close()
            raise

    def _connect(self) -> Any:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        answered = threading.Event()
        answers: list[Any] = []

        def connected(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            answers.append(reason)
            answered.set()

        client = Client(CallbackAPIVersion.VERSION2, client_id=f"adclick-edge-{self._device}")
        client.on_connect = connected
        if self._broker.user:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._tls:
            certificates = self._broker.certificates
            client.tls_set(str(certificates) if certificates else None)
        client.connect(self._host, self._port, keepalive=30)
        client.loop_start()
        if not answered.wait(self._timeout) or answers[0].is_failure:
            client.disconnect()
            client.loop_stop()
            raise ReportUndelivered(f"{self._broker.url}: {answers[0] if answers else 'no answer'}")
        return client

    def close(self) -> None:
        """As `DeviceReceiver.close`."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()


class Courier:
    """A thread that takes what waits for a receiver to it, in order, for as long as it takes.

    Attributes:
        refused: Messages that the receiver will never take; each is in the log whole.
    """

    def __init__(self, outbox: Outbox, receiver: DeviceReceiver, log: Log) -> None:
        self._outbox, self._receiver, self._log = outbox, receiver, log
        self.refused = 0
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"courier-{receiver.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that something new waits; a wait between two attempts goes on."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Lets it deliver what waits, for at most so long; what then waits is sent after the next start."""
        ends = time.monotonic() + seconds
        self.wake()
        while time.monotonic() < ends and self._thread.is_alive() and self._has_work():
            time.sleep(0.02)
        self._stopped.set()
        self._wake.set()
        self._thread.join(max(0.1, ends - time.monotonic()))

    def _has_work(self) -> bool:
        try:
            return self._outbox.next_for(self._receiver.name) is not None
        except sqlite3.Error:
            return False

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                messages = self._outbox.batch_for(self._receiver.name, self._receiver.at_once)
                if not messages:
                    self._wake.wait(1.0)
                    continue
                self._take(messages)
                failures = 0
            except (ReportUndelivered, sqlite3.Error) as error:
                failures += 1
                if failures & (failures - 1) == 0:
                    # At each power of two: a week without a network is no flood in the log.
                    self._log.write("undelivered", receiver=self._receiver.name, attempts=failures, reason=str(error))
                wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(failures, 12))
                self._stopped.wait(wait * random.uniform(0.5, 1.0))
        self._receiver.close()

    def _take(self, messages: Sequence[Message]) -> None:
        refusals = self._receiver.deliver(messages)
        for message in messages:
            if message.number in refusals:
                self.refused += 1
                reason = refusals[message.number]
                self._log.write(
                    "refused", receiver=self._receiver.name, reason=reason, key=message.key, body=message.body.decode()
                )
            self._outbox.taken(self._receiver.name, message.number)
