"""Writes months of synthetic drops and, beside them, the truth they were drawn from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from adclick.models.soft_metrics import soft_metrics
from adclick.pipeline.sample_data.attainable import attainable_probability
from adclick.pipeline.sample_data.drops import (
    DropCounts,
    SampleCreatives,
    image_bytes,
    impression_ids,
    plan_creatives,
    write_month,
)
from adclick.pipeline.sample_data.images import image_effects
from adclick.pipeline.sample_data.population import AD_CATEGORIES, SamplePopulation, draw_population
from adclick.pipeline.sample_data.traffic import SampleTraffic, draw_traffic, lose_values
from adclick.pipeline.sample_data.truth import Truth, make_truth, probability_without_image
from adclick.schema.errors import ConfigError

#: Marks a folder as sample data, says from which arguments, and whether it is whole.
MARKER = ".adclick-sample-data.json"
#: Rises whenever the same arguments give other data.
_VERSION = 2
_EVAL_SHARE, _VALIDATION_SHARE = 0.2, 0.1
#: Files that come with the data, ready for use; once edited they are the user's.
_TEMPLATES = ("config.yaml", "schema.pbtxt")
_PARTS = ("drops", "truth")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SampleSummary:
    """What was written, or found already written.

    Attributes:
        output: The folder.
        config: The config file for exactly this data.
        months: The months, YYYY-MM, oldest first.
        rows: Sound impressions in all months, each counted once.
        duplicates: Repeated rows.
        corrupt: Rows that cannot be read.
        images: Distinct creatives that the impressions name.
        click_rate: Mean true click probability.
        metrics: For each month's evaluation split what the truth and its averages score: the content of
            truth/summary.json.
        reused: Whether the folder already held this data and nothing was written.
    """

    output: Path
    config: Path
    months: tuple[str, ...]
    rows: int
    duplicates: int
    corrupt: int
    images: int
    click_rate: float
    metrics: dict[str, Any]
    reused: bool

    def describe(self) -> str:
        """What there is, in a few lines for a person."""
        done = "is already there" if self.reused else "is written"
        return (
            f"Sample data {done}: {self.output}\n"
            f"  {self.rows:,} impressions in {len(self.months)} month{'s' * (len(self.months) != 1)} "
            f"({', '.join(self.months)}), "
            f"{self.images:,} creatives, {self.click_rate:.2%} clicked;\n"
            f"  {self.corrupt:,} corrupt and {self.duplicates:,} repeated rows and some broken images are put in, "
            "as real drops have them.\n"
            f"  The true click probability of each impression is in {self.output / 'truth'}."
        )


@dataclass(frozen=True)
class _Arguments:
    rows: int
    creatives: int
    months: int
    seed: int
    first_month: str
    image_effect: bool
    defects: bool
    anomalous_month: int | None
    version: int = _VERSION

    def check(self) -> None:
        for name, value, least in (
            ("months", self.months, 1),
            ("creatives", self.creatives, 20),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise ConfigError(f"sample data: {name} must be at least {least}, not {value}")
        if self.rows < 200 * self.months:
            raise ConfigError(
                f"sample data: {self.rows} rows are too few for {self.months} months",
                f"Ask for at least {200 * self.months} rows.",
            )
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", self.first_month):
            raise ConfigError(f"sample data: the first month {self.first_month!r} is not of the form YYYY-MM")
        if self.anomalous_month is not None and not 0 <= self.anomalous_month < self.months:
            raise ConfigError(
                f"sample data: there is no month {self.anomalous_month} to make anomalous",
                f"Months are counted from 0 to {self.months - 1}.",
            )


@dataclass(frozen=True)
class _World:
    population: SamplePopulation
    traffic: SampleTraffic
    truth: Truth
    effects: NDArray[np.float64]
    creatives: SampleCreatives
    ids: pa.Array
    clicked: NDArray[np.int8]


def _generators(seed: int) -> dict[str, np.random.Generator]:
    """A stream per concern, so that a switch changes only what it names."""
    names = ("population", "traffic", "losses", "looks", "effects", "clicks", "ids", "pixels", "defects")
    streams = np.random.SeedSequence(seed).spawn(len(names))
    return {name: np.random.Generator(np.random.PCG64(stream)) for name, stream in zip(names, streams, strict=True)}


def _make_world(
    arguments: _Arguments, months: Sequence[np.datetime64], random: dict[str, np.random.Generator]
) -> _World:
    days = int(((months[-1] + 1).astype("datetime64[D]") - months[0].astype("datetime64[D]")).astype(np.int64))
    population = draw_population(arguments.rows, arguments.creatives, days, random["population"])
    traffic = lose_values(draw_traffic(population, months, arguments.rows, random["traffic"]), random["losses"])
    creatives = plan_creatives(population, traffic.creative, defects=arguments.defects)
    effects = image_effects(population.looks, population.creative_category, len(AD_CATEGORIES), random["looks"])
    if not arguments.image_effect:
        effects = np.zeros_like(effects)
    effects[creatives.unreadable] = 0.0
    truth = make_truth(population, traffic, effects, random["effects"])
    clicked = (random["clicks"].random(arguments.rows) < truth.probability).astype(np.int8)
    return _World(
        population, traffic, truth, effects, creatives, impression_ids(arguments.rows, random["ids"]), clicked
    )


def _evaluation_rows(world: _World, month: int) -> NDArray[np.bool_]:
    """The last part of a month by time; impressions of one second stay together."""
    own = world.traffic.month == month
    seconds = world.traffic.seconds[own]
    boundary = seconds[int(len(seconds) * (1 - _EVAL_SHARE))]
    return np.asarray(own & (world.traffic.seconds >= boundary))


def _splits(world: _World, month: int, evaluation: NDArray[np.bool_]) -> NDArray[np.str_]:
    """The split of each of a month's impressions, to the second; other months' are not for use."""
    own = (world.traffic.month == month) & ~evaluation
    seconds = world.traffic.seconds[own]
    boundary = seconds[int(len(seconds) * (1 - _VALIDATION_SHARE / (1 - _EVAL_SHARE)))]
    splits = np.where(evaluation, "eval", "train")
    return np.where(own & (world.traffic.seconds >= boundary), "validation", splits)


def _scores(
    truth: NDArray[np.float64], predictions: dict[str, NDArray[np.float64]], rows: NDArray[np.bool_]
) -> dict[str, Any]:
    count = int(rows.sum())
    if not count:
        return {"rows": 0}
    return {
        "rows": count,
        "expected_clicks": float(truth[rows].sum()),
        **{
            name: dataclasses.asdict(soft_metrics(truth[rows], prediction[rows]))
            for name, prediction in predictions.items()
        },
    }


def _write_truth(folder: Path, name: str, world: _World, month: int) -> dict[str, Any]:
    """Writes one month's truth and returns what it scores on the month's evaluation split."""
    traffic, truth = world.traffic, world.truth
    evaluation = _evaluation_rows(world, month)
    own = traffic.month == month
    training = (traffic.month < month) | (own & ~evaluation)
    probability = truth.probability
    new_ad = ~np.isin(traffic.ad, traffic.ad[training])
    predictions = {
        "truth": probability,
        "without_image": probability_without_image(truth, traffic, world.population, world.effects, training),
        "attainable": attainable_probability(
            truth.structure + truth.image_effect, list(truth.ids.values()), world.clicked, training
        ),
        "base_rate": np.full(len(probability), world.clicked[training].mean()),
    }
    unseen = np.zeros(len(probability), dtype=bool)
    for column in truth.ids.values():
        unseen |= (column.ids >= 0) & ~np.isin(column.ids, column.ids[training])
    table = pa.table(
        {
            "impression_id": world.ids.take(pa.array(np.flatnonzero(own))),
            "probability": probability[own],
            "probability_without_image": predictions["without_image"][own],
            "probability_attainable": predictions["attainable"][own],
            "split": pa.array(_splits(world, month, evaluation)[own].tolist()),
            "new_ad": new_ad[own],
        }
    )
    pq.write_table(table, folder / f"{name}.parquet")
    return {
        "click_rate": float(probability[own].mean()),
        "unseen_id_share": float(unseen[evaluation].mean()),
        "overall": _scores(probability, predictions, evaluation),
        "new_ads": _scores(probability, predictions, evaluation & new_ad),
    }


def _write_images(folder: Path, names: list[str], world: _World, random: np.random.Generator, report: Progress) -> None:
    """Renders every creative once and puts it into the folder of each month that shows it."""
    shown = world.traffic.creative
    months_of: dict[int, list[str]] = {}
    for month, name in enumerate(names):
        (folder / name / "images").mkdir(parents=True)
        for creative in np.unique(shown[(world.traffic.month == month) & (shown >= 0)]).tolist():
            months_of.setdefault(creative, []).append(name)
    # A stream per creative: how one is drawn does not depend on the others.
    streams = random.spawn(len(world.creatives.names))
    for done, creative in enumerate(sorted(months_of), start=1):
        content = image_bytes(world.population, world.creatives, creative, streams[creative])
        if content is not None:
            for name in months_of[creative]:
                (folder / name / world.creatives.names[creative]).write_bytes(content)
        if done % 50 == 0 or done == len(months_of):
            report("images", done / len(months_of))


def _write(folder: Path, arguments: _Arguments, report: Progress) -> dict[str, Any]:
    """Writes everything but the marker into an empty folder and returns what the marker says of it."""
    random = _generators(arguments.seed)
    first = np.datetime64(arguments.first_month, "M")
    months = [first + index for index in range(arguments.months)]
    names = [str(month) for month in months]
    report("impressions", 0.0)
    world = _make_world(arguments, months, random)
    _write_images(folder / "drops", names, world, random["pixels"], report)
    (folder / "truth").mkdir()
    counts: dict[str, dict[str, Any]] = {}
    metrics: dict[str, Any] = {"months": {}}
    for month, (name, defects) in enumerate(zip(names, random["defects"].spawn(len(names)), strict=True)):
        rows = np.flatnonzero(world.traffic.month == month)
        drop: DropCounts = write_month(
            folder / "drops" / name,
            world.population,
            world.traffic,
            world.creatives,
            world.ids,
            world.clicked,
            rows,
            defects if arguments.defects else None,
            anomalous=month == arguments.anomalous_month,
        )
        shown = np.unique(world.traffic.creative[rows])
        drop.images = int((shown >= 0).sum())
        counts[name] = dataclasses.asdict(drop)
        metrics["months"][name] = _write_truth(folder / "truth", name, world, month)
        report("impressions", (month + 1) / len(names))
    (folder / "truth" / "summary.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    for template in _TEMPLATES:
        shutil.copyfile(Path(__file__).with_name(template), folder / template)
    shown = np.unique(world.traffic.creative)
    return {
        "click_rate": float(world.truth.probability.mean()),
        "images": int((shown >= 0).sum()),
        "months": counts,
        "sha256": {template: _digest(folder / template) for template in _TEMPLATES},
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _summary(output: Path, marker: dict[str, Any], *, reused: bool) -> SampleSummary:
    months: dict[str, dict[str, Any]] = marker["months"]
    return SampleSummary(
        output=output,
        config=output / "config.yaml",
        months=tuple(months),
        rows=sum(month["rows"] for month in months.values()),
        duplicates=sum(month["duplicates"] for month in months.values()),
        corrupt=sum(sum(month["corrupt"].values()) for month in months.values()),
        images=marker["images"],
        click_rate=marker["click_rate"],
        metrics=json.loads((output / "truth" / "summary.json").read_text(encoding="utf-8")),
        reused=reused,
    )


def _read_marker(output: Path) -> dict[str, Any] | None:
    """The marker of a folder of sample data, or None if the folder is free.

    Raises:
        ConfigError: Something else is there.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: not a folder", "Name a new or empty folder for the sample data.")
    if not output.exists() or not any(output.iterdir()):
        return None
    try:
        marker = json.loads((output / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        marker = None
    if not isinstance(marker, dict) or "arguments" not in marker:
        raise ConfigError(
            f"{output}: holds files that are not sample data", "Name a new or empty folder for the sample data."
        )
    return marker


def _write_marker(output: Path, content: dict[str, Any]) -> None:
    whole = output / f"{MARKER}.new"
    whole.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    whole.replace(output / MARKER)


def _move_in(fresh: Path, output: Path, found: dict[str, Any] | None, marker: dict[str, Any]) -> None:
    """Puts the fresh parts in place. What others keep in the folder, and a config edited by hand, stays."""
    if found is None:
        _write_marker(fresh, marker)
        if output.exists():
            output.rmdir()
        fresh.rename(output)
        return
    # Interrupted from here on, the folder stays recognisable as sample data that is not whole.
    _write_marker(output, {**found, "complete": False})
    for part in _PARTS:
        shutil.rmtree(output / part, ignore_errors=True)
        (fresh / part).rename(output / part)
    for template in _TEMPLATES:
        ours = output / template
        if not ours.exists() or _digest(ours) == found.get("sha256", {}).get(template):
            (fresh / template).replace(ours)
    _write_marker(output, marker)
    shutil.rmtree(fresh)


def write_sample_data(
    output: Path,
    *,
    rows: int = 60_000,
    creatives: int = 800,
    months: int = 3,
    seed: int = 1,
    first_month: str = "2026-08",
    image_effect: bool = True,
    defects: bool = True,
    anomalous_month: int | None = None,
    progress: Progress | None = None,
) -> SampleSummary:
    """Writes drops of synthetic impressions whose true click probability is known; the same arguments, the same bytes.

    The folder receives:

    - `drops/<YYYY-MM>/impressions-*.csv[.gz]` and `drops/<YYYY-MM>/images/`: what an agency would deliver.
    - `truth/<YYYY-MM>.parquet`: by impression_id the true click probability; the same without images
      (`truth.probability_without_image`); the best that the clicks so far allow (`attainable.attainable_probability`,
      which for training rows has seen their own clicks); the split, by time, and whether the ad is in no training or
      validation row. The clicks so far of a month are all earlier months' and those of the first 80 % of its own, of
      which the last eighth is for validation.
    - `truth/summary.json`: what each of these scores on each month's evaluation split (`reference.SoftMetrics`).
    - `config.yaml` and `schema.pbtxt`: the config and the curated schema for this data.

    Defects come on top of `rows`: corrupt rows and repeats have no truth of their own, and an image that cannot be
    decoded has no effect on the truth. In an anomalous month the files rename the devices and leave the sites empty;
    the truth is that of the impressions as they were.

    Args:
        output: The folder to write; new, empty, or holding sample data, which is replaced if its arguments differ.
        rows: Sound impressions in all.
        creatives: Images in all; the rarest may never be shown. There are half as many ads again.
        months: Months in all.
        seed: Seeds everything.
        first_month: The oldest month, YYYY-MM.
        image_effect: Whether images change the click probability; if not, only the clicks and their truth differ.
        defects: Whether there are corrupt rows, repeated rows and broken images.
        anomalous_month: The index of a month that a schema must refuse.
        progress: Is told the current step and the share of it that is done, 0 to 1.

    Returns:
        What was written, or found already there.

    Raises:
        ConfigError: An argument is out of bounds, or the folder holds something else.
    """
    arguments = _Arguments(rows, creatives, months, seed, first_month, image_effect, defects, anomalous_month)
    arguments.check()
    report = progress or (lambda step, share: None)
    output = output.absolute()
    found = _read_marker(output)
    if found is not None and found.get("complete") and found["arguments"] == dataclasses.asdict(arguments):
        return _summary(output, found, reused=True)
    fresh = output.with_name(f".{output.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        content = _write(fresh, arguments, report)
        marker = {"complete": True, "arguments": dataclasses.asdict(arguments), **content}
        _move_in(fresh, output, found, marker)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return _summary(output, marker, reused=False)
