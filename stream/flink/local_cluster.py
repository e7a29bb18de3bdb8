"""A cluster of this machine: Flink's job manager and task managers as Java processes, to try it and for tests.

Flink's jars are those of PyFlink's package, which has start scripts for machines of its own only: the memory that they
would compute is given here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from adclick.schema.errors import AdclickError
from adclick.stream.flink.package import flink_home
from adclick.stream.flink.rest import ClusterUnreachable, FlinkCluster
from adclick.stream.java import java_program

_START_SECONDS = 180.0
_STOP_SECONDS = 30.0
_RUNTIME = "org.apache.flink.runtime"
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""
_CLUSTER = {
    "jobmanager.memory.heap.size": "384m",
    # Those of a live task manager may be late on a busy machine; one whose process has ended is noticed at once.
    "heartbeat.interval": "5000",
    "heartbeat.timeout": "60000",
    "pekko.startup-timeout": "120 s",
    "pekko.ask.timeout": "60 s",
    "taskmanager.cpu.cores": "2",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}


class LocalCluster:
    """A job manager and task managers, at ports of this machine.

    Attributes:
        cluster: Where it is asked.
        folder: Settings and logs.
        task_managers: The processes of the task managers, by name.

    Args:
        folder: Settings and logs.
        slots: How many tasks of a kind a task manager runs beside each other.
        port: Of the REST API; a free port if 0.
        tell: Is told before something takes long.

    Raises:
        ConfigError: Java or PyFlink is missing.
    """

    def __init__(
        self, folder: Path, slots: int = 1, port: int = 0, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        home = flink_home()
        self._java = java_program("Apache Flink")
        self._tell = tell
        self.folder = folder
        self.cluster = FlinkCluster("127.0.0.1", port or _free_port())
        self.task_managers: dict[str, subprocess.Popen[bytes]] = {}
        self._job_manager: subprocess.Popen[bytes] | None = None
        self._started = 0
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.rpc.port": _free_port(),
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.cluster.port,
            "io.tmp.dirs": folder,
            "web.upload.dir": folder / "uploads",
            "taskmanager.numberOfTaskSlots": slots,
            **_CLUSTER,
        }
        (folder / "config.yaml").write_text("".join(f'{name}: "{value}"\n' for name, value in settings.items()))
        (folder / "log4j.properties").write_text(_LOGGING)
        self._command = [
            self._java,
            *_java_options(home),
            f"-Dlog4j.configurationFile={folder / 'log4j.properties'}",
            "-XX:+UseSerialGC",
            "-cp",
            f"{home / 'lib'}/*",
        ]

    def start(self, task_managers: int = 1) -> None:
        """Starts it and waits until it is ready.

        Raises:
            AdclickError: It does not start.
        """
        self._tell("Starting Apache Flink on this machine …")
        main = f"{_RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"
        self._job_manager = self._run(["-Xmx384m"], main, [], "job-manager")
        self._wait(lambda: bool(self.cluster.get("overview")), self._job_manager, "job-manager")
        for _ in range(task_managers):
            self.add_task_manager()

    def add_task_manager(self) -> str:
        """Starts another one, and says its name.

        Raises:
            AdclickError: It does not start.
        """
        name = f"task-manager-{self._started}"
        self._started += 1
        options = ["-Xmx512m", "-XX:MaxMetaspaceSize=256m", "-XX:MaxDirectMemorySize=256m"]
        settings = {"taskmanager.resource-id": name, "taskmanager.host": "127.0.0.1"}
        arguments = [part for key, value in settings.items() for part in ("-D", f"{key}={value}")]
        process = self._run(options, f"{_RUNTIME}.taskexecutor.TaskManagerRunner", arguments, name)
        self.task_managers[name] = process
        self._wait(lambda: name in self._known(), process, name)
        return name

    def kill_task_manager(self, name: str) -> None:
        """Ends one with its Python processes, as a machine that is lost."""
        _kill(self.task_managers.pop(name))

    def kill(self) -> None:
        """Ends all at once."""
        for name in list(self.task_managers):
            self.kill_task_manager(name)
        if self._job_manager is not None:
            _kill(self._job_manager)
            self._job_manager = None

    def _known(self) -> set[str]:
        return {manager["id"] for manager in self.cluster.get("taskmanagers")["taskmanagers"]}

    def _run(self, options: list[str], main: str, arguments: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*self._command, *options, main, "--configDir", str(self.folder), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # A group of its own: with it end the Python processes that it starts.
                start_new_session=True,
                env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
            )

    def _wait(self, is_ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(ClusterUnreachable):
                if is_ready():
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                log = self.folder / f"{name}.log"
                end = log.read_bytes()[-1500:].decode(errors="replace").strip()
                raise AdclickError(f"Apache Flink does not start: {end}", f"Log: {log}")
            time.sleep(0.1)


@contextlib.contextmanager
def local_cluster(
    folder: Path, slots: int = 1, task_managers: int = 1, tell: Callable[[str], None] = lambda _: None
) -> Iterator[LocalCluster]:
    """A running cluster until the block ends; see `LocalCluster`."""
    cluster = LocalCluster(folder, slots, tell=tell)
    try:
        cluster.start(task_managers)
        yield cluster
    finally:
        cluster.kill()


def _java_options(home: Path) -> list[str]:
    """What Java must open for Flink, as the package's own settings say it."""
    import yaml

    settings = yaml.safe_load((home / "conf" / "config.yaml").read_text())
    return str(settings["env"]["java"]["opts"]["all"]).split()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
