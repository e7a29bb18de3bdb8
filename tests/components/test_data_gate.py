"""DataGate: what a month's anomalies and quarantine forbid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import standard_artifacts

from components.artifacts import Drift
from components.data_gate.component import DataBlessing, DataGateExecutor, quarantine_refusal
from components.drift_detector.component import DRIFT_FILE
from components.drift_detector.distances import DriftReport, FeatureDrift
from schema.errors import DataRefused


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
) -> Path:
    def artifact(kind: type[Any], name: str) -> Any:
        made = kind()
        made.uri = str(tmp_path / name)
        return made

    examples = artifact(standard_artifacts.Examples, "examples")
    examples.set_int_custom_property("rows_in", 1_000)
    examples.set_string_custom_property("quarantined_by_reason", json.dumps(quarantined))
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
        {"month": "2026-10", "max_quarantine_share": 0.01},
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
