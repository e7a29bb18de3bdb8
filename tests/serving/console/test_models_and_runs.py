"""What people are told of versions and runs: real records, reports and push directories, over a real socket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from adclick.pipeline.prediction.runs_at_hand import RunsAtHand, runs_beside
from adclick.pipeline.runs.record import MonthRecord, RunRecord, StepRecord, write_record
from adclick.pipeline.runs.record_store import run_file
from adclick.pipeline.runs.traffic_findings import TrafficFinding, write_finding
from adclick.storage.folder_lock import FolderLock
from adclick.storage.model_versions import ModelVersions
from tests.serving.console.conftest import BEFORE, JUDGED, ROWS

Start = Callable[..., httpx.Client]
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def record(number: int, state: str, **facts: Any) -> RunRecord:
    month = MonthRecord(name="2026-10", uri="drops/2026-10", fingerprint="f", version=1, gate_key="g")
    return RunRecord.model_validate(
        {
            "run_id": f"2026110{number}T000000Z",
            "state": state,
            "input_key": "key",
            "config": {},
            "baseline": None,
            "started": BEGAN + timedelta(days=number),
            "finished": None if state == "running" else BEGAN + timedelta(days=number, minutes=3),
            "window": [month, month.model_copy(update={"name": "2026-09", "left_out": "refused"})],
            **facts,
        }
    )


@pytest.fixture
def output(judged_base: Path) -> Iterator[Path]:
    folder = judged_base.parents[1]
    steps = [StepRecord(name="AdExampleGen-2026-10", seconds=2.5, reused=False)]
    records = [
        record(1, "pushed", pushed_version=JUDGED, drift=["2026-10: price has moved"], steps=steps),
        record(2, "pushed", pushed_version=JUDGED, steps=[steps[0].model_copy(update={"reused": True})]),
        record(
            3,
            "data_refused",
            reasons=["too few <b>rows</b>"],
            steps=steps,
            running_step="DataGate",
            planned_steps=[steps[0].name, "DataGate"],
        ),
        record(
            4, "running", steps=steps, running_step="Trainer", planned_steps=[steps[0].name, "Trainer", "Evaluator"]
        ),
    ]
    for each in records:
        write_record(str(folder), each)
    page = "<!doctype html><title>Run</title><style>p{color:red}</style><p>report</p><script>alert(1)</script>"
    Path(run_file(str(folder), records[0].run_id, "report.html")).write_text(page)
    yield folder
    shutil.rmtree(folder / "runs")


def test_runs_are_told_with_their_steps(console: Start, output: Path) -> None:
    with FolderLock(output, command="run") as lock:
        lock.name_run("20261104T000000Z")
        body = console(runs=runs_beside(str(output / "serving_model" / "adclick"))).get("/console/api/runs").json()
    assert (body["reason"], body["count"]) == ("", 4)
    running, refused, confirmed, pushed = body["runs"]
    assert running["state"] == "running"
    assert running["finished"] is None
    assert running["steps"] == [
        {"name": "AdExampleGen-2026-10", "state": "done", "seconds": 2.5},
        {"name": "Trainer", "state": "running", "seconds": None},
        {"name": "Evaluator", "state": "waiting", "seconds": None},
    ]
    assert refused["reasons"] == ["too few <b>rows</b>"]
    assert confirmed["reused_everything"] is True
    assert pushed["months"] == ["2026-10"]
    assert pushed["finished"] - pushed["started"] == 180
    assert [run["has_report"] for run in body["runs"]] == [False, False, False, True]


def test_a_run_that_ends_is_told_anew(output: Path) -> None:
    runs = RunsAtHand(str(output))
    assert runs.newest(1).runs[0].state == "killed"
    write_record(str(output), record(4, "failed", reasons=["OSError: no space"]))
    newest = runs.newest(1)
    (ended,) = newest.runs
    assert (ended.state, ended.reasons, newest.count) == ("failed", ["OSError: no space"], 4)
    # Its report comes after its record.
    Path(run_file(str(output), ended.run_id, "report.html")).write_text("<p>")
    assert runs.newest(1).runs[0].has_report


def test_a_report_is_a_page_without_scripts_in_a_frame_of_ours_alone(console: Start, output: Path) -> None:
    client = console(runs=RunsAtHand(str(output)))
    page = client.get("/console/api/runs/20261101T000000Z/report")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "<p>report</p>" in page.text
    policy = page.headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'", "frame-ancestors 'self'"} <= set(policy)
    for name in ("20261102T000000Z", "nothing", "..%2F..%2Fsecret", "%2e%2e"):
        refused = client.get(f"/console/api/runs/{name}/report")
        assert refused.status_code == 404, name


def test_a_bare_gateway_says_that_no_runs_are_at_hand(console: Start) -> None:
    client = console()
    body = client.get("/console/api/runs").json()
    assert body["runs"] == []
    assert "not at hand" in body["reason"]
    assert client.get("/console/api/runs/20261101T000000Z/report").status_code == 404
    assert "not at hand" in client.get("/console/api/models").json()["runs_reason"]


def test_broken_records_are_told_and_break_nothing(console: Start, output: Path) -> None:
    Path(run_file(str(output), "20261103T000000Z", "run.json")).write_text("{")
    client = console(runs=RunsAtHand(str(output)))
    body = client.get("/console/api/runs").json()
    assert len(body["runs"]) == 3
    (fault,) = body["faults"]
    assert "20261103T000000Z" in fault
    assert client.get("/console/api/models").status_code == 200


def test_no_runs_beside_a_push_directory_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "serving_model" / "adclick").mkdir(parents=True)
    assert runs_beside(str(tmp_path / "serving_model" / "adclick")) is None
    assert runs_beside("adclick") is None
    assert runs_beside("") is None


def test_versions_are_told_with_whom_they_answer(console: Start, output: Path) -> None:
    routing = {
        "routes": [
            {"name": "most", "percent": 90, "version": BEFORE},
            {"name": "some", "percent": 10, "label": "canary"},
        ],
        "labels": {"canary": JUDGED},
        "shadow": {"version": JUDGED, "percent": 50},
    }
    body = console(runs=RunsAtHand(str(output)), routing=routing).get("/console/api/models").json()
    assert (body["reason"], body["runs_reason"], body["count"], body["hold"]) == ("", "", 2, None)
    judged, before = body["versions"]
    assert judged["version"] == JUDGED
    assert judged["answers"] == [
        {"route": "some", "label": "canary", "percent": 10.0, "is_shadow": False},
        {"route": "shadow", "label": None, "percent": 50.0, "is_shadow": True},
    ]
    assert judged["pushed"] == JUDGED
    assert (judged["span"], judged["audience_rows"]) == (202610, ROWS)
    (auc, rate) = judged["metrics"]
    assert (auc["name"], auc["value"], auc["lower"], auc["upper"]) == ("auc", 0.7, 0.6, 0.8)
    assert (rate["name"], rate["lower"]) == ("click_rate", None)
    # The first of those that pushed or confirmed it.
    assert (judged["run_id"], judged["has_report"]) == ("20261101T000000Z", True)
    assert judged["drift"] == ["2026-10: price has moved"]
    assert before["answers"] == [{"route": "most", "label": None, "percent": 90.0, "is_shadow": False}]
    assert (before["run_id"], before["metrics"]) == (None, [])
    assert "without its held-out rows" in before["metrics_reason"]


def test_traffic_against_training_is_told_where_the_monitor_has_seen_it(console: Start, output: Path) -> None:
    finding = TrafficFinding(
        version=JUDGED,
        made_at=1_790_100_000.0,
        first=1_790_000_000.0,
        last=1_790_090_000.0,
        predictions=1_234,
        state="alarm",
        judged=9,
        alarms=["the drift of price is 0.4; allowed are 0.1"],
    )
    write_finding(str(output), finding)
    (output / "traffic" / f"{BEFORE}.json").write_text('{"version": ')
    judged, before = console(runs=RunsAtHand(str(output))).get("/console/api/models").json()["versions"]
    assert judged["traffic"] == finding.model_dump(exclude={"version"})
    assert judged["traffic_reason"] == ""
    assert before["traffic"] is None
    assert "cannot be read" in before["traffic_reason"]
    shutil.rmtree(output / "traffic")
    judged, _ = console(runs=RunsAtHand(str(output))).get("/console/api/models").json()["versions"]
    assert "has not looked" in judged["traffic_reason"]


def test_a_roll_back_is_told(tmp_path: Path, judged_base: Path, console: Start) -> None:
    base = tmp_path / "serving_model" / "adclick"
    shutil.copytree(judged_base, base)
    ModelVersions(str(base)).roll_back(BEFORE, "clicks fell")
    body = console(base=base).get("/console/api/models").json()
    assert {version["version"]: version["place"] for version in body["versions"]} == {
        BEFORE: "push_directory",
        JUDGED: "withdrawn",
    }
    assert (body["hold"]["served"], body["hold"]["reason"]) == (BEFORE, "clicks fell")
    # What was withdrawn still says how it was judged.
    assert body["versions"][0]["metrics"][0]["value"] == 0.7
