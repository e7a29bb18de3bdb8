"""Who is told: a webhook, an MQTT broker; each by a thread of its own that sends what waits in the outbox."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import random
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
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


class Undelivered(Exception):
    """A receiver did not take a message; it is tried again."""


class Refused(Exception):
    """A receiver will never take this message."""


class Receiver(Protocol):
    """Takes messages."""

    name: str

    def deliver(self, message: Message) -> None:
        """Delivers a message.

        Raises:
            Undelivered: It was not taken, or nobody knows.
            Refused: It will never be taken.
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body; it counts as an answer instead."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
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
        self._url, self._secret, self._headers = url, secret, headers or {}
        self._timeout = timeout_seconds
        context = ssl.create_default_context(cafile=str(certificates) if certificates else None)
        # The environment's proxies are for the world outside; receivers mostly stand inside.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect
        )

    def deliver(self, message: Message) -> None:
        """As `Receiver.deliver`."""
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "idempotency-key": message.key,
            "x-adclick-timestamp": timestamp,
            **self._headers,
        }
        if self._secret:
            headers["x-adclick-signature"] = f"sha256={signature(self._secret, timestamp, message.body)}"
        request = urllib.request.Request(self._url, message.body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                kind = Refused if error.code in _REFUSALS else Undelivered
                raise kind(f"{self._url}: status {error.code}: {error.read(200)!r}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(f"{self._url}: {error or type(error).__name__}") from None

    def close(self) -> None:
        """As `Receiver.close`."""


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

    def deliver(self, message: Message) -> None:
        """As `Receiver.deliver`."""
        try:
            if self._client is None:
                self._client = self._connect()
            topic = f"{self._prefix}/{self._device}/{message.kind}s"
            sent = self._client.publish(topic, message.body, qos=1)
            sent.wait_for_publish(self._timeout)
            if not sent.is_published():
                raise Undelivered(f"{self._broker.url}: no acknowledgement in {self._timeout:g} s")
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise Undelivered(f"{self._broker.url}: {error or type(error).__name__}") from None
        except Undelivered:
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
            raise Undelivered(f"{self._broker.url}: {answers[0] if answers else 'no answer'}")
        return client

    def close(self) -> None:
        """As `Receiver.close`."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()


class Courier:
    """A thread that takes what waits for a receiver to it, in order, for as long as it takes.

    Attributes:
        refused: Messages that the receiver will never take; each is in the log whole.
    """

    def __init__(self, outbox: Outbox, receiver: Receiver, log: Log) -> None:
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
                message = self._outbox.next_for(self._receiver.name)
                if message is None:
                    self._wake.wait(1.0)
                    continue
                self._take(message)
                failures = 0
            except (Undelivered, sqlite3.Error) as error:
                failures += 1
                if failures & (failures - 1) == 0:
                    # At each power of two: a week without a network is no flood in the log.
                    self._log.write("undelivered", receiver=self._receiver.name, attempts=failures, reason=str(error))
                wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(failures, 12))
                self._stopped.wait(wait * random.uniform(0.5, 1.0))
        self._receiver.close()

    def _take(self, message: Message) -> None:
        try:
            self._receiver.deliver(message)
        except Refused as error:
            self.refused += 1
            self._log.write(
                "refused", receiver=self._receiver.name, reason=str(error), key=message.key, body=message.body.decode()
            )
        self._outbox.taken(self._receiver.name, message.number)
