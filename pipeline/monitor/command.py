"""`adclick monitor`: the prediction log against what the served model was trained on, and against clicks."""

from __future__ import annotations

import glob
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.console import plain_console
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.times import moment_of, seconds_of

if TYPE_CHECKING:
    from adclick.pipeline.monitor.report import MonitorReport


def run_monitor(
    config_path: Path,
    *,
    predictions: str,
    clicks: str | None = None,
    shown: str | None = None,
    since: str | None = None,
    until: str | None = None,
    version: int | None = None,
    click_window: str | None = None,
    clicks_until: str | None = None,
    json_file: str | None = None,
    prometheus: Path | None = None,
    html: Path | None = None,
    quiet: bool = False,
    console: Console,
) -> None:
    """Reads the log once, and says how far it stands from training.

    Args:
        config_path: The config of the project whose models are served.
        predictions: A file, folder or glob of the gateway's prediction log.
        clicks: The same of CSV files of clicks.
        shown: The same of CSV files of the ads that were shown, where more were scored.
        since: Only predictions of this moment or later, ISO 8601.
        until: Only predictions before this moment.
        version: Only predictions of this version.
        click_window: How long after its prediction a click may come; the config's if None.
        clicks_until: Clicks are complete until this moment; until the newest of them if None.
        json_file: Where to write the report as JSON; `-` prints it instead of the tables.
        prometheus: Where to write it as metrics.
        html: Where to write it as a page.
        quiet: Whether to print alarms only.
        console: Where to print.

    Raises:
        ConfigError: An option or the config is wrong, there is no such file, or no run pushed `version`.
        DataRefused: The log or the clicks cannot be read, or no prediction is left to look at.
        SkewFound: A check raises an alarm; everything is written all the same.
    """
    config = load_config(config_path)
    window = seconds_of(click_window or config.monitoring.click_window, "--click-window")
    moments = {name: moment_of(text, f"--{name}") for name, text in (("since", since), ("until", until)) if text}
    complete = moment_of(clicks_until, "--clicks-until") if clicks_until else None
    files = find_files(predictions, "--predictions", "*.tfrecord*")
    click_files = find_files(clicks, "--clicks", "*.csv*") if clicks else []
    shown_files = find_files(shown, "--shown", "*.csv*") if shown else []
    for place in (Path(json_file) if json_file not in (None, "-") else None, prometheus, html):
        if place is not None and not place.resolve().parent.is_dir():
            raise ConfigError(f"{place.parent}: no such folder", "Make it, or write elsewhere.")
    report = _report(config, files, click_files, shown_files, moments, version, window, complete)

    # Only now: what these import has taken its seconds above.
    from adclick.pipeline.monitor.report import (
        as_document,
        keep_findings,
        print_report,
        raise_alarms,
        write_html,
        write_json,
        write_prometheus,
    )

    if json_file == "-":
        console.print_json(json.dumps(as_document(report)))
    elif not quiet:
        print_report(console, report)
    if json_file not in (None, "-"):
        write_json(report, Path(str(json_file)))
    if prometheus is not None:
        write_prometheus(report, prometheus)
    if html is not None:
        write_html(report, html)
    keep_findings(config.output, report, plain_console(sys.stderr))
    raise_alarms(report)


def _report(
    config: Config,
    files: Sequence[Path],
    click_files: Sequence[Path],
    shown_files: Sequence[Path],
    moments: dict[str, float],
    version: int | None,
    window: float,
    complete: float | None,
) -> MonitorReport:
    from adclick.pipeline.monitor.baseline import known_baseline, load_baseline
    from adclick.pipeline.monitor.clicks import ClickJoin, read_named
    from adclick.pipeline.monitor.report import MonitorReport, version_reports
    from adclick.pipeline.monitor.traffic import Selection, TrafficReader, read_log

    known = load_baseline(config, version) if version is not None else None
    selection = Selection(moments.get("since", -math.inf), moments.get("until", math.inf), version)
    identifier, limit = config.features.identifier_name, config.ingestion.max_quarantine_share
    join = named = None
    if click_files:
        found = read_named(
            click_files,
            identifier=identifier,
            timed=True,
            # Clocks differ a little.
            since=selection.since - 60,
            until=selection.until + window,
            max_unreadable_share=limit,
            encoding=config.csv.encoding,
        )
        complete = min(found.newest, time.time()) if complete is None else complete
        join = ClickJoin(found, window, complete)
    if shown_files:
        named = read_named(
            shown_files,
            identifier=identifier,
            timed=False,
            since=-math.inf,
            until=math.inf,
            max_unreadable_share=limit,
            encoding=config.csv.encoding,
        )
    reader = TrafficReader(
        selection, lambda number: known if known is not None else known_baseline(config, number), join, named
    )
    reader.counts.files = len(files)
    for batch in read_log(files, config.features):
        reader.add(batch)
    if not reader.by_version:
        raise DataRefused(
            f"none of {reader.counts.predictions:,} logged predictions is left to look at",
            "Look at --since, --until, --version and --shown, and at the gateway's log.predictions and "
            "log.sample_percent.",
        )
    return MonitorReport(
        made_at=time.time(),
        log=reader.counts,
        clicks=join.counts() if join is not None else None,
        click_window=window,
        clicks_until=complete if join is not None else None,
        versions=version_reports(reader.by_version, config.monitoring, has_clicks=join is not None),
    )


def find_files(pattern: str, option: str, within: str) -> list[Path]:
    """The files of a glob, of a folder, or the one file, by name; what is there under the very name is no pattern."""
    place = Path(pattern)
    if place.is_file():
        return [place]
    # Only what follows the folders that are there can be meant as a pattern.
    folder = next((parent for parent in (place, *place.parents) if parent.is_dir()), Path())
    rest = within if folder == place else str(place.relative_to(folder))
    names = glob.glob(rest, root_dir=folder)
    files = sorted(path for path in (folder / name for name in names) if path.is_file() and path.name[0] not in "._")
    if not files:
        raise ConfigError(f"{option}: {pattern}: no such file", "Give a file, a folder or a quoted glob.")
    return files
