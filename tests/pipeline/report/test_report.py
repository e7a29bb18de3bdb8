"""The report's facts and its page, from records and statistics made here; real runs stand in the end-to-end tests."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorflow_metadata.proto.v0 import statistics_pb2

from adclick.components.drift_detector.distances import DriftReport, FeatureDrift
from adclick.pipeline.report.behaviour import calibrate, measure_lifts
from adclick.pipeline.report.facts import (
    Anomaly,
    Month,
    QuarantineExample,
    RunReport,
)
from adclick.pipeline.report.gather import gather
from adclick.pipeline.report.ingestion import shortened
from adclick.pipeline.report.page import headline, render
from adclick.pipeline.report.plots import nice_ticks, scale_of
from adclick.pipeline.report.sections import SECTIONS
from adclick.pipeline.report.statistics import describe_features
from adclick.pipeline.report.write import report_at_end
from adclick.pipeline.runs.record import DropRecord, MetricRecord, RunRecord, SliceRecord, wilson_interval, write_record
from adclick.schema.feature_table import parse_feature_table

HOSTILE = '<script>alert("x")</script>'


def metric(value: float, half: float | None = None) -> MetricRecord:
    if half is None:
        return MetricRecord(value=value)
    return MetricRecord(value=value, lower=value - half, upper=value + half)


def slice_record(name: str, model: str, log_loss: MetricRecord) -> SliceRecord:
    metrics = {
        "example_count": metric(4_001),
        "click_rate": metric(0.044),
        "auc": metric(0.75, 0.03),
        "auc_precision_recall": metric(0.14, 0.04),
        "log_loss": log_loss,
        "normalised_entropy": metric(0.9, 0.03),
        "calibration_ratio": metric(1.02, 0.15),
    }
    return SliceRecord(slice=name, model=model, metrics=metrics)


def drop(name: str, reason: str = "wrong_field_count") -> DropRecord:
    return DropRecord(
        name=name,
        uri=f"/drops/{name}",
        rows_in=1_000,
        rows_examples=998,
        rows_quarantined=2,
        rows_duplicate=0,
        quarantined_by_reason={reason: 2},
        creatives_by_status={"ok": 10, "missing": 1},
        quarantine_uri=f"/artifacts/quarantine-{name}",
    )


CANDIDATE = slice_record("overall", "candidate", metric(0.16, 0.01))


def record(**changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": "20261121T032903Z",
        "input_key": "0" * 64,
        "config": {"output": "/output", "serving": {"model_name": "adclick"}},
        "baseline": None,
        "started": datetime(2026, 11, 21, 3, 29, tzinfo=UTC),
        "finished": datetime(2026, 11, 21, 3, 30, tzinfo=UTC),
        "drops": [drop("2026-09"), drop("2026-10")],
        "evaluation": [CANDIDATE],
        "state": "pushed",
        "pushed_version": 1795231784,
    }
    return RunRecord(**(values | changes))


def report(run: RunRecord, **parts: Any) -> RunReport:
    months = tuple(Month(found, anomalies=()) for found in run.drops)
    return RunReport(**({"record": run, "written": datetime(2026, 11, 21, tzinfo=UTC), "months": months} | parts))


class Page(HTMLParser):
    """What matters of a page: its tags with attributes, its headings and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_first_push_says_that_there_was_nothing_to_compare_with() -> None:
    said = headline(record()).sentence
    assert "Version 1795231784 was pushed" in said and "no blessed model to compare with" in said


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (metric(-0.01, 0.005), "it is better than the last blessed model"),
        (metric(0.01, 0.005), "it is worse than the last blessed model, within what is allowed"),
        (metric(-0.01, 0.02), "it does not clearly differ from the last blessed model"),
        (metric(-0.01), "it stays within what it may lose"),
    ],
)
def test_a_push_is_judged_by_the_interval_of_its_difference(difference: MetricRecord, words: str) -> None:
    run = record(baseline="/pushed/1", evaluation=[CANDIDATE, slice_record("overall", "change", difference)])
    assert words in headline(run).sentence


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("held", "The model is blessed and not served"),
        ("model_refused", "The model was refused and not pushed"),
        ("data_refused", "The data were refused before training"),
        ("failed", "The run failed"),
    ],
)
def test_a_refusal_says_why_first_and_counts_the_other_reasons(state: str, words: str) -> None:
    said = headline(record(state=state, reasons=["auc is 0.5. ", "calibration_ratio is 3"]))
    assert said.sentence == f"{words} – auc is 0.5." and said.others == 1


