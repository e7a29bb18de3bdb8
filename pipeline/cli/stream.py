"""`adclick stream …`: click fraud in real time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, QuietOption

app = typer.Typer(help="Click fraud in real time: events, features, scores, alerts.", no_args_is_help=True)

ServersOption = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Kafka's brokers, as host:port; from the config by default.")
]


@app.command()
def topics(
    config: ConfigOption,
    bootstrap_servers: ServersOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Make none; exit code 2 if one is missing or differs.")
    ] = False,
) -> None:
    """Make the topics of the stream that are missing, and compare the others with the config."""
    from adclick.pipeline.stream.command import run_topics

    run_topics(config, bootstrap_servers, check=check)


@app.command()
def backfill(
    config: ConfigOption,
    clicks: Annotated[
        str | None, typer.Option(help="Files of clicks: a file, a folder or a quoted pattern; from the config.")
    ] = None,
    impressions: Annotated[str | None, typer.Option(help="Files of impressions; from the config.")] = None,
    verdicts: Annotated[str | None, typer.Option(help="Files of verdicts on clicks; from the config.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Leave the state of the features in this folder, for the stream to go on from.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace drops that are there already.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Write the drops that `adclick run` trains on: past clicks, each with its features as of its instant."""
    from adclick.pipeline.stream import history

    history.backfill(
        config,
        clicks=clicks,
        impressions=impressions,
        verdicts=verdicts,
        state=state,
        replace=replace,
        quiet=quiet,
    )


@app.command()
def explain(
    config: ConfigOption,
    flink: Annotated[bool, typer.Option("--flink", help="As Flink computes them.")] = False,
) -> None:
    """Say in words how the features are computed: in which order, by which keys, with which state."""
    from adclick.pipeline.stream import history

    print(history.explain(config, flink=flink))


@app.command()
def run(
    config: ConfigOption,
    bootstrap_servers: ServersOption = None,
    stages: Annotated[
        str | None,
        typer.Option(help="All in one process, `features,score`, or one of features, score, alerts; all by default."),
    ] = None,
    flink: Annotated[
        str | None,
        typer.Option(help="Have this Flink cluster (host:port of its REST API) compute the features, and them alone."),
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="A scorer's name among those of its group, the same when it is started again.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="The folder of the state; from the config by default.")] = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where Prometheus finds metrics, at /metrics; 0 for nowhere.")
    ] = 9464,
    metrics_host: Annotated[str, typer.Option(help="The address of it.")] = "127.0.0.1",
) -> None:
    """Judge clicks as they come over Kafka, and raise alerts; ends at SIGTERM or Ctrl+C."""
    from adclick.pipeline.stream.command import run_run

    run_run(
        config,
        bootstrap_servers,
        stages=stages,
        flink=flink,
        instance=instance,
        state=state,
        metrics_address=(metrics_host, metrics_port) if metrics_port else None,
    )


@app.command()
def demo(
    config: Annotated[
        Path | None, typer.Option("--config", help="The config of sample traffic; both are made if not given.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where they are made, and found again.")] = Path("output/stream-demo"),
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 1000.0,
    seconds: Annotated[float, typer.Option(min=1, help="For how long at most.")] = 60.0,
    kafka: Annotated[bool, typer.Option("--kafka", help="Over Apache Kafka, started here; needs Java.")] = False,
    flink: Annotated[
        bool, typer.Option("--flink", help="Over Kafka, and features by Apache Flink, both started here; needs Java.")
    ] = False,
) -> None:
    """Play sample traffic, judge it as it comes, and show what is found against the truth."""
    from adclick.pipeline.stream.demo import run_demo

    run_demo(config, output=output, rate=rate, seconds=seconds, kafka=kafka, flink=flink)


@app.command()
def replay(
    config: ConfigOption,
    bootstrap_servers: ServersOption = None,
    history: Annotated[
        Path | None, typer.Option(help="The state that the stream began with, as `backfill --state` left it.")
    ] = None,
) -> None:
    """Take the events in Kafka through the features anew, and compare with the features that were served.

    Exit code 6 where they differ.
    """
    from adclick.pipeline.stream.command import run_replay

    run_replay(config, bootstrap_servers, history)


@app.command()
def monitor(
    config: ConfigOption,
    bootstrap_servers: ServersOption = None,
    verdicts: Annotated[
        str | None,
        typer.Option(help="Files of verdicts on clicks: a file, a folder or a quoted pattern; from the config."),
    ] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="Write the report as JSON; `-` prints it.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Compare the judged clicks in Kafka with what the model was trained on, and with verdicts on them.

    Exit code 6 where they stand further apart than they may.
    """
    from adclick.pipeline.console import noise_to_temporary, result_console

    with noise_to_temporary("stream monitor") as real:
        from adclick.pipeline.monitor.scored_clicks import run_stream_monitor
        from adclick.pipeline.stream.command import stream_config

        found, stream = stream_config(config, bootstrap_servers)
        run_stream_monitor(
            found, stream, verdicts=verdicts, json_file=json_file, quiet=quiet, console=result_console(real)
        )
