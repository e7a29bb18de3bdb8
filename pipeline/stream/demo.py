"""`adclick stream demo`: sample traffic as it comes, judged, on the terminal, against the truth that is known."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adclick.pipeline.config.settings import Config
from adclick.pipeline.console import noise_to_temporary, plain_console
from adclick.pipeline.stream.command import deployment_of, stream_config
from adclick.schema.errors import AdclickError, ConfigError
from adclick.stream.columns import click_reader, impression_reader
from adclick.stream.demo import EmbeddedPlayer, Tally
from adclick.stream.events import Event
from adclick.stream.settings import StreamSettings

#: The last part of the events is played: the model was judged on the clicks of about that time, and trained on earlier.
_PLAYED_SHARE = 0.05
_REFRESH_SECONDS = 0.5
_ALERTS_SHOWN = 8


def run_demo(config: Path | None, *, output: Path, rate: float, seconds: float, kafka: bool, flink: bool) -> None:
    """Plays the last events of sample traffic through the stream and shows what comes of it.

    Args:
        config: The config of sample traffic whose model is pushed; made in `output`, with traffic and model, if None.
        output: Where it is made.
        rate: Events a second.
        seconds: How long at most.
        kafka: Whether the events go over a broker that is started here, or through this process alone.
        flink: Whether they go over a broker, and a Flink cluster that is started here computes the features.

    Raises:
        ConfigError: The traffic, the truth or the model is missing; Java or Maven are, with `kafka` or `flink`; or
            PyFlink is, with `flink`.
    """
    with noise_to_temporary("stream-demo") as real:
        _run(config, output, rate, seconds, kafka or flink, flink, plain_console(real))


def _run(
    config: Path | None, output: Path, rate: float, seconds: float, kafka: bool, flink: bool, console: Console
) -> None:
    if flink:
        from adclick.stream.flink.submission import check_installed

        check_installed(console.print)
    if kafka:
        from adclick.stream.java import java_program
        from adclick.stream.kafka.local_broker import broker_jars

        # What is missing is said before minutes go by.
        java_program()
        broker_jars(console.print)
    file = config or output / "config.yaml"
    if config is None and not file.exists():
        _make(output, console)
    loaded, settings = stream_config(file)
    truth = _truth(file.parent / "truth" / "clicks.csv")
    console.print("Reading the sample traffic …")
    before, played = _parted(_events(loaded, settings), int(rate * seconds))
    tally = Tally(
        {click: kind for click, (kind, _) in truth.items()},
        frozenset(kind for kind, is_fraud in truth.values() if is_fraud),
    )
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adclick-demo-")))
        if kafka:
            from adclick.pipeline.stream.kafka_demo import kafka_player

            steps = stack.enter_context(
                kafka_player(loaded, settings, before, played, rate, tally, work, console, flink=flink)
            )
        else:
            steps = _embedded(loaded, settings, before, played, rate, tally, stack, console)
        how = "over Kafka and Flink" if flink else "over Kafka" if kafka else "in this process"
        _show(steps, tally, rate, how, console)


def _make(output: Path, console: Console) -> None:
    """Sample traffic, its drops, and the model that `adclick run` makes of them: as a person would."""
    console.print(f"There is no sample traffic in {output} yet: it is written, and a model is trained on it (minutes).")
    file = str(output / "config.yaml")
    for arguments in (
        ("sample-data", "--stream", "--output", str(output)),
        ("stream", "backfill", "--config", file),
        ("run", "--config", file),
    ):
        console.print(f"adclick {' '.join(arguments)}", style="dim")
        done = subprocess.run([sys.executable, "-m", "adclick", *arguments], stdout=console.file)
        if done.returncode:
            failure = AdclickError(f"adclick {arguments[0]} ended with exit code {done.returncode}", "Run it by hand.")
            failure.exit_code = done.returncode
            raise failure


def _truth(file: Path) -> dict[str, tuple[str, bool]]:
    """By click, what it was, and whether that is fraud."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return {row["click_id"]: (row["kind"], row["is_fraud"] == "1") for row in csv.DictReader(stream)}
    except (OSError, KeyError) as error:
        raise ConfigError(
            f"{file}: the truth cannot be read: {error}",
            "The demo plays sample traffic, whose truth is known: adclick sample-data --stream.",
        ) from None