@pytest.mark.parametrize(
    "run",
    [
        record(),
        record(baseline="/pushed/1", evaluation=[CANDIDATE, slice_record("overall", "change", metric(-0.01, 0.02))]),
        record(state="model_refused", pushed_version=None, reasons=["auc in slice overall is 0.5; required: 0.6"]),
        record(state="data_refused", pushed_version=None, evaluation=[], reasons=["2026-10: anomaly"]),
        record(state="failed", pushed_version=None, evaluation=[], drops=[], reasons=["OSError: disk full"]),
        record(state="running", pushed_version=None, evaluation=[], drops=[], finished=None),
    ],
    ids=["first", "with a baseline", "model refused", "data refused", "failed", "killed"],
)
def test_every_run_gets_a_whole_accessible_page_that_loads_nothing(run: RunRecord) -> None:
    html = render(report(run))
    page = Page(html)
    assert page.of("html")[0]["lang"] == "en"
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(page.headings))
    assert all(attributes.get("alt") for attributes in page.of("img"))
    assert all(attributes.get("aria-label") for attributes in page.of("svg"))
    assert all(attributes.get("scope") for attributes in page.of("th"))
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"@import|url\(", html)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {f"#{name}" for name in identifiers} >= {str(attributes["href"]) for attributes in page.of("a")}


def test_the_contents_lead_to_every_section_in_its_order() -> None:
    page = Page(render(report(record())))
    sections = [attributes["id"] for attributes in page.of("section")]
    contents = [str(attributes["href"]) for attributes in page.of("a") if attributes.get("class") != "skip"]
    assert contents == [f"#{section.name}" for section in SECTIONS]
    assert sections == [section.name for section in SECTIONS]


def test_what_came_from_the_data_is_text_not_markup() -> None:
    row = QuarantineExample("a.csv", 7, "wrong_field_count", "site", HOSTILE, HOSTILE)
    run = record(state="data_refused", reasons=[HOSTILE], config={"output": HOSTILE})
    months = (Month(drop("2026-10"), (row,), (), (Anomaly("train", HOSTILE, HOSTILE),)),)
    html = render(report(run, months=months))
    assert HOSTILE not in html
    assert Page(html).text.count(HOSTILE) >= 5


def test_drift_beyond_its_threshold_is_named_with_what_it_does() -> None:
    moved = FeatureDrift(
        feature="device_type", measure="l_infinity", distance=0.213, threshold=0.1, action="stop", beyond=True
    )
    text = Page(
        render(report(record(), drift=DriftReport(month="2026-10", compared_with=("2026-09",), features=(moved,))))
    ).text
    assert "How far 2026-10 moved from 2026-09" in text and "beyond: stops the run" in text and "0.213" in text


def test_the_first_month_has_nothing_to_drift_from() -> None:
    text = Page(render(report(record(drops=[drop("2026-10")])))).text
    assert "First month: nothing to compare with." in text


def test_drift_is_read_from_what_the_detector_wrote(tmp_path: Path) -> None:
    features = [
        {"feature": "os", "measure": "l_infinity", "distance": 0.3, "threshold": None, "action": "report"},
        {"feature": "site", "measure": "l_infinity", "distance": 0.2, "threshold": 0.1, "action": "stop"},
    ]
    found = {
        "month": "2026-10",
        "compared_with": ["2026-08", "2026-09"],
        "features": [feature | {"beyond": feature["threshold"] is not None} for feature in features],
    }
    (tmp_path / "drift.json").write_text(json.dumps(found))
    drift = gather(str(tmp_path), record(drops=[], artifacts={"DriftDetector-2026-10.drift": [str(tmp_path)]})).drift
    assert drift is not None and drift.compared_with == ("2026-08", "2026-09")
    assert [moved.feature for moved in drift.features] == ["site", "os"], "what went beyond comes first"


