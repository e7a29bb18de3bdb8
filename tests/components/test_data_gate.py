"""DataGate: what a month's anomalies and quarantine forbid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import standard_artifacts

from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.components.artifacts import Drift
from adclick.components.data_gate.component import DataBlessing, DataGateExecutor
from adclick.components.data_gate.limits import IngestionCounts, notes, quarantine_refusal, refusals
from adclick.components.drift_detector.component import DRIFT_FILE
from adclick.components.drift_detector.distances import DriftReport, FeatureDrift
from adclick.schema.errors import DataRefused


@pytest.mark.parametrize(
    ("quarantined", "allowed", "refused"),
    [(0, 0.0, False), (1, 0.0, True), (10, 0.01, False), (11, 0.01, True), (1_000, 1.0, False)],
)
def test_the_share_decides(quarantined: int, allowed: float, refused: bool) -> None:
    reason = quarantine_refusal({"wrong_field_count": quarantined} if quarantined else {}, 1_000, allowed)
    assert (reason is not None) == refused
    if reason:
        assert f"{quarantined:,} of 1,000" in reason and "wrong_field_count" in reason


def run_gate(
    tmp_path: Path,
    anomalies: anomalies_pb2.Anomalies,
    quarantined: dict[str, int],
    drift: tuple[FeatureDrift, ...] = (),
    **properties: Any,
) -> Path:
    def artifact(kind: type[Any], name: str) -> Any:
        made = kind()
        made.uri = str(tmp_path / name)
        return made

    examples = artifact(standard_artifacts.Examples, "examples")
    examples.set_int_custom_property("rows_in", 1_000)
    examples.set_string_custom_property("quarantined_by_reason", json.dumps(quarantined))
    for name, value in properties.items():
        examples.set_string_custom_property(name, json.dumps(value))
    found = artifact(standard_artifacts.ExampleAnomalies, "anomalies")
    found.split_names = '["train"]'
    (tmp_path / "anomalies" / "Split-train").mkdir(parents=True)
    (tmp_path / "anomalies" / "Split-train" / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    moved = artifact(Drift, "drift")
    (tmp_path / "drift").mkdir()
    report = DriftReport(month="2026-10", compared_with=("2026-08", "2026-09"), features=drift)
    (tmp_path / "drift" / DRIFT_FILE).write_text(report.model_dump_json())
    blessing = artifact(DataBlessing, "blessing")
    DataGateExecutor().Do(
        {"examples": [examples], "anomalies": [found], "drift": [moved]},
        {"data_blessing": [blessing]},
        {"month": "2026-10", "limits": "{}"},
    )
    return Path(blessing.uri)


def test_a_sound_month_passes(tmp_path: Path) -> None:
    assert (run_gate(tmp_path, anomalies_pb2.Anomalies(), {"invalid_utf8": 3}) / "BLESSED").read_text() == "2026-10"


def test_an_anomaly_is_refused_by_name(tmp_path: Path) -> None:
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["device_type"].description = "Examples contain values missing from the schema: MOBILE"
    with pytest.raises(DataRefused) as refused:
        run_gate(tmp_path, anomalies, {})
    assert "2026-10: anomaly in the train split: device_type: Examples contain" in refused.value.message
    assert "schema" in refused.value.remedy and not (tmp_path / "blessing").exists()


def test_every_reason_is_told(tmp_path: Path) -> None:
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["site"].description = "gone"
    with pytest.raises(DataRefused) as refused:
        run_gate(tmp_path, anomalies, {"label_not_0_or_1": 500})
    assert "label_not_0_or_1 500" in refused.value.message and "site: gone" in refused.value.message


@pytest.mark.parametrize("action", ["report", "stop"])
def test_drift_stops_the_run_where_the_schema_says_so(tmp_path: Path, action: Any) -> None:
    found = FeatureDrift(
        feature="device_type", measure="l_infinity", distance=0.6, threshold=0.3, action=action, beyond=True
    )
    if action == "report":
        assert (run_gate(tmp_path, anomalies_pb2.Anomalies(), {}, (found,)) / "BLESSED").exists()
        return
    with pytest.raises(DataRefused) as refused:
        run_gate(tmp_path, anomalies_pb2.Anomalies(), {}, (found,))
    assert refused.value.message == (
        "2026-10: drift against 2026-08, 2026-09: device_type: one value's share moved by 0.600, more than 0.3"
    )


def test_images_that_are_not_there_are_refused_with_their_likely_cause(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refused:
        run_gate(
            tmp_path,
            anomalies_pb2.Anomalies(),
            {},
            impressions_by_image_status={"missing": 500, "corrupt": 100, "ok": 400, "none": 9_000},
            unusable_images_by_cause={"backslash": 20, "corrupt": 1},
            examples_of_trouble={"unusable_images/backslash": ["images\\a.jpg", "images\\b.jpg"]},
        )
    message = refused.value.message
    assert "600 of the 1,000 impressions that name an image (60.00%)" in message and "missing 500" in message
    assert "20 × folders are parted by \\ in the address: write /, such as images\\a.jpg, images\\b.jpg" in message


def test_few_missing_images_are_let_through(tmp_path: Path) -> None:
    blessed = run_gate(
        tmp_path, anomalies_pb2.Anomalies(), {}, impressions_by_image_status={"missing": 100, "ok": 900, "none": 5}
    )
    assert (blessed / "BLESSED").exists()


def test_rows_that_contradict_the_first_of_their_identifier_are_refused() -> None:
    counts = IngestionCounts(
        rows_in=1_000,
        rows_duplicate=60,
        rows_conflicting=50,
        conflicts_by_column={"price": 30, "site": 2},
        examples={"conflicting_rows": ["i7: price '1' and '2'"]},
    )
    (reason,) = refusals(counts, IngestionSettings())
    assert "50 of 60 repeated rows" in reason and "in price, site, such as i7: price '1' and '2'" in reason
    assert "5.00% of the rows, more than ingestion.max_conflict_share, 1.00%" in reason
    assert not refusals(counts, IngestionSettings(max_conflict_share=0.05)) and len(notes(counts)) == 1


def test_rows_dated_outside_their_month_are_refused() -> None:
    counts = IngestionCounts(rows_in=1_000, rows_dated_in={"2026-08": 900, "2026-07": 3})
    (reason,) = refusals(counts, IngestionSettings())
    assert "903 rows are dated outside their month: in 2026-07 3, 2026-08 900." in reason
    assert "90.30% of the rows, more than ingestion.max_outside_month_share, 1.00%" in reason
    assert not refusals(IngestionCounts(rows_in=1_000, rows_dated_in={"2026-08": 10}), IngestionSettings())


def test_a_file_that_is_another_once_more_is_told() -> None:
    (note,) = notes(IngestionCounts(rows_in=10, copied_files={"a (1).csv": "a.csv"}))
    assert note.startswith("a (1).csv is a.csv once more: it was not read")