def _events(config: Config, settings: StreamSettings) -> list[Event]:
    """All events of the history, in their order."""
    from adclick.stream.history.event_files import EventFiles, find_event_files

    readers = {
        "clicks": click_reader(settings, config.features),
        "impressions": impression_reader(settings, config.features),
    }
    found: list[Event] = []
    for kind, reader in readers.items():
        where = getattr(settings.history, kind)
        if reader is None or where is None:
            continue
        files = EventFiles(reader, find_event_files(where, f"stream.history.{kind}"))
        found += [event for event in files if isinstance(event, Event)]
    return sorted(found, key=lambda event: event.place)


def _parted(events: Sequence[Event], most: int) -> tuple[Sequence[Event], Sequence[Event]]:
    first = int(len(events) * (1 - _PLAYED_SHARE))
    return events[:first], events[first : first + most]


def _embedded(
    config: Config,
    settings: StreamSettings,
    before: Sequence[Event],
    played: Sequence[Event],
    rate: float,
    tally: Tally,
    stack: ExitStack,
    console: Console,
) -> Iterator[None]:
    from adclick.stream.alerts.grouping import Alerts
    from adclick.stream.features.operator import FeatureOperator
    from adclick.stream.metrics import StreamMetrics
    from adclick.stream.runner import scorer_of
    from adclick.stream.stages.judge import Judge
    from adclick.stream.state.store import MemoryState

    metrics, store = StreamMetrics(), MemoryState()
    operator = FeatureOperator(settings, store)
    console.print(f"Going through the {len(before):,} events before …")
    for event in before:
        operator.process(event)
    scorer = scorer_of(deployment_of(config, settings), stack)
    alerts = Alerts(settings.alerts, store, lambda click: scorer.explain(click, settings.alerts.evidence))
    return EmbeddedPlayer(operator, Judge(scorer, metrics), alerts, tally, metrics).play(played, rate)


def _show(steps: Iterator[None], tally: Tally, rate: float, how: str, console: Console) -> None:
    """Shows the tally while steps go on; where the output is no terminal, once at their end."""
    begun = time.monotonic()
    shown = begun
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            for _ in steps:
                if console.is_terminal and time.monotonic() - shown > _REFRESH_SECONDS:
                    shown = time.monotonic()
                    live.update(view(tally, shown - begun, rate, how), refresh=True)
        except KeyboardInterrupt:
            pass
        live.update(view(tally, time.monotonic() - begun, rate, how), refresh=True)


def view(tally: Tally, seconds: float, rate: float, how: str) -> Group:
    """What a person sees."""
    figures = Table.grid(padding=(0, 3))
    figures.add_row(
        f"{tally.events / max(seconds, 1e-9):,.0f} events/s of {rate:,.0f}",
        f"{tally.clicks:,} clicks judged {how}",
        f"delay {_ms(tally.delay(50))} median, {_ms(tally.delay(99))} of 99 %",
    )
    figures.add_row(
        Text(f"precision {_percent(tally.precision)}", "green"),
        Text(f"recall {_percent(tally.recall)}", "green"),
        f"honest clicks suspected {_percent(tally.false_positive_rate, 3)}",
    )
    kinds = Table(box=None, pad_edge=False)
    for name in ("in truth", "clicks", "suspicious", ""):
        kinds.add_column(name, justify="left" if name == "in truth" else "right")
    for kind, count in sorted(tally.by_kind.items(), key=lambda pair: (pair[0] not in tally.frauds, -pair[1])):
        style = "red" if kind in tally.frauds else ""
        share = _percent(tally.alerting[kind] / count)
        kinds.add_row(Text(kind.replace("_", " "), style), f"{count:,}", f"{tally.alerting[kind]:,}", share)
    newest = sorted(tally.alerts.values(), key=lambda alert: -alert.last_time)
    lines = [Text(f"{len(tally.alerts):,} alerts", "bold")]
    for alert in newest[:_ALERTS_SHOWN]:
        why = "; ".join(f"{one.column} {_value(one.value)}" for one in alert.evidence)
        lines.append(Text.assemble(("● " if alert.state == "open" else "○ ", "red"), alert.title, (f"  {why}", "dim")))
    return Group(figures, Text(""), kinds, Text(""), *lines)


def _ms(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{1000 * seconds:.0f} ms"


def _percent(share: float, digits: int = 1) -> str:
    return "–" if math.isnan(share) else f"{share:.{digits}%}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
