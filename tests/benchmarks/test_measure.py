"""Processes are timed as a whole, and a ratio says what it is said to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.measure import faster, more, report, share, timed_process


def test_a_process_is_measured() -> None:
    code = "import time; held = bytearray(200 << 20); time.sleep(0.3); print('done')"
    ballast = bytearray(600 << 20)
    found = timed_process([sys.executable, "-c", code])
    assert found.output == "done\n"
    assert 0.3 < found.seconds < 30
    assert 200 << 20 < found.peak_bytes < len(ballast), "not what this process holds"


def test_a_failed_process_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        timed_process([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_ratios() -> None:
    assert faster("run", 2.0, 8.0, ">= 4").met and faster("run", 2.0, 8.0, ">= 4").ratio == 4
    assert not faster("run", 8.0, 2.0, ">= 1").met
    assert more("rows", 30.0, 10.0, "rows/s", ">= 3").met
    assert share("memory", 12.0, 10.0, "MiB", "<= 1.3").met
    assert not share("memory", 14.0, 10.0, "MiB", "<= 1.3").met
    assert more("rows", 1.0, 10.0, "rows/s", "").met


def test_results_are_written(tmp_path: Path) -> None:
    report("title", [faster("run", 2.0, 8.0, ">= 2")], tmp_path / "new" / "results.json")
    (found,) = json.loads((tmp_path / "new" / "results.json").read_text())
    assert found == {"name": "run", "ours": 2.0, "baseline": 8.0, "unit": "s", "ratio": 4.0, "target": ">= 2"}