def test_what_cannot_be_read_is_named_and_costs_no_other_part(tmp_path: Path) -> None:
    history = tmp_path / "model_run"
    history.mkdir()
    (history / "history.json").write_text(
        json.dumps({"learning_rate": [1, 1], "log_loss": [0.2, 0.1], "val_log_loss": [0.3, 0.2]})
    )
    run = record(artifacts={"ClickTrainer.model_run": [str(history)], "ExampleValidator-2026-10.anomalies": ["/gone"]})
    found = gather(str(tmp_path), run)
    assert found.history["val_log_loss"] == (0.3, 0.2)
    assert any(problem.startswith("the data of 2026-10") for problem in found.problems)
    assert "the data of 2026-10" in Page(render(found)).text


def test_a_failing_report_warns_and_leaves_the_outcome_alone(tmp_path: Path) -> None:
    output = str(tmp_path)
    run = record(drops=[], evaluation=[], state="failed")
    write_record(output, run)
    # Nothing can be renamed to where a folder with something in it stands.
    (tmp_path / "runs" / run.run_id / "report.html" / "in the way").mkdir(parents=True)
    shown = StringIO()
    with report_at_end(output, run.run_id, Console(file=shown)):
        pass
    with pytest.raises(KeyError, match="the run's own"), report_at_end(output, run.run_id, Console(file=shown)):
        raise KeyError("the run's own")
    assert shown.getvalue().count("warning: the report could not be written") == 2


def test_a_run_that_failed_has_a_report(tmp_path: Path) -> None:
    run = record(drops=[], evaluation=[], state="failed", reasons=["OSError: disk full"])
    write_record(str(tmp_path), run)
    shown = StringIO()
    with pytest.raises(OSError), report_at_end(str(tmp_path), run.run_id, Console(file=shown, width=300)):
        raise OSError
    file = tmp_path / "runs" / run.run_id / "report.html"
    assert f"Report: {file}" in shown.getvalue()
    assert "disk full" in file.read_text()


def test_a_run_that_never_began_has_no_report(tmp_path: Path) -> None:
    shown = StringIO()
    with report_at_end(str(tmp_path), "20261121T032903Z", Console(file=shown)):
        pass
    assert shown.getvalue() == "" and not list(tmp_path.iterdir())


def test_calibration_groups_by_prediction() -> None:
    prediction = np.linspace(0.01, 0.2, 1_000)
    clicked = np.random.default_rng(1).random(1_000) < prediction
    bins = calibrate(prediction, clicked, prediction / 2)
    assert [one.rows for one in bins] == [100] * 10
    assert all(earlier.predicted < later.predicted for earlier, later in itertools.pairwise(bins))
    assert sum((one.clicked.value or 0) * one.rows for one in bins) == pytest.approx(clicked.sum())
    assert all(one.truth == pytest.approx(one.predicted / 2) for one in bins)
    assert len(calibrate(prediction[:3], clicked[:3], None)) == 3


@pytest.mark.parametrize(("count", "rows", "lower", "upper"), [(0, 10, 0.0, 0.2775), (5, 100, 0.0215, 0.1118)])
def test_wilson_interval(count: int, rows: int, lower: float, upper: float) -> None:
    """The figures are of R's `prop.test(correct = FALSE)`."""
    found = wilson_interval(count, rows)
    assert found.lower == pytest.approx(lower, abs=1e-4) and found.upper == pytest.approx(upper, abs=1e-4)


