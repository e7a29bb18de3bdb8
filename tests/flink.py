"""A real Flink cluster of separate processes: one job manager and task managers, without Docker.

Flink's jars come in PyPI's apache-flink-libraries, which has no start scripts: the memory that they would compute is
given here. Beam's runner for Flink comes from Maven Central; its modules are put together to the one jar that Beam's
`--flink_job_server_jar` wants, less Flink's own classes, which the cluster has.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.beam import running, worker_pool
from tests.gcs import free_port, locked, run_or_skip, tools_folder

FLINK = "apache-flink-libraries==1.19.3"
#: Maven Central has it for the same Flink; portable pipelines are the same in Beam 2.61.
BEAM_RUNNER = ("org.apache.beam", "beam-runners-flink-1.19", "2.62.0")
SLOTS = 2

_WORKER_POOL_HOST = "worker-pool"
_RUNTIME = "org.apache.flink.runtime"
_OPENS = [
    f"--add-{what}"
    for what in (
        *(f"exports=java.base/{name}=ALL-UNNAMED" for name in ("sun.net.util",)),
        *(f"exports=java.rmi/{name}=ALL-UNNAMED" for name in ("sun.rmi.registry",)),
        *(
            f"opens=java.base/{name}=ALL-UNNAMED"
            for name in (
                *("java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text"),
                *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
                "java.util.concurrent.locks",
            )
        ),
    )
]
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""
_TASK_MANAGER = {
    "taskmanager.cpu.cores": "1",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.network.min": "192m",
    "taskmanager.memory.network.max": "192m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}


def flink_folder() -> Path:
    """The folder of Flink's jars; skips the test where they cannot be had."""
    folder = tools_folder() / FLINK.replace("==", "-")
    with locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            work = folder.with_suffix(".partial")
            shutil.rmtree(work, ignore_errors=True)
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
            run_or_skip([*download, "--dest", str(work), FLINK], "Flink's jars cannot be had")
            (archive,) = work.glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                for member in packed:
                    if member.name.endswith(".jar") and "/lib/" in member.name:
                        member.name = Path(member.name).name
                        packed.extract(member, work, filter="data")
            archive.unlink()
            work.rename(folder)
    return folder


def job_server_jar() -> Path:
    """Beam's runner for Flink as one jar; skips the test where Maven cannot get it."""
    group, artifact, version = BEAM_RUNNER
    jar = tools_folder() / f"{artifact}-{version}-all.jar"
    with locked(jar.with_suffix(".lock")):
        if not jar.exists():
            folder = jar.with_suffix(".modules")
            folder.mkdir(exist_ok=True)
            (folder / "pom.xml").write_text(
                '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
                "<groupId>adclick.tests</groupId><artifactId>flink-runner</artifactId><version>1</version>"
                f"<dependencies><dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
                f"<version>{version}</version></dependency></dependencies></project>"
            )
            maven = [
                "mvn",
                "--quiet",
                "--batch-mode",
                "--file",
                str(folder / "pom.xml"),
                "dependency:copy-dependencies",
            ]
            options = ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
            run_or_skip([*maven, *options], "Beam's runner for Flink cannot be had")
            partial = jar.with_suffix(".partial")
            _merge([file for file in sorted(folder.glob("*.jar")) if not file.name.startswith("flink-")], partial)
            partial.rename(jar)
            shutil.rmtree(folder)
    return jar


def _merge(modules: list[Path], jar: Path) -> None:
    """One jar of many: their lists of service providers joined, of other files with one name the first."""
    services: dict[str, list[bytes]] = {}
    seen = set()
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
        for module in modules:
            with zipfile.ZipFile(module) as archive:
                for name in archive.namelist():
                    if name.endswith(("/", ".SF", ".DSA", ".RSA", "module-info.class", "MANIFEST.MF")):
                        continue
                    if name.startswith("META-INF/services/"):
                        services.setdefault(name, []).append(archive.read(name))
                    elif name not in seen:
                        seen.add(name)
                        merged.writestr(name, archive.read(name))
        for name, providers in services.items():
            merged.writestr(name, b"\n".join(providers))


