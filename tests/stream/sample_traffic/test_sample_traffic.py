"""Sample traffic: the same seed gives the same bytes, the truth is beside, and each kind does what its words say."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.sample_traffic.clicks import FRAUD, HONEST, KINDS, Clicks
from adclick.stream.sample_traffic.fraud import NEWCOMER
from adclick.stream.sample_traffic.population import BOT
from adclick.stream.sample_traffic.writer import draw_sample_traffic, write_sample_traffic

CLICKS, MONTHS = 15_000, 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traffic") / "sample"
    write_sample_traffic(folder, clicks=CLICKS, months=MONTHS, seed=3)
    return folder


@pytest.fixture(scope="module")
def drawn() -> Clicks:
    return draw_sample_traffic(clicks=CLICKS, months=MONTHS, seed=3)[0]


def of(drawn: Clicks, kind: str) -> Clicks:
    return drawn.at(np.flatnonzero(drawn.kind == KINDS.index(kind)))


def events(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.gz"))
        for line in gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
    ]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(written: Path, tmp_path: Path) -> None:
    write_sample_traffic(tmp_path / "same", clicks=CLICKS, months=MONTHS, seed=3)
    write_sample_traffic(tmp_path / "other", clicks=CLICKS, months=MONTHS, seed=4)
    assert hashes(tmp_path / "same") == hashes(written)
    assert hashes(tmp_path / "other")["truth/clicks.csv"] != hashes(written)["truth/clicks.csv"]


def test_each_click_has_its_truth_and_most_their_verdict(written: Path) -> None:
    clicks = events(written / "events" / "clicks")
    with (written / "truth" / "clicks.csv").open(newline="") as stream:
        truth = {row["click_id"]: row for row in csv.DictReader(stream)}
    with (written / "verdicts" / "verdicts.csv").open(newline="") as stream:
        verdicts = list(csv.DictReader(stream))
    assert {click["click_id"] for click in clicks} == set(truth)
    assert len(truth) == len(clicks)
    assert 0.97 < len(verdicts) / len(clicks) < 1
    assert all(verdict["is_fraud"] == truth[verdict["click_id"]]["is_fraud"] for verdict in verdicts)
    at = {click["click_id"]: click["time"] for click in clicks}
    assert all(verdict["time"] >= at[verdict["click_id"]] for verdict in verdicts)
    kinds = Counter(row["kind"] for row in truth.values())
    assert set(kinds) == set(KINDS)
    assert 0.06 < sum(kinds[kind] for kind in FRAUD) / len(truth) < 0.14
    assert all((row["kind"] in HONEST) == (row["is_fraud"] == "0") for row in truth.values())


def test_what_is_new_appears_in_the_last_month_alone(drawn: Clicks) -> None:
    def months(kind: str) -> set[str]:
        return set(np.datetime_as_string((of(drawn, kind).time // 1_000_000).astype("datetime64[s]"), "M").tolist())

    assert months(NEWCOMER) == {"2026-10"}
    assert all(months(kind) == {"2026-08", "2026-09", "2026-10"} for kind in FRAUD if kind != NEWCOMER)


def test_kinds_do_what_their_words_say(drawn: Clicks) -> None:
    def share_between(kind: str, low: float, high: float) -> float:
        delay = of(drawn, kind).delay
        return float(np.mean((delay >= low) & (delay < high)))

    assert share_between("click_injection", 0, 1) > 0.9 > 0.2 > share_between("user", 0, 1)
    assert np.isnan(of(drawn, "hijacked_device").delay).mean() > 0.5
    assert np.isnan(of(drawn, "user").delay).mean() < 0.08
    stacked = of(drawn, "ad_stacking")
    gaps = np.diff(stacked.time[np.lexsort((stacked.time, stacked.device))])
    assert np.mean((gaps >= 0) & (gaps < 1_000_000)) > 0.6
    # Not by its address alone: an office has as many clicks as a farm.
    assert len(of(drawn, "office")) / len(np.unique(of(drawn, "office").ip)) > 100
    assert set(of(drawn, "crawler").browser.tolist()) == {BOT}


def test_events_come_as_a_log_has_them_nearly_in_order(written: Path) -> None:
    times = [click["time"] for click in events(written / "events" / "clicks")]
    assert times != sorted(times)
    assert sum(one > other for one, other in pairwise(times)) < 0.01 * len(times)


def test_what_is_there_is_found_and_another_folder_left_alone(written: Path, tmp_path: Path) -> None:
    assert write_sample_traffic(written, clicks=CLICKS, months=MONTHS, seed=3).reused
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else"):
        write_sample_traffic(tmp_path, clicks=CLICKS, months=MONTHS)
    with pytest.raises(ConfigError, match="too few"):
        write_sample_traffic(tmp_path / "few", clicks=100, months=MONTHS)
