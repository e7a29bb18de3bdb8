"""Runs that train a recogniser: how status and report tell of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adclick.models.recognition.judging import Candidate, Judgement, Share
from adclick.pipeline.report.command import run_report
from adclick.pipeline.runs.recognition_record import (
    RecognitionRecord,
    read_recognition_record,
    write_recognition_record,
)
from adclick.pipeline.runs.status import run_status
from tests.end_to_end.browser import DESKTOP, PHONE, look_at, needs_browser


def _record(run_id: str, **changes: Any) -> RecognitionRecord:
    share = Share(count=97, of=100, value=0.97, lower=0.915, upper=0.99)
    judgement = Judgement(
        threshold=0.83,
        top_1=share,
        false_reject=Share(count=3, of=100, value=0.03, lower=0.01, upper=0.085),
        false_accept=Share(count=4, of=100, value=0.04, lower=0.016, upper=0.098),
        top_1_by_distortion={"night": share},
        false_reject_by_distortion={"night": share},
    )
    forms = [
        Candidate(form=form, size=1_234_567, milliseconds=2.5, judgement=judgement) for form in ("float32", "int8")
    ]
    fields: dict[str, Any] = {
        "run_id": run_id,
        "state": "pushed",
        "started": datetime(2026, 3, 1, tzinfo=UTC),
        "finished": datetime(2026, 3, 1, 0, 5, tzinfo=UTC),
        "months": ["2026-02"],
        "creatives": {"training": 900, "held_out": 100, "alike": 1, "unreadable": 2, "beyond_limit": 0},
        "form": "int8",
        "forms": forms,
        "version": 42,
        "pushed_to": "recognition/42",
    }
    return RecognitionRecord(**{**fields, **changes})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_recognition_record(str(tmp_path), _record("20260301T000000Z"))
    refused = {
        "state": "model_refused",
        "reasons": ["top-1 <97 %>, less than 99 %"],
        "version": None,
        "pushed_to": None,
    }
    write_recognition_record(str(tmp_path), _record("20260302T000000Z", **refused))
    return tmp_path


def test_status_lists_them_with_state_figures_and_the_last_one_s_reasons(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_status(None, output, None, as_json=False)
    told = capsys.readouterr().out
    pushed, refused = [line.split() for line in told.splitlines() if line.lstrip().startswith("2026030")][:2]
    assert pushed == ["20260301T000000Z", "pushed", "2026-02", "int8", "97.0", "%", "4.0", "%", "42", "300"]
    assert refused[1] == "model_refused"
    assert "20260302T000000Z: top-1 <97 %>, less than 99 %" in told
    run_status(None, output, None, as_json=True)
    status = json.loads(capsys.readouterr().out)
    assert status["runs"] == []
    assert [run["version"] for run in status["recognition_runs"]] == [42, None]


def test_one_that_ended_without_a_word_was_killed(output: Path) -> None:
    write_recognition_record(
        str(output), _record("20260303T000000Z", state="running", finished=None, form=None, forms=[])
    )
    assert read_recognition_record(str(output), "20260303T000000Z").state == "killed"
    assert "killed" in Path(run_report(None, None, output)).read_text()


def test_the_report_is_of_the_run_that_is_named_or_the_newest(output: Path) -> None:
    newest = Path(run_report(None, None, output)).read_text()
    assert "Recogniser refused" in newest and "top-1 &lt;97 %&gt;, less than 99 %" in newest
    pushed = Path(run_report("20260301T000000Z", None, output)).read_text()
    for text in ("Version 42", "97.0\u00a0%", "91.5\u00a0% to 99.0\u00a0%", "1,234,567", "night", "900 creatives"):
        assert text in pushed, text


@needs_browser
def test_the_report_is_readable_on_a_phone_and_in_the_dark(output: Path) -> None:
    page = Path(run_report(None, None, output))
    for width, scheme in ((PHONE, "light"), (DESKTOP, "dark")):
        seen = look_at(page, width, scheme)  # type: ignore[arg-type]
        assert (seen.complaints, seen.overflow <= 0) == ([], True)
        assert seen.least_contrast[0] >= 4.5
        assert seen.headings[1:] == ["Outcome", "Forms", "By distortion"]
