"""A broker of this machine: Apache Kafka in KRaft mode as one Java process, for the demo and for tests.

Its jars come from Maven Central, in the versions and with the checksums of `jars.py`, once for each user. One broker
has no replicas: it is nothing to keep data in.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from schema.errors import AdclickError, ConfigError
from stream.kafka.jars import DEPENDENCIES, KAFKA_VERSION, SHA256

_LEAST_JAVA = 17
_DOWNLOAD_SECONDS = 600
_START_SECONDS = 120
_STOP_SECONDS = 30
#: Below it, ports are well-known services' own.
_LOWEST_PORT = 10_000
_TRIED_PORTS = 100
_HEAP = "384m"
_HOW_TO_GET = "On Debian and Ubuntu: apt-get install openjdk-17-jre-headless maven"
_LOGGING = """\
Configuration:
  Appenders:
    Console:
      name: console
      PatternLayout: {pattern: "%d{HH:mm:ss,SSS} %-5p %c{1} - %m%n"}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: console}}
"""


def cache_folder() -> Path:
    """Where what is fetched is kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adclick"


def broker_jars(tell: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the broker's jars, fetched by Maven the first time and checked each time that they are fetched.

    Args:
        tell: Is told before something takes long.

    Raises:
        ConfigError: Maven is missing, or it cannot fetch them, or they are not those that they should be.
    """
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            maven = shutil.which("mvn")
            if maven is None:
                raise ConfigError("Maven, which fetches Apache Kafka's jars, is not installed (mvn)", _HOW_TO_GET)
            tell(f"Fetching Apache Kafka {KAFKA_VERSION} (44 MB, once) …")
            work = folder.with_suffix(".partial")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            _fetch(maven, work)
            _check(work)
            (work / "pom.xml").unlink()
            work.rename(folder)
    return folder


def _fetch(maven: str, folder: Path) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in DEPENDENCIES
    )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>adclick</groupId><artifactId>kafka-broker</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    command = [maven, "--quiet", "--batch-mode", "--file", str(folder / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"Maven did not fetch Apache Kafka within {_DOWNLOAD_SECONDS} s", "Is Maven Central reachable from here?"
        ) from None
    if done.returncode:
        raise ConfigError(
            f"Maven cannot fetch Apache Kafka: {(done.stdout + done.stderr).strip()[-600:]}",
            "Is Maven Central, or the mirror that ~/.m2/settings.xml names, reachable from here?",
        )


def _check(folder: Path) -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.jar")}
    wrong = sorted(name for name in SHA256.keys() | found.keys() if SHA256.get(name) != found.get(name))
    if wrong:
        raise ConfigError(
            f"what Maven fetched is not Apache Kafka {KAFKA_VERSION} as it should be: {', '.join(wrong)}",
            "A jar's SHA-256 is not the one pinned in stream/kafka/jars.py. Does a mirror alter it?",
        )


def java_program() -> str:
    """The path of Java.

    Raises:
        ConfigError: There is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise ConfigError("Java, which Apache Kafka runs on, is not installed", _HOW_TO_GET)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    with contextlib.suppress(IndexError, ValueError):
        version = said.split('"')[1]
        if int(version.split(".")[0].split("-")[0]) < _LEAST_JAVA:
            raise ConfigError(f"{java} is Java {version}; Apache Kafka needs {_LEAST_JAVA} or newer", _HOW_TO_GET)
    return java


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
        ConfigError: Java or Maven are missing, see `broker_jars`.
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
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            format_storage = ["-XX:TieredStopAtLevel=1", "-cp", self._class_path, "kafka.tools.StorageTool", "format"]
            done = subprocess.run(
                [self._java, *format_storage, "--standalone", "-t", cluster, "-c", str(self.config_file)],
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
