"""How soon and how fast clicks are judged over Kafka where Flink computes the features, all on this machine.

Events, features and model are those of `stream_live`. Broker, one job manager, one task manager with its Python
process, a scorer, the alerts and the load share the machine. The baselines are limits that must be kept, and for the
rate the embedded execution in the same run.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from adclick.stream.flink.local_cluster import LocalCluster, local_cluster
from adclick.stream.kafka.local_broker import LocalBroker, local_broker
from benchmarks.measure import Result, more, report, share
from benchmarks.stream_live import Load, events_a_second, fill, prepare, sustained, time_to_alert

_LATENCY_RATE = 300


def load_for(folder: Path, broker: LocalBroker, what: str, parallelism: int, **alerts: Any) -> Load:
    """A project whose features Flink computes."""
    name = f"flink-{what}-{time.time_ns()}"
    flink = {
        "python": sys.executable,
        "checkpoints": str(folder / f"checkpoints-{name}"),
        "parallelism": parallelism,
    }
    return Load(folder, broker, name, flink=flink, **alerts)


@contextmanager
def running(load: Load, cluster: LocalCluster) -> Iterator[None]:
    """The job on a cluster, and the other stages beside it."""
    with ExitStack() as stack:
        for stage in ("score", "alerts"):
            stack.enter_context(load.running("--stages", stage))
        stack.enter_context(load.running("--flink", f"{cluster.cluster.host}:{cluster.cluster.port}"))
        yield


def main(
    project: Annotated[Path | None, typer.Option(help="A folder of an earlier run's traffic and model.")] = None,
    seconds: Annotated[int, typer.Option(min=4, help="How long 300 events a second are sent.")] = 60,
    events: Annotated[int, typer.Option(min=1000, help="How many are judged for the rate.")] = 100_000,
    parallelism: Annotated[int, typer.Option(min=1, help="Among how many tasks keys are parted.")] = 1,
    threshold: Annotated[float, typer.Option(help="Of the latency's alerts.")] = 0.5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Measures and reports."""
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as work, ExitStack() as stack:
        folder = project or Path(work) / "project"
        if not (folder / "config.yaml").exists():
            prepare(folder)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        results: list[Result] = []
        broker = stack.enter_context(local_broker(Path(work) / "kafka"))
        embedded = sustained(folder, broker, events)
        print(f"embedded: {embedded:,.0f} events a second", file=sys.stderr)
        cluster = stack.enter_context(local_cluster(Path(work) / "flink", slots=parallelism))
        load = load_for(folder, broker, "latency", parallelism, threshold=threshold, minimum_clicks=1)
        half, most, alerts = time_to_alert(load, folder, running(load, cluster), _LATENCY_RATE, seconds)
        name = f"click produced to alert readable by Flink, {_LATENCY_RATE} events/s, {alerts:,} alerts"
        results.append(share(f"{name}: median", half, 300.0, "ms", "<= 1"))
        results.append(share(f"{name}: 99th percentile", most, 1000.0, "ms", "<= 1"))
        load = load_for(folder, broker, "rate", parallelism, threshold=0.5, entities=[["ip"], ["device"]])
        rate = events_a_second(load, running(load, cluster), fill(load, folder, events), events)
        name = f"Kafka to Kafka by Flink, {events:,} events"
        results.append(more(name, rate, 3000, "events/s", ">= 1"))
        results.append(more(f"{name}, against the embedded execution", rate, embedded, "events/s", ""))
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        report("Clicks judged by Flink as they come; the baseline is the limit", results, json_file)


if __name__ == "__main__":
    typer.run(main)
