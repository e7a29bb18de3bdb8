"""Judged clicks against verdicts: recall, precision and calibration by version, and what has no verdict."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.monitor.scored_clicks import document_of, logged_batch, print_stream_report, report_of
from adclick.schema.errors import DataRefused
from adclick.stream.clicks import Click, ScoredClick

BEGIN = 1_793_491_200_000_000


def config_in(folder: Path, **history: Any) -> Config:
    file = folder / "config.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "data": {"root": "data"},
                "features": {
                    "click_id": {"role": "identifier"},
                    "time": {"role": "timestamp"},
                    "is_fraud": {"role": "label", "positive": ["fraud"], "negative": ["honest"]},
                    "ip": {"role": "categorical"},
                    "tags": {"role": "multi_valued"},
                },
                "stream": {
                    "features": {"clicks_by_ip": {"kind": "count", "by": ["ip"], "window": "1m"}},
                    "history": history,
                },
            }
        )
    )
    return load_config(file)


def judged(number: int, probability: float | None, *, version: int = 7, late: bool = False) -> ScoredClick:
    fields: dict[str, str | float] = {"ip": f"10.0.0.{number % 9}", "tags": "a|b"}
    click = Click(f"c{number}", BEGIN + number * 1_000_000, fields, {} if late else {"clicks_by_ip": 3.0}, late)
    return ScoredClick(click, probability, version, probability is not None and probability >= 0.5)


def test_verdicts_say_how_good_the_alerts_are(tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts.csv"
    config = config_in(tmp_path, verdicts=str(verdicts))
    assert config.stream is not None
    rows = ["click_id,is_fraud", "c0,honest"]
    scored = []
    for number in range(1000):
        is_fraud, is_alerting = number % 10 == 0, number % 20 == 0 or number % 50 == 1
        scored.append(judged(number, 0.9 if is_alerting else 0.05, version=7 + number // 800))
        if number < 900:
            rows.append(f"c{number},{'Fraud' if is_fraud else 'honest'}")
    scored += [judged(1000, None), judged(1001, 0.1, late=True)]
    verdicts.write_text("\n".join([*rows, "c5000,fraud"]) + "\n")

    report = report_of(config, config.stream, scored)

    counts = report.counts
    assert (counts.verdicts, counts.changed, counts.unmatched) == (901, 1, 1)
    assert (counts.unlabelled, counts.late, counts.no_probability) == (102, 1, 1)
    assert list(report.alerting) == [7, 8]
    first = report.alerting[7]
    assert first.shares == {"recall": (40, 80), "precision": (40, 56), "false_positive_rate": (16, 720)}
    found = document_of(report)["alerting"]["7"]
    assert found["recall"]["lower"] < found["recall"]["value"] == 0.5 < found["recall"]["upper"]
    (seven, eight) = report.traffic.versions
    assert (seven.traffic.predictions, eight.traffic.predictions) == (802, 200)
    assert seven.performance is not None and seven.performance.predictions == 800
    predicted = sum(one.fraud_probability or 0 for one in scored[:800])
    assert seven.performance.metrics["calibration_ratio"].value == pytest.approx(predicted / 80, rel=1e-3)
    console = Console(file=io.StringIO(), width=200)
    print_stream_report(console, report)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "50.00%" in printed and "901 verdicts, 1 of which overruled an earlier one" in printed


def test_clicks_without_a_verdict_may_count_as_honest(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text('{"click_id": "c1", "is_fraud": "fraud"}\n')
    config = config_in(tmp_path, verdicts=str(tmp_path / "verdicts.jsonl"), unlabelled="negative")
    assert config.stream is not None
    (version,) = report_of(config, config.stream, [judged(n, 0.1) for n in range(50)]).traffic.versions
    assert version.performance is not None
    assert (version.performance.predictions, version.performance.clicks) == (50, 1)


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "verdicts.csv").write_text("click_id,is_fraud\nc1,perhaps\n")
    config = config_in(tmp_path, verdicts=str(tmp_path / "verdicts.csv"))
    assert config.stream is not None
    with pytest.raises(DataRefused, match="'perhaps'"):
        report_of(config, config.stream, [judged(1, 0.1)])


def test_without_verdicts_traffic_alone_is_looked_at(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert config.stream is not None
    report = report_of(config, config.stream, [judged(n, 0.1) for n in range(10)])
    assert report.alerting == {} and report.traffic.versions[0].traffic.predictions == 10
    with pytest.raises(DataRefused, match="no click has been judged"):
        report_of(config, config.stream, [])


def test_a_click_is_a_prediction_of_the_log(tmp_path: Path) -> None:
    features = config_in(tmp_path).features
    batch = logged_batch([judged(1, 0.25), judged(2, None, late=True)], features)
    assert batch.columns["tags"].to_pylist() == [[b"a", b"b"]] * 2
    assert batch.columns["clicks_by_ip"].to_pylist() == [[3.0], None]
    assert batch.columns["time"].to_pylist()[0] == [BEGIN // 1_000_000 + 1]
    assert np.isnan(batch.numbers("click_probability", np.nan)).tolist() == [False, True]
