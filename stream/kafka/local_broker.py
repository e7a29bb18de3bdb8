"""A broker of this machine: Apache Kafka in KRaft mode as one Java process, for the demo and for tests.

Its jars come from Maven Central, in the versions and with the checksums of `jars.py`, once for each user. One broker
has no replicas: it is nothing to keep data in.
"""

from __future__ import annotations

import base64
import contextlib
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from adclick.schema.errors import AdclickError
from adclick.stream.java import java_program
from adclick.stream.kafka.jars import JARS

_START_SECONDS = 120
_STOP_SECONDS = 30
#: Below it, ports are well-known services' own.
_LOWEST_PORT = 10_000
_TRIED_PORTS = 100
_HEAP = "384m"
_LOGGING = """\
Configuration:
  Appenders:
    Console:
      name: console
      PatternLayout: {pattern: "%d{HH:mm:ss,SSS} %-5p %c{1} - %m%n"}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: console}}
"""


def broker_jars(tell: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the broker's jars, see `PinnedJars.fetched`."""
    return JARS.fetched(tell)


class LocalBroker:
    """A broker and controller in one process, at a port of this machine.

    Attributes:
        bootstrap_servers: Where clients find it.
        config_file: Its settings; of a key that stands twice the last holds.
        log_file: What it writes.

    Args:
        folder: Config, log and data.
        port: Where it listens; a free port if 0.
        tell: Is told before something takes long.

    Raises:
        ConfigError: Java or Maven are missing, see `java_program` and `PinnedJars`.
    """

    def __init__(self, folder: Path, port: int = 0, tell: Callable[[str], None] = lambda _: None) -> None:
        self._java = java_program()
        self._class_path = f"{broker_jars(tell)}/*"
        self._tell = tell
        self._folder = folder
        self._port = port or lasting_port()
        controller = lasting_port(other_than=self._port)
        self.bootstrap_servers = f"127.0.0.1:{self._port}"
        self.log_file = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log4j2.yaml").write_text(_LOGGING)
        self.config_file = folder / "server.properties"
        self.config_file.write_text(_properties(self._port, controller, folder / "data"))

    def start(self) -> None:
        """Starts it, or starts it again with the data that it has, and waits until it answers.

        Raises:
            AdclickError: It does not start.
        """
        self._tell("Starting Apache Kafka on this machine …")
        if not (self._folder / "data" / "meta.properties").exists():
            format_storage = ["-XX:TieredStopAtLevel=1", "-cp", self._class_path, "kafka.tools.StorageTool", "format"]
            done = subprocess.run(
                [self._java, *format_storage, "--standalone", "-t", new_cluster_id(), "-c", str(self.config_file)],
                capture_output=True,
                text=True,
                timeout=_START_SECONDS,
            )
            if done.returncode:
                raise AdclickError(f"Apache Kafka cannot make its storage: {(done.stdout + done.stderr)[-600:]}")
        options = [
            f"-Xmx{_HEAP}",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}",
        ]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._java, *options, "-cp", self._class_path, "kafka.Kafka", str(self.config_file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Ctrl+C ends the command, which ends the broker after it has finished with it.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AdclickError(f"Apache Kafka does not start: {_tail(self.log_file)}", f"Log: {self.log_file}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """Ends it at once, as a machine that is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def stop(self) -> None:
        """Ends it in order; at once where that takes too long."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self.kill()


def new_cluster_id(draw: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """A cluster's id in Kafka's letters; as `org.apache.kafka.common.Uuid` never one that reads as an option."""
    while (cluster := base64.urlsafe_b64encode(draw().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster


@contextlib.contextmanager
def local_broker(folder: Path, port: int = 0, tell: Callable[[str], None] = lambda _: None) -> Iterator[LocalBroker]:
    """A running broker until the block ends; see `LocalBroker`."""
    broker = LocalBroker(folder, port, tell)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def _properties(port: int, controller_port: int, data: Path) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        # One broker: nothing has a second copy.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def lasting_port(other_than: int = 0) -> int:
    """A free port that stays free while who listens there is ended and started again.

    It is none of those that outgoing connections are given (`ip_local_port_range` in Linux's ip-sysctl), where there
    are others.

    Args:
        other_than: A port that is spoken for already.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lasting = [port for port in range(_LOWEST_PORT, lowest) if port != other_than]
    for port in random.SystemRandom().sample(lasting, min(_TRIED_PORTS, len(lasting))):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(file: Path, size: int = 600) -> str:
    return file.read_bytes()[-size:].decode(errors="replace").strip()
