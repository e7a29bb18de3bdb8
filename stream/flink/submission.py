"""Hands the job to a cluster: Flink's own client in a Java process of its own, for as long as that takes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adclick.schema.errors import AdclickError
from adclick.stream.flink.jars import JARS
from adclick.stream.flink.job import FlinkJob, build, job_name
from adclick.stream.flink.package import flink_home
from adclick.stream.flink.rest import FlinkCluster
from adclick.stream.java import java_program
from adclick.stream.settings import FlinkSettings

_MOST_CAUSES = 20


def configuration(settings: FlinkSettings, checkpoints: str) -> dict[str, str]:
    """What Flink is told of the job.

    Args:
        settings: What the config says.
        checkpoints: Where checkpoints are written, a folder or a URI.
    """
    return {
        "parallelism.default": str(settings.parallelism),
        "execution.checkpointing.interval": settings.checkpoint_interval,
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.dir": _uri(checkpoints),
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # A checkpoint that fails is followed by the next; the job goes on.
        "execution.checkpointing.tolerable-failed-checkpoints": "1000",
        "state.backend.type": settings.state_backend,
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        # What waits for its fellows in a buffer or a bundle is late by so much at each step.
        "execution.buffer-timeout.interval": "5 ms",
        "python.fn-execution.bundle.time": "20",
        "python.fn-execution.bundle.size": "5000",
        # The order's and the buckets' states are written together, at the end of a bundle.
        "python.map-state.write-cache-size": "100000",
        "python.executable": settings.python,
        "python.execution-mode": "process",
    }


def check_installed(tell: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The jars that a job needs.

    Args:
        tell: Is told before something takes long.

    Raises:
        ConfigError: Java, Maven or PyFlink is missing, or the connector is not to be had.
    """
    home = flink_home()
    java_program("Apache Flink")
    return [*sorted(JARS.fetched(tell).glob("*.jar")), *sorted((home / "opt").glob("flink-python-*.jar"))]


def submit(job: FlinkJob, cluster: FlinkCluster, checkpoints: str, restore: str | None) -> str:
    """Hands the job to a cluster, which then runs it without us.

    Args:
        job: The job.
        cluster: Where.
        checkpoints: Where checkpoints are written, a folder or a URI.
        restore: The checkpoint or savepoint that it goes on from; the beginning if None.

    Returns:
        The job's id.

    Raises:
        ConfigError: Java, Maven, PyFlink or the connector is missing.
        AdclickError: The cluster refuses it.
    """
    jars = check_installed()
    with _client() as gateway:
        from py4j.protocol import Py4JJavaError
        from pyflink.datastream import StreamExecutionEnvironment

        jvm = gateway.jvm
        settings = jvm.org.apache.flink.configuration.Configuration()
        for name, value in configuration(job.settings.flink, checkpoints).items():
            settings.setString(name, value)
        names = gateway.new_array(jvm.java.lang.String, len(jars))
        for number, jar in enumerate(jars):
            names[number] = str(jar)
        restoring = jvm.org.apache.flink.runtime.jobgraph.SavepointRestoreSettings
        claim = jvm.org.apache.flink.core.execution.RecoveryClaimMode.CLAIM
        environment = StreamExecutionEnvironment(
            jvm.org.apache.flink.streaming.api.environment.RemoteStreamEnvironment(
                cluster.host,
                cluster.port,
                settings,
                names,
                gateway.new_array(jvm.java.net.URL, 0),
                # It is the job's from then on, which deletes it when it needs it no more.
                restoring.none() if restore is None else restoring.forPath(_uri(restore), False, claim),
            )
        )
        environment.add_jars(*(jar.as_uri() for jar in jars))
        try:
            build(environment, job)
            client = environment.execute_async(job_name(job.settings))
            return str(client.get_job_id())
        except Py4JJavaError as error:
            raise AdclickError(f"Flink refuses the job: {_causes(error.java_exception)}") from None


def _causes(exception: Any) -> str:
    """What Java says of an exception and of those that caused it."""
    said: list[str] = []
    while exception is not None and len(said) < _MOST_CAUSES:
        said.append(str(exception.getMessage()))
        exception = exception.getCause()
    return "\n".join(dict.fromkeys(said))


def _uri(path: str) -> str:
    return path if "://" in path else Path(path).absolute().as_uri()


@contextlib.contextmanager
def _client() -> Iterator[Any]:
    """Flink's client until the block ends."""
    with tempfile.TemporaryDirectory(prefix="adclick-flink-") as logs:
        os.environ["FLINK_LOG_DIR"] = logs
        os.environ.setdefault("FLINK_CONF_DIR", str(Path(flink_home()) / "conf"))
        from pyflink import java_gateway

        gateway = java_gateway.get_gateway()
        try:
            yield gateway
        finally:
            gateway.shutdown()
            java_gateway._gateway = None
