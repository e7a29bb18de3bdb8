"""A plain click log of any size and the project that `adclick init` makes of it: data for the speed benchmarks.

Unlike the sample data it has no month-to-month drift, no bad rows and, unless asked for, no images: what stock TFX can
read, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

MONTH = "2026-10"
LABEL = "clicked"
COLUMNS = (
    "impression_id",
    "timestamp",
    "device",
    "position",
    "category",
    "site_id",
    "ad_id",
    "viewability",
    "bid_price",
    LABEL,
)
IMAGE = "image"

#: Beyond what could be a time in seconds or the number of a row.
_FIRST_ID = 20_000_000_001
_START = 1_790_812_800  # 2026-10-01T00:00:00Z
_SECONDS = 31 * 86_400
_DEVICES = ("phone", "tablet", "desktop")
_POSITIONS = ("top", "middle", "side", "bottom")
_CATEGORIES = 30
_SITES = 2_000
_ADS = 20_000
#: Rows made and written at a time; bounds memory.
_ROWS_AT_A_TIME = 500_000


@dataclass(frozen=True)
class Project:
    """A click log and what adclick needs to run on it.

    Attributes:
        folder: Holds all of it.
        rows: Impressions.
    """

    folder: Path
    rows: int

    @property
    def drops(self) -> Path:
        return self.folder / "drops"

    @property
    def drop(self) -> Path:
        return self.drops / MONTH

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def push_base(self) -> Path:
        return self.output / "serving_model" / "adclick"


def write_click_log(drops: Path, rows: int, *, seed: int = 1, files: int = 1, images: Sequence[str] = ()) -> None:
    """Writes a month of impressions as CSV files of the columns `COLUMNS`, ordered by time.

    Clicks, some 6 % of the impressions, are drawn from a probability that depends on position, device, category, ad,
    viewability and the logarithm of the bid. Sites and ads follow a power law over up to 2,000 and 20,000 values.

    Args:
        drops: The folder to write the month's folder to.
        rows: Impressions over all files.
        seed: The same seed and sizes write the same bytes.
        files: How many files; `impressions.csv` if one, else `impressions-00.csv` and so on.
        images: Image addresses relative to the month's folder; each is the `image`, an eleventh column, of about
            equally many impressions.
    """
    random = np.random.default_rng(seed)
    effects = {
        "device": np.array([0.3, 0.0, -0.1]),
        "position": np.array([0.5, 0.1, -0.2, -0.5]),
        "category": random.normal(0, 0.3, _CATEGORIES),
        "ad_id": random.normal(0, 0.4, _ADS),
    }
    folder = drops / MONTH
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, rows, files + 1).astype(np.int64).tolist()
    for number, (first, end) in enumerate(pairwise(bounds)):
        name = "impressions.csv" if files == 1 else f"impressions-{number:02d}.csv"
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            for start in range(first, end, _ROWS_AT_A_TIME):
                numbers = np.arange(start, min(start + _ROWS_AT_A_TIME, end))
                frame = pd.DataFrame(_columns(numbers, rows, effects, images, random))
                frame.to_csv(stream, index=False, header=start == first)


def _columns(
    numbers: NDArray[np.int64],
    rows: int,
    effects: dict[str, NDArray[np.float64]],
    images: Sequence[str],
    random: np.random.Generator,
) -> dict[str, Any]:
    count = len(numbers)
    drawn = {
        "device": random.integers(0, len(_DEVICES), count),
        "position": random.integers(0, len(_POSITIONS), count),
        "category": random.integers(0, _CATEGORIES, count),
        "ad_id": _power_law(count, _ADS, random),
    }
    viewability = random.beta(2, 1, count).round(3)
    bid_price = random.lognormal(0, 1, count).round(4)
    logits = -3.4 + 0.8 * viewability + 0.2 * np.log(np.maximum(bid_price, 0.01))
    for name, chosen in drawn.items():
        logits += effects[name][chosen]
    clicked = random.random(count) < 1 / (1 + np.exp(-logits))
    columns = {
        "impression_id": _FIRST_ID + numbers,
        "timestamp": _START + ((numbers + random.random(count)) / rows * _SECONDS).astype(np.int64),
        "device": _texts(_DEVICES, drawn["device"]),
        "position": _texts(_POSITIONS, drawn["position"]),
        "category": _texts([f"c{value:02d}" for value in range(_CATEGORIES)], drawn["category"]),
        "site_id": _texts([f"site{value}" for value in range(_SITES)], _power_law(count, _SITES, random)),
        "ad_id": _texts([f"ad{value}" for value in range(_ADS)], drawn["ad_id"]),
        "viewability": viewability,
        "bid_price": bid_price,
        LABEL: clicked.astype(np.int8),
    }
    if images:
        columns[IMAGE] = _texts(images, random.integers(0, len(images), count))
    return columns


def _power_law(count: int, values: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Numbers below `values`, the frequency of each proportional to 1 / (1 + number)."""
    return np.minimum(np.exp(random.random(count) * np.log(values + 1)).astype(np.int64) - 1, values - 1)


def _texts(values: Sequence[str], chosen: NDArray[np.int64]) -> Any:
    return np.array(values, dtype=object)[chosen]


def write_project(
    folder: Path, rows: int, *, seed: int = 1, files: int = 1, images: Sequence[str] = (), epochs: int = 3
) -> Project:
    """Writes a click log, lets `adclick init` make a config and a schema of it, and sets what benchmarks need.

    Training always takes `epochs` passes, metrics carry no confidence intervals, and even a model of a thousand
    impressions is good enough to be pushed.

    Args:
        folder: Holds neither a log nor a config yet.
        rows: Impressions.
        seed: Seeds the click log.
        files: How many CSV files.
        images: As for `write_click_log`; the files must be there already.
        epochs: Passes over the training data.
    """
    from adclick.pipeline.onboarding import run_init

    project = Project(folder, rows)
    write_click_log(project.drops, rows, seed=seed, files=files, images=images)
    run_init(project.drops, folder, force=False)
    document = yaml.safe_load(project.config.read_text(encoding="utf-8"))
    document["output"] = project.output.name
    # A patience of as many epochs never stops early.
    document["training"] = {"max_epochs": epochs, "patience": epochs}
    document["evaluation"] = {
        "slices": [["device"], ["position"]],
        "confidence_intervals": False,
        "thresholds": [{"metric": "auc", "lower": 0.2}, {"metric": "log_loss", "upper": 1.0}],
    }
    project.config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return project
