"""Past events become drops: the same rows from every form of file, each with what was known at its instant."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import parse_feature_table
from adclick.stream.columns import click_reader
from adclick.stream.events import Event
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.history.backfill import HISTORY_POSITION, BackfillReport, run_backfill
from adclick.stream.settings import StreamSettings
from adclick.stream.state.rocksdb import RocksState
from adclick.stream.state.store import MemoryState

FEATURES = parse_feature_table(
    {
        "click_id": {"role": "identifier"},
        "time": {"role": "timestamp"},
        "address": {"role": "categorical", "source": "ip"},
        "cost": {"role": "numeric"},
        "is_fraud": {"role": "label"},
        "clicks_1m": {"role": "numeric"},
        "to_click": {"role": "numeric"},
    }
)
DAY = "2026-09-30T"


def settings(folder: Path, **history: str) -> StreamSettings:
    return StreamSettings.model_validate(
        {
            "events": {"clicks": {"id": "click_id"}, "impressions": {"id": "impression_id"}},
            "features": {
                "clicks_1m": {"kind": "count", "by": ["address"], "window": "1m"},
                "to_click": {"kind": "time_to_click"},
            },
            "history": {
                "clicks": str(folder / "clicks*"),
                "impressions": str(folder / "impressions*"),
                **history,
            },
        }
    )


CLICKS: list[dict[str, Any]] = [
    {"click_id": "a", "time": f"{DAY}23:59:30Z", "ip": "1.1.1.1", "cost": 0.5, "impression_id": "i", "is_fraud": 0},
    {"click_id": "b", "time": f"{DAY}23:59:50.5Z", "ip": "1.1.1.1", "cost": "", "impression_id": "?", "is_fraud": 1},
    {"click_id": "c", "time": "2026-10-01T00:00:10Z", "ip": "1.1.1.1", "cost": 2, "impression_id": "i", "is_fraud": 0},
]
IMPRESSIONS = [{"impression_id": "i", "time": f"{DAY}23:59:28Z", "ip": "1.1.1.1"}]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if ".csv" in path.name:
        header = list(rows[0])
        text = "\n".join(",".join(map(str, line)) for line in [header, *([r[n] for n in header] for r in rows)]) + "\n"
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())


def backfill(folder: Path, stream: StreamSettings, **options: Any) -> BackfillReport:
    return run_backfill(stream, FEATURES, root=folder / "drops", work=folder / "work", **options)


def rows(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for path in sorted((folder / "drops").glob("*/*.csv")):
        with path.open(newline="") as stream:
            found[path.parent.name] = list(csv.DictReader(stream))
    return found


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "csv", "csv.gz"])
def test_rows_have_what_was_known_at_their_instant(form: str, tmp_path: Path) -> None:
    write(tmp_path / f"clicks-1.{form}", CLICKS[:2])
    write(tmp_path / f"clicks-2.{form}", CLICKS[2:])
    write(tmp_path / f"impressions.{form}", IMPRESSIONS)
    report = backfill(tmp_path, settings(tmp_path))
    assert report.rows == {"2026-09": 2, "2026-10": 1}
    found = rows(tmp_path)
    assert list(found) == ["2026-09", "2026-10"]
    a, b = found["2026-09"]
    assert a == {
        "click_id": "a",
        "time": "2026-09-30T23:59:30.000000Z",
        "is_fraud": "0",
        "ip": "1.1.1.1",
        "cost": "0.5",
        "clicks_1m": "1.0",
        "to_click": "2.0",
    }
    assert (b["cost"], b["clicks_1m"], b["to_click"], b["is_fraud"]) == ("", "2.0", "", "1")
    (c,) = found["2026-10"]
    assert (c["clicks_1m"], c["to_click"]) == ("3.0", "42.0")
    assert (report.positives, report.unlabelled) == (1, 0)


@pytest.mark.parametrize("form", ["jsonl", "csv.gz"])
def test_verdicts_join_by_the_clicks_id_and_the_last_holds(form: str, tmp_path: Path) -> None:
    write(tmp_path / "clicks.jsonl", CLICKS)
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    verdicts = [("a", 0), ("b", 0), ("a", 1), ("elsewhere", 1)]
    write(tmp_path / f"verdicts.{form}", [{"click": name, "is_fraud": label} for name, label in verdicts])
    stream = settings(tmp_path, verdicts=str(tmp_path / "verdicts*"), verdict_id="click")
    report = backfill(tmp_path, stream)
    assert [(row["click_id"], row["is_fraud"]) for row in rows(tmp_path)["2026-09"]] == [("a", "1"), ("b", "0")]
    assert (report.unlabelled, report.unmatched_verdicts) == (1, 1)
    assert report.verdicts is not None
    assert report.verdicts.changed == 1
    assert "1 clicks without a label: left out" in report.describe()
    stream = settings(tmp_path, verdicts=str(tmp_path / "verdicts*"), verdict_id="click", unlabelled="negative")
    assert backfill(tmp_path, stream, replace=True).rows == {"2026-09": 2, "2026-10": 1}


def test_late_clicks_are_there_without_features_and_count_nowhere(tmp_path: Path) -> None:
    late = {**CLICKS[0], "click_id": "late", "time": f"{DAY}23:59:40Z"}
    write(tmp_path / "clicks.jsonl", [*CLICKS[:2], late, *CLICKS[2:]])
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    report = backfill(tmp_path, settings(tmp_path))
    assert report.late == {"clicks": 1, "impressions": 0}
    by_id = {row["click_id"]: row for month in rows(tmp_path).values() for row in month}
    assert (by_id["late"]["clicks_1m"], by_id["late"]["to_click"]) == ("", "")
    assert by_id["c"]["clicks_1m"] == "3.0"


def test_what_is_no_event_is_told_with_file_line_and_reason(tmp_path: Path) -> None:
    write(tmp_path / "clicks.jsonl", CLICKS)
    (tmp_path / "clicks.jsonl").write_bytes((tmp_path / "clicks.jsonl").read_bytes() + b"\n{broken\n")
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    report = backfill(tmp_path, settings(tmp_path), max_rejected_share=0.5)
    assert report.rejected_file is not None
    (line,) = report.rejected_file.read_text().splitlines()
    found = json.loads(line)
    assert (found["file"], found["line"], found["payload"]) == (str(tmp_path / "clicks.jsonl"), 5, "{broken")
    with pytest.raises(DataRefused, match=r"1 of 5 events are rejected, more than 1\.0%"):
        backfill(tmp_path, settings(tmp_path), replace=True)
    # What was there before stays.
    assert list(rows(tmp_path)) == ["2026-09", "2026-10"]
    assert not list(tmp_path.glob("drops.*"))


def test_drops_that_are_there_are_replaced_only_when_told_so(tmp_path: Path) -> None:
    write(tmp_path / "clicks.jsonl", CLICKS)
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    backfill(tmp_path, settings(tmp_path))
    with pytest.raises(ConfigError, match="is there already"):
        backfill(tmp_path, settings(tmp_path))
    write(tmp_path / "clicks.jsonl", CLICKS[:1])
    backfill(tmp_path, settings(tmp_path), replace=True)
    assert list(rows(tmp_path)) == ["2026-09"]


def test_the_stream_goes_on_from_the_state_that_is_left(tmp_path: Path) -> None:
    write(tmp_path / "clicks.jsonl", CLICKS)
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    stream = settings(tmp_path)
    backfill(tmp_path, stream, state=tmp_path / "state")
    store = RocksState(tmp_path / "state")
    operator = FeatureOperator(stream, store)
    assert operator.position() == HISTORY_POSITION
    message = json.dumps({**CLICKS[2], "click_id": "d", "time": "2026-10-01T00:00:20Z"}).encode()
    event = click_reader(stream, FEATURES).read(message)
    assert isinstance(event, Event)
    assert operator.process(event) == {"clicks_1m": 4, "to_click": 52.0}
    store.close()
    assert FeatureOperator(stream, MemoryState()).process(event) == {"clicks_1m": 1}


@pytest.mark.parametrize(
    ("name", "content", "error", "what"),
    [
        ("clicks.parquet", b"", ConfigError, "neither .jsonl nor .csv"),
        ("clicks.jsonl.gz", gzip.compress(b'{"click_id": "a"}\n' * 500)[:40], DataRefused, "damaged gzip"),
        ("clicks.csv", b"click_id,click_id\n1,2\n", ConfigError, "names a column twice"),
        ("clicks.csv", b"click_id,time\n\xff,2026-10-01\n", DataRefused, "is not UTF-8"),
        ("clicks.csv", b"click_id,time\na,2026-10-01,b\n", DataRefused, "fields"),
        ("clicks.jsonl", b'{"click_id": "a", "time": "2026-10-01"}\n', DataRefused, "none of 1 clicks has a label"),
        ("elsewhere.jsonl", b"", ConfigError, "no such file"),
    ],
)
def test_files_that_are_none_of_events_are_named(
    name: str, content: bytes, error: type[Exception], what: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    write(tmp_path / "impressions.jsonl", IMPRESSIONS)
    with pytest.raises(error, match=what):
        backfill(tmp_path, settings(tmp_path))
    assert not (tmp_path / "drops").exists()


def test_a_log_without_ids_and_impressions_of_a_few_columns(tmp_path: Path) -> None:
    rows = ["ip,app,click_time,is_attributed"] + [
        f"{ip},3,2017-11-07 09:30:{s:02d},{s % 2}" for s, ip in enumerate((7, 7, 8))
    ]
    (tmp_path / "clicks.csv").write_text("\n".join(rows))
    features = parse_feature_table(
        {
            "app": {"role": "categorical"},
            "click_time": {"role": "timestamp"},
            "is_attributed": {"role": "label"},
            "clicks_1h": {"role": "numeric"},
        }
    )
    stream = StreamSettings.model_validate(
        {
            "events": {"clicks": {"id": None, "time": "click_time"}},
            "features": {"clicks_1h": {"kind": "count", "by": ["ip"], "window": "1h"}},
            "history": {"clicks": str(tmp_path / "clicks.csv")},
        }
    )
    run_backfill(stream, features, root=tmp_path / "drops", work=tmp_path / "work")
    with (tmp_path / "drops" / "2017-11" / "clicks.csv").open(newline="") as written:
        found = list(csv.DictReader(written))
    assert [row["clicks_1h"] for row in found] == ["1.0", "2.0", "1.0"]
    assert list(found[0]) == ["click_time", "is_attributed", "app", "clicks_1h"]