@dataclass
class Cluster:
    """A running Flink cluster.

    Attributes:
        address: Of the job manager's REST API, as host:port.
        folder: Config and logs.
        java: How a process of Flink is started.
        stack: What ends with the cluster.
        worker_pool_port: Where each task manager finds its own pool of Python workers.
        task_managers: Their processes, by the name that Flink has for them.
    """

    address: str
    folder: Path
    java: list[str]
    stack: ExitStack
    worker_pool_port: int = field(default_factory=free_port)
    task_managers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def worker_pool(self) -> str:
        """What `environment_config` must say."""
        return f"{_WORKER_POOL_HOST}:{self.worker_pool_port}"

    def add_task_manager(self) -> None:
        """Starts another and waits until the job manager knows it."""
        number = len(list(self.folder.glob("task-manager-*.log")))
        name, port = f"task-manager-{number}", free_port()
        hosts = self.folder / f"{name}.hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{self._start_worker_pool(name, number)} {_WORKER_POOL_HOST}\n")
        command = [*self.java, f"-Djdk.net.hosts.file={hosts}", "-Xmx512m", "-XX:MaxMetaspaceSize=256m"]
        command += [f"{_RUNTIME}.taskexecutor.TaskManagerRunner"]
        settings = {
            **_TASK_MANAGER,
            "taskmanager.resource-id": name,
            "taskmanager.rpc.port": str(port),
            "taskmanager.host": "localhost",
        }
        command += ["--configDir", str(self.folder)]
        command += [part for key, value in settings.items() for part in ("-D", f"{key}={value}")]
        process = self.stack.enter_context(running(command, port, self.folder / f"{name}.log"))
        wait_until(lambda: name in self.busy_slots(), f"{name} is not known to the job manager")
        self.task_managers[name] = process

    def _start_worker_pool(self, name: str, number: int) -> str:
        """Starts a task manager's own pool and gives the address at which only it finds the pool.

        On machines of their own all would say `localhost`. Workers' names are told apart within a task manager only, so
        that one pool for two would stop the wrong worker.
        """
        pool = self.stack.enter_context(worker_pool(self.folder / name))
        address = f"127.0.0.{number + 2}"
        self.stack.enter_context(_forwarding((address, self.worker_pool_port), int(pool.rpartition(":")[2])))
        return address

    def kill_task_manager(self, name: str) -> None:
        """Ends one as a lost machine ends."""
        process = self.task_managers.pop(name)
        process.kill()
        process.wait(60)

    def busy_slots(self) -> dict[str, int]:
        """How many slots of each task manager have work."""
        known = self.get("taskmanagers")["taskmanagers"]
        return {manager["id"]: manager["slotsNumber"] - manager["freeSlots"] for manager in known}

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, the oldest first."""
        return sorted(self.get("jobs/overview")["jobs"], key=lambda job: int(job["start-time"]))

    def failures(self, job: str) -> list[str]:
        """The failures that a job has come through, or ended with."""
        history = self.get(f"jobs/{job}/exceptions")["exceptionHistory"]
        return [entry["stacktrace"].partition("\n")[0] for entry in history["entries"]]

    def get(self, path: str) -> dict[str, Any]:
        return dict(httpx.get(f"http://{self.address}/v1/{path}", trust_env=False, timeout=120).json())


def wait_until(condition: Callable[[], Any], failure: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)


@contextmanager
def _forwarding(address: tuple[str, int], port: int) -> Iterator[None]:
    """Passes what comes to an address on to a port of this machine."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_copy, args=(server, self.request), daemon=True)
                back.start()
                _copy(self.request, server)
                back.join(60)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A task manager that was killed is no fault here."""

    with Server(address, Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def check_java() -> None:
    """Skips the test where Java or Maven are missing."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"a Flink cluster needs {program}, which this machine lacks")


@contextmanager
def flink_cluster(folder: Path, task_managers: int = 2) -> Iterator[Cluster]:
    """Runs a cluster until the block ends."""
    check_java()
    jars = flink_folder()
    folder.mkdir(parents=True, exist_ok=True)
    rest = free_port()
    settings = {
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": str(free_port()),
        "jobmanager.memory.heap.size": "512m",
        "rest.port": str(rest),
        "rest.address": "localhost",
        "rest.bind-address": "127.0.0.1",
        "io.tmp.dirs": str(folder),
        "web.upload.dir": str(folder / "uploads"),
        "taskmanager.numberOfTaskSlots": str(SLOTS),
        "cluster.evenly-spread-out-slots": "true",
        # A task manager that is gone is noticed in seconds, and its work done again.
        "heartbeat.interval": "2000",
        "heartbeat.timeout": "60000",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "20",
        "restart-strategy.fixed-delay.delay": "1 s",
    }
    (folder / "flink-conf.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    (folder / "log4j.properties").write_text(_LOGGING)
    java = ["java", *_OPENS, f"-Dlog4j.configurationFile={folder / 'log4j.properties'}", "-cp", f"{jars}/*"]
    manager = [*java, "-Xmx512m", f"{_RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"]
    with ExitStack() as stack:
        stack.enter_context(running([*manager, "--configDir", str(folder)], rest, folder / "job-manager.log"))
        cluster = Cluster(f"localhost:{rest}", folder, java, stack)
        for _ in range(task_managers):
            cluster.add_task_manager()
        yield cluster