def test_lift_is_the_ratio_of_predictions_with_and_without_the_image() -> None:
    keys = np.array([b"good", b"good", b"bad"], object)
    lifts = measure_lifts(keys, np.array([0.2, 0.4, 0.05]), np.array([0.1, 0.1, 0.1]))
    assert [(lift.key, lift.impressions) for lift in lifts] == [("good", 2), ("bad", 1)]
    assert [lift.lift for lift in lifts] == pytest.approx([2.0, -0.5])


def test_rarely_shown_images_are_left_out_where_there_are_enough_others() -> None:
    keys = np.array([f"often{number % 12}".encode() for number in range(240)] + [b"rare"], object)
    lifts = measure_lifts(keys, np.full(241, 0.1), np.full(241, 0.1))
    assert len(lifts) == 12 and "rare" not in {lift.key for lift in lifts}


def names(column: str, values: dict[str, int], missing: int) -> statistics_pb2.DatasetFeatureStatistics:
    found = statistics_pb2.DatasetFeatureStatistics()
    feature = found.features.add()
    feature.path.step.append(column)
    feature.string_stats.unique = len(values)
    feature.string_stats.common_stats.num_missing = missing
    feature.string_stats.common_stats.num_non_missing = sum(values.values())
    for value, count in values.items():
        feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=count)
    return found


def quantities(column: str, edges: list[float], mean: float) -> statistics_pb2.DatasetFeatureStatistics:
    found = statistics_pb2.DatasetFeatureStatistics()
    feature = found.features.add()
    feature.path.step.append(column)
    feature.num_stats.mean = mean
    feature.num_stats.common_stats.num_non_missing = 10 * (len(edges) - 1)
    histogram = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.HistogramType.QUANTILES)
    for low, high in itertools.pairwise(edges):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=10)
    return found


FEATURES = parse_feature_table(
    {"os": {"role": "categorical"}, "price": {"role": "numeric"}, "clicked": {"role": "label"}}
)


def test_statistics_add_up_over_splits_and_stand_beside_earlier_months() -> None:
    newest = [names("os", {"ios": 6, "android": 2}, missing=2), names("os", {"ios": 2}, missing=0)]
    (found,) = describe_features(newest, [names("os", {"android": 9, "ios": 1}, missing=0)], FEATURES)
    assert (found.name, found.role, found.distinct) == ("os", "categorical", 2)
    assert found.missing == pytest.approx(2 / 12) and found.missing_before == 0
    assert [(one.value, one.share, one.before) for one in found.values] == [("ios", 0.8, 0.1), ("android", 0.2, 0.9)]


def test_an_outlier_does_not_squeeze_a_distribution_into_one_cell() -> None:
    (found,) = describe_features([quantities("price", [0, 1, 2, 3, 4, 1e6], 1e5)], [], FEATURES)
    assert found.histogram is not None and found.histogram.high < 100
    assert sum(found.histogram.shares) == pytest.approx(0.8, abs=0.01)
    assert found.histogram.before is None and found.mean == pytest.approx(1e5)


@pytest.mark.parametrize(("low", "high"), [(0.1634, 0.1641), (0.0, 1.0), (0.7214, 0.7262), (3.0, 880.0)])
def test_ticks_are_round_and_several(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 4 <= len(ticks) <= 7 and all(low <= tick <= high for tick in ticks)


def test_a_strip_shows_intervals_whole_and_keeps_the_rest_at_its_ends() -> None:
    sure, unsure = metric(0.7, 0.1), metric(5.0)
    scale = scale_of([sure, unsure], reference=0.75)
    strip = scale.strip(sure, metric(0.65))
    assert strip.left is not None and strip.left > 0 and strip.left + strip.width < 100
    assert scale.strip(unsure, None).at == 100
    assert scale.strip(MetricRecord(value=None), None).at is None


def test_long_text_keeps_its_ends() -> None:
    assert shortened("abc", 10) == "abc"
    assert shortened("a" * 100 + "z" * 100, 40).startswith("aaa") and shortened("a" * 100 + "z", 40).endswith("z")
    assert len(shortened("a" * 200, 40)) == 40
