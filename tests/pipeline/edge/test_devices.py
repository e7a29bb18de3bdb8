"""`adclick edge devices`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.pipeline.edge.devices import run_devices
from adclick.schema.errors import ConfigError
from adclick.serving.gateway.device_state import Report
from adclick.serving.gateway.devices import DeviceReports


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A device that reports, and one that has been silent for a day."""
    reports = DeviceReports(tmp_path / "reports.db", 1_000_000, 10)
    for device, ago in (("screen-1", 1.0), ("screen-2", 86_400.0)):
        beat = {"type": "heartbeat", "device": device, "key": "b-1", "boot": "b", "sequence": 1, "frames_a_second": 9.5}
        counts = {"frames": {"approved": 75, "unknown": 25, "broken": 10}, "recognised": 75, "similarity_sum": 72.0}
        alert = {"type": "alert", "device": device, "key": "1-1", "id": "1", "state": "open", "kind": "unknown"}
        rows = [
            Report.from_fields({**beat, **counts, "bundle_version": 7, "on_trial": True}),
            Report.from_fields(alert),
        ]
        reports.take(None, rows, time.time() - ago)
    reports.close()
    return tmp_path / "reports.db"


def test_a_table_for_people_and_json_for_programs(file: Path) -> None:
    done = CliRunner().invoke(app, ["edge", "devices", "--reports", str(file)])
    assert done.exit_code == 0
    (first,) = [line for line in done.output.splitlines() if line.startswith("screen-1")]
    (second,) = [line for line in done.output.splitlines() if line.startswith("screen-2")]
    for part in ("7 on trial", "9.5", "25.0%", "1, one open"):
        assert part in first
    assert "silent" in second and "silent" not in first
    assert "2 devices, 1 silent, 2 with an open alert" in done.output
    done = CliRunner().invoke(app, ["edge", "devices", "--reports", str(file), "--json"])
    rows = json.loads(done.output)
    assert [(row["device"], row["silent"]) for row in rows] == [("screen-1", False), ("screen-2", True)]
    assert (rows[0]["unknown_share"], rows[0]["mean_similarity"]) == (0.25, 0.96)


def test_what_holds_no_reports_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise").write_text("noise" * 100)
    for path in (tmp_path / "none", tmp_path / "noise"):
        with pytest.raises(ConfigError, match="no reports of devices"):
            run_devices(path, gateway=None, api_key=None, silent_minutes=1, as_json=False)
    with pytest.raises(ConfigError, match="Is that the gateway's address"):
        run_devices(None, gateway="http://127.0.0.1:9", api_key=None, silent_minutes=1, as_json=False)
    with pytest.raises(ConfigError, match="no reports are named"):
        run_devices(None, gateway=None, api_key=None, silent_minutes=1, as_json=False)
