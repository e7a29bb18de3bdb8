"""Writes sample traffic: files of events and verdicts, a config and a schema for them, and the truth beside."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from adclick.schema.errors import ConfigError
from adclick.stream.events import iso_time
from adclick.stream.sample_traffic.clicks import DAY, FRAUD, KINDS, SECOND, Clicks, Ints, together
from adclick.stream.sample_traffic.fraud import FRAUDS, NEWCOMER, Wave
from adclick.stream.sample_traffic.honest import crawlers, flash_sales, offices, unclicked, users
from adclick.stream.sample_traffic.population import BROWSERS, COUNTRIES, TrafficPopulation, draw_population

#: Marks a folder as sample traffic and says from which arguments.
MARKER = ".adclick-sample-traffic.json"
#: Rises whenever the same arguments give other data.
_VERSION = 1
_FIRST_MONTH = (2026, 8)
_FRAUD_SHARE = 0.1
_PARTS = ("events", "verdicts", "truth")


@dataclass(frozen=True)
class TrafficSummary:
    """What was written, or found already written.

    Attributes:
        output: The folder.
        events: By kind of event, how many.
        clicks: By what they are in truth, how many.
        months: The months, YYYY-MM, oldest first.
        verdicts: How many clicks were judged by the end of the last month.
        reused: Whether the folder already held this traffic.
    """

    output: Path
    events: Mapping[str, int]
    clicks: Mapping[str, int]
    months: tuple[str, ...]
    verdicts: int
    reused: bool

    def describe(self) -> str:
        """What there is, in a few lines for a person."""
        fraud = sum(self.clicks.get(kind, 0) for kind in FRAUD)
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in self.clicks.items())
        return (
            f"Sample traffic {'is already there' if self.reused else 'is written'}: {self.output}\n"
            f"  {self.events['impressions']:,} impressions and {self.events['clicks']:,} clicks in "
            f"{len(self.months)} month{'s' * (len(self.months) != 1)} ({', '.join(self.months)}), "
            f"{fraud / self.events['clicks']:.1%} of the clicks "
            f"fraud;\n  {kinds};\n"
            f"  {NEWCOMER} is new in the last month. {self.verdicts:,} clicks have their verdict by its end; the truth "
            f"of all is in {self.output / 'truth'}.\n"
            f"Next: adclick stream backfill --config {self.output / 'config.yaml'}"
        )


def write_sample_traffic(output: Path, *, clicks: int = 100_000, months: int = 3, seed: int = 1) -> TrafficSummary:
    """Writes months of traffic, or finds that it is there.

    Args:
        output: The folder; empty, missing, or of sample traffic.
        clicks: How many clicks, about; there are 1.5 unclicked impressions for each honest one.
        months: How many months, the last one 2026-10 if three.
        seed: The same seed writes the same bytes.

    Raises:
        ConfigError: The folder holds something else, or too little is asked for.
    """
    if clicks < 5_000 * months:
        raise ConfigError(
            f"sample traffic: {clicks} clicks are too few for {months} months", f"Ask for {5_000 * months} or more."
        )
    if seed < 0:
        raise ConfigError(f"sample traffic: seed must be at least 0, not {seed}")
    arguments = {"clicks": clicks, "months": months, "seed": seed, "version": _VERSION}
    found = _found(output, arguments)
    if found is not None:
        return found
    for part in (*_PARTS, MARKER):
        place = output / part
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    traffic, shown, people = draw_sample_traffic(clicks=clicks, months=months, seed=seed)
    rng = np.random.default_rng((seed, 99))
    output.mkdir(parents=True, exist_ok=True)
    # An odd factor leaves no two alike, and no order.
    names = (np.arange(len(traffic) + len(shown)) * 0x9E3779B1 + seed) % 2**32
    click_ids = [f"c{name:08x}" for name in names[: len(traffic)]]
    shown_ids = [f"i{name:08x}" for name in names[len(traffic) :]]
    _write_clicks(output / "events" / "clicks", rng, traffic, click_ids, people)
    impressions = _write_impressions(
        output / "events" / "impressions", rng, traffic, click_ids, shown, shown_ids, people
    )
    verdicts = _write_verdicts(output / "verdicts", rng, traffic, click_ids, people)
    _write_truth(output / "truth", traffic, click_ids)
    _write_config(output)
    summary = {
        "events": {"impressions": impressions, "clicks": len(traffic)},
        "clicks": {kind: int(np.sum(traffic.kind == n)) for n, kind in enumerate(KINDS)},
        "months": sorted({iso_time(int(time))[:7] for time in traffic.time[:: max(len(traffic) // 500, 1)]}),
        "verdicts": verdicts,
    }
    (output / MARKER).write_text(json.dumps({"arguments": arguments, "summary": summary}, indent=2) + "\n")
    return _summary(output, summary, reused=False)


def draw_sample_traffic(*, clicks: int, months: int, seed: int) -> tuple[Clicks, Clicks, TrafficPopulation]:
    """Draws the clicks, in the order of time; the impressions that nobody clicked; and who there is."""
    start, days, last_month = _calendar(months)
    rng = np.random.default_rng((seed, 0))
    people = draw_population(rng, max(clicks // 8, 1_000), start, days)
    fraud = int(clicks * _FRAUD_SHARE)
    honest = clicks - fraud
    parts = [
        *users(np.random.default_rng((seed, 1)), people, int(honest * 0.78)),
        *offices(np.random.default_rng((seed, 2)), people, int(honest * 0.12)),
        *flash_sales(np.random.default_rng((seed, 3)), people, int(honest * 0.05)),
        *crawlers(np.random.default_rng((seed, 4)), people, int(honest * 0.05)),
    ]
    number = 0
    for place, (kind, (make, size)) in enumerate(FRAUDS.items()):
        chance = np.random.default_rng((seed, 10 + place))
        is_new = kind == NEWCOMER and months > 1
        first = last_month if is_new else start
        end = start + days * DAY
        # What is new appears at the rate of the others, in the last month alone.
        share = fraud / len(FRAUDS) / (months if is_new else 1)
        waves = max(round(share / size), 2 if is_new else 2 * months)
        for wave in range(waves):
            span = (end - first) / waves
            begin = int(first + span * wave + chance.uniform(0, span))
            parts.append(make(chance, people, Wave(max(int(share / waves), 12), begin // SECOND * SECOND, number)))
            number += 1
    traffic = together(parts)
    inside = (traffic.time >= start) & (traffic.time < start + days * DAY)
    traffic = traffic.at(np.flatnonzero(inside))
    traffic = traffic.at(np.argsort(traffic.time, kind="stable"))
    shown = unclicked(np.random.default_rng((seed, 5)), people, int(honest * 1.5))
    return traffic, shown.at(np.argsort(shown.time, kind="stable")), people


def _calendar(months: int) -> tuple[int, int, int]:
    """The first moment, the days, and the first moment of the last month."""
    number = 12 * _FIRST_MONTH[0] + _FIRST_MONTH[1] - 1 + 3 - months
    firsts = [datetime((number + n) // 12, (number + n) % 12 + 1, 1, tzinfo=UTC) for n in range(months + 1)]
    start = int(firsts[0].timestamp()) * SECOND
    return start, (firsts[-1] - firsts[0]).days, int(firsts[-2].timestamp()) * SECOND


def _arrivals(rng: np.random.Generator, time: Ints) -> Ints:
    """The order in which a log gets events: a few milliseconds after they happen, very few of them seconds."""
    delay = np.minimum(rng.exponential(3_000, len(time)), 18_000)
    late = rng.random(len(time)) < 0.0005
    delay[late] = rng.uniform(0.1, 5, int(late.sum())) * SECOND
    return np.argsort(time + delay.astype(np.int64), kind="stable")


def _address(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _columns(clicks: Clicks, row: int, people: TrafficPopulation) -> dict[str, Any]:
    ad = int(clicks.ad[row])
    site = int(clicks.site[row])
    return {
        "ip": _address(int(clicks.ip[row])),
        "device": f"d{clicks.device[row]}",
        "browser": BROWSERS[clicks.browser[row]],
        "country": COUNTRIES[clicks.country[row]],
        "site": f"s{site}",
        "publisher": f"p{people.publisher[site]}",
        "ad": f"a{ad}",
        "advertiser": f"v{people.advertiser[ad]}",
    }


def _write_lines(folder: Path, lines: Iterator[tuple[int, dict[str, Any]]], kind: str) -> int:
    """Writes events into a gzipped file for each month; gives their number."""
    folder.mkdir(parents=True, exist_ok=True)
    streams: dict[str, Any] = {}
    number = 0
    try:
        for time, line in lines:
            text = iso_time(time)
            if text[:7] not in streams:
                # Without the moment of writing, so that the same seed writes the same bytes.
                path = folder / f"{kind}-{text[:7]}.jsonl.gz"
                streams[text[:7]] = io.BufferedWriter(
                    gzip.GzipFile(filename="", fileobj=path.open("wb"), mode="wb", compresslevel=4, mtime=0),
                    buffer_size=1 << 20,
                )
            streams[text[:7]].write(orjson.dumps({**line, "time": text}) + b"\n")
            number += 1
    finally:
        for stream in streams.values():
            file = stream.raw.fileobj
            stream.close()
            file.close()
    return number


def _write_clicks(
    folder: Path, rng: np.random.Generator, clicks: Clicks, ids: list[str], people: TrafficPopulation
) -> None:
    def lines() -> Iterator[tuple[int, dict[str, Any]]]:
        for row in _arrivals(rng, clicks.time).tolist():
            line = {"click_id": ids[row], "impression_id": "i" + ids[row], **_columns(clicks, row, people)}
            cost = 0.0 if clicks.kind[row] == KINDS.index("crawler") else float(people.cost[clicks.ad[row]])
            yield int(clicks.time[row]), {**line, "cost": cost}

    _write_lines(folder, lines(), "clicks")


def _write_impressions(
    folder: Path,
    rng: np.random.Generator,
    clicks: Clicks,
    ids: list[str],
    shown: Clicks,
    shown_ids: list[str],
    people: TrafficPopulation,
) -> int:
    has = np.flatnonzero(~np.isnan(clicks.delay))
    time = np.concatenate([clicks.time[has] - (clicks.delay[has] * SECOND).astype(np.int64), shown.time])
    first = int(clicks.time[0]) // DAY * DAY

    def lines() -> Iterator[tuple[int, dict[str, Any]]]:
        for place in _arrivals(rng, time).tolist():
            if time[place] < first:
                continue
            source, row = (clicks, int(has[place])) if place < len(has) else (shown, place - len(has))
            name = "i" + ids[row] if place < len(has) else shown_ids[row]
            yield int(time[place]), {"impression_id": name, **_columns(source, row, people)}

    return _write_lines(folder, lines(), "impressions")


def _write_verdicts(
    folder: Path, rng: np.random.Generator, clicks: Clicks, ids: list[str], people: TrafficPopulation
) -> int:
    """Writes the verdicts that came until the end, a day or so after the clicks, in the order in which they came."""
    folder.mkdir(parents=True, exist_ok=True)
    time = clicks.time + (rng.exponential(0.7, len(clicks)) * DAY).astype(np.int64)
    end = people.start + people.days * DAY
    is_fraud = clicks.kind >= KINDS.index(FRAUD[0])
    order = [row for row in np.argsort(time, kind="stable").tolist() if time[row] < end]
    with (folder / "verdicts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time", "click_id", "is_fraud"])
        writer.writerows((iso_time(int(time[row])), ids[row], int(is_fraud[row])) for row in order)
    return len(order)


def _write_truth(folder: Path, clicks: Clicks, ids: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first_fraud = KINDS.index(FRAUD[0])
    with (folder / "clicks.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["click_id", "is_fraud", "kind"])
        writer.writerows(
            (name, int(kind >= first_fraud), KINDS[kind]) for name, kind in zip(ids, clicks.kind.tolist(), strict=True)
        )


def _write_config(output: Path) -> None:
    """The config as it comes, unless there is one, which is the user's."""
    target = output / "config.yaml"
    if not target.exists():
        temporary = output / f"config.yaml.{os.getpid()}.tmp"
        shutil.copyfile(Path(__file__).with_name("config.yaml"), temporary)
        temporary.replace(target)


def _found(output: Path, arguments: Mapping[str, int]) -> TrafficSummary | None:
    if not output.exists():
        return None
    if not output.is_dir():
        raise ConfigError(f"{output}: is no folder", "Name another one.")
    marker = output / MARKER
    if marker.exists():
        content = json.loads(marker.read_text())
        if content["arguments"] == arguments and (output / "config.yaml").exists():
            return _summary(output, content["summary"], reused=True)
        return None
    if any(output.iterdir()):
        raise ConfigError(f"{output}: holds something else than sample traffic", "Name an empty or a new folder.")
    return None


def _summary(output: Path, content: Mapping[str, Any], *, reused: bool) -> TrafficSummary:
    return TrafficSummary(
        output=output,
        events=content["events"],
        clicks=dict(Counter(content["clicks"])),
        months=tuple(content["months"]),
        verdicts=content["verdicts"],
        reused=reused,
    )
