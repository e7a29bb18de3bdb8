"""The commands of the stream, from a config file on."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.console import plain_console, result_console
from adclick.schema.errors import ConfigError, SkewFound
from adclick.serving.foreground import stopping_on_signals
from adclick.stream.runner import STAGES, Deployment, parse_stages, run_stream
from adclick.stream.settings import StreamSettings

if TYPE_CHECKING:
    from adclick.stream.metrics import StreamMetrics
    from adclick.stream.state.store import StateStore


def stream_config(path: Path, bootstrap_servers: str | None = None) -> tuple[Config, StreamSettings]:
    """A config and its section `stream`, with the brokers that the command line names.

    Raises:
        ConfigError: There is no such section, or the config is wrong.
    """
    config = load_config(path)
    if config.stream is None:
        raise ConfigError(
            f"{path}: has no section `stream`", "Declare the events and their features; see docs/how-to/click-fraud.md."
        )
    stream = config.stream
    if bootstrap_servers:
        kafka = stream.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
        stream = stream.model_copy(update={"kafka": kafka})
    return config, stream


def run_topics(path: Path, bootstrap_servers: str | None, *, check: bool) -> None:
    """Makes topics that are missing, unless they are to be checked only, and shows all.

    Raises:
        ConfigError: One is missing, cannot be made, or differs from the config.
    """
    from adclick.stream.kafka.topics import check_topics

    _, stream = stream_config(path, bootstrap_servers)
    states = check_topics(stream.kafka, stream.topics, make=not check)
    table = Table(box=None, pad_edge=False)
    for name in ("topic", "partitions", "retention", ""):
        table.add_column(name, justify="right" if name in ("partitions", "retention") else "left")
    for state in states:
        kept = "" if state.retention is None else f"{state.retention / 86_400_000:g} d"
        note = Text(state.wrong, "yellow") if state.wrong else Text("made" if state.made else "", "green")
        table.add_row(state.name, str(state.partitions or ""), kept, note)
    result_console(sys.stdout).print(table)
    wrong = [state.name for state in states if state.wrong]
    if wrong and check:
        raise ConfigError(
            f"not as the config says: {', '.join(wrong)}",
            "Make what is missing: adclick stream topics. Change what exists with Kafka's own tools, or the config.",
        )
    if wrong:
        plain_console(stderr=True, soft_wrap=True).print(
            "What exists is left as it is: change it with Kafka's own tools, or the config."
        )


def run_run(
    path: Path,
    bootstrap_servers: str | None,
    *,
    stages: str | None,
    flink: str | None,
    instance: str | None,
    state: Path | None,
    metrics_address: tuple[str, int] | None,
) -> None:
    """Runs stages until SIGTERM or SIGINT.

    Args:
        path: The config file.
        bootstrap_servers: Kafka's brokers; the config's if None.
        stages: See `parse_stages`; all if None, or the features alone with `flink`.
        flink: The address of the Flink cluster that computes the features; this process does if None.
        instance: What tells a scorer from others.
        state: The folder of the state; the config's if None.
        metrics_address: Where Prometheus finds the metrics, a host and a port; nowhere if None.

    Raises:
        ConfigError: See `run_stream`; or the port is taken.
        BrokerUnreachable: The broker stayed away.
    """
    chosen = parse_stages(stages or ("features" if flink else ",".join(STAGES)))
    config, stream = stream_config(path, bootstrap_servers)
    if flink is not None:
        _run_on_flink(config, stream, chosen, flink)
        return
    deployment = deployment_of(config, stream, state, stages=chosen, instance=instance)
    _log_to_standard_error()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from adclick.stream.metrics import StreamMetrics

    logger = logging.getLogger(__name__)
    metrics = StreamMetrics()
    with ExitStack() as stack:
        stopping = stack.enter_context(stopping_on_signals())
        if metrics_address is not None:
            port = stack.enter_context(metrics_server(metrics, *metrics_address))
            logger.info("metrics at http://%s:%d/metrics", metrics_address[0], port)
        run_stream(
            deployment,
            stopping,
            metrics,
            lambda: logger.info("%s: reading from %s", ", ".join(chosen), stream.kafka.bootstrap_servers),
        )


def _run_on_flink(config: Config, stream: StreamSettings, stages: tuple[str, ...], address: str) -> None:
    from adclick.pipeline.stream.flink import run_features
    from adclick.stream.flink.rest import FlinkCluster

    if stages != ("features",):
        raise ConfigError(
            f"--flink with --stages {','.join(stages)}: Flink computes the features alone",
            "Leave --stages out, and run `--stages score` and `--stages alerts` without --flink beside it.",
        )
    cluster = FlinkCluster.at(address)
    _log_to_standard_error()
    with stopping_on_signals() as stopping:
        run_features(config, stream, cluster, stopping)


def _log_to_standard_error() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s")
    # One line a request, and PyFlink's own.
    for name in ("httpx", "apache_beam", "py4j"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run_replay(path: Path, bootstrap_servers: str | None, history: Path | None) -> None:
    """Compares features as served with those of a replay.

    Raises:
        SkewFound: Some differ.
        ConfigError: A topic is missing, or there is no such state.
    """
    from adclick.stream.stages.replay import compare_with_replay
    from adclick.stream.state.rocksdb import RocksState
    from adclick.stream.state.store import MemoryState

    config, stream = stream_config(path, bootstrap_servers)
    with ExitStack() as stack:
        state: StateStore = MemoryState()
        if history is not None:
            if not history.is_dir():
                raise ConfigError(f"{history}: no such folder", "Give the --state of an adclick stream backfill.")
            # The replay writes to it.
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adclick-replay-"))) / "state"
            shutil.copytree(history, copy)
            state = RocksState(copy)
            stack.callback(state.close)
        found = compare_with_replay(stream, config.features, state)
    console = result_console(sys.stdout)
    console.print(
        f"{found.clicks:,} clicks were served and replayed, {found.equal:,} of them with equal features\n"
        f"{found.late:,} late ones without features, {found.missing:,} not served, "
        f"{found.unknown:,} whose events are no longer in Kafka"
    )
    if found.differing:
        names = ", ".join(f"{name} in {count:,}" for name, count in found.differing.most_common())
        examples = "".join(f"\n  {click}: {name} was {was}, is {now}" for click, name, was, now in found.examples)
        raise SkewFound(
            f"features as served differ from a replay: {names}{examples}",
            "Impressions that came late count in a replay alone; else: did the stream begin with a state (--history), "
            "or are events gone that the features had seen?",
        )


def deployment_of(config: Config, stream: StreamSettings, state: Path | None = None, **others: Any) -> Deployment:
    """What a process of the stream needs of a config; the others are `Deployment`'s."""
    return Deployment(
        settings=stream,
        features=config.features,
        model_name=config.serving.model_name,
        model_base_path=config.push_base,
        state=state or stream.state or Path(config.output) / "stream_state",
        **others,
    )


@contextmanager
def metrics_server(metrics: StreamMetrics, host: str, port: int) -> Iterator[int]:
    """Answers Prometheus at an address; yields the port.

    Raises:
        ConfigError: It is taken.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"metrics cannot be given at {host}:{port}: {error.strerror}",
            "Give another --metrics-port, or 0 for none.",
        ) from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        thread.join(10)
