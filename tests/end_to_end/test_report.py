"""The report of a run, in a real browser. Those of refused runs are looked at where the runs are refused."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.browser import assert_readable, needs_browser
from tests.end_to_end.harness import Project, adclick


def newest_report(project: Project) -> Path:
    """The report of the newest run."""
    return max((project.output / "runs").glob("*/report.html"))


@needs_browser
def test_the_first_run_has_a_report_that_reads_well_anywhere(pushed: Project) -> None:
    assert_readable(newest_report(pushed))


def test_a_report_shows_the_run(pushed: Project) -> None:
    page = newest_report(pushed).read_text()
    (run,) = [found for found in pushed.status()["runs"] if found["run_id"] == newest_report(pushed).parent.name]
    assert f"Version {run['pushed_version']} was pushed" in page
    assert "no blessed model to compare with" in page
    assert "could not show" not in page, "every part was gathered"
    assert "wrong field count" in page and "None in 2026-08, 2026-09." in page
    assert page.count("data:image/jpeg;base64,") == 12, "six images that raise and six that lower the prediction"
    assert "the truth (Bayes optimum)" in page and "the last blessed model" not in page
    assert "ClickTrainer.model</th>" in page and str(run["code_version"]) in page
    assert len(page) < 1_500_000


def test_a_report_is_built_again_from_what_the_run_left(pushed: Project) -> None:
    file = newest_report(pushed)
    file.unlink()
    done = adclick("report", file.parent.name, "--config", pushed.config)
    assert done.code == 0, done.text
    assert done.out.strip() == str(file) and "<h1>" in file.read_text()
    unknown = adclick("report", "20000101T000000Z", "--config", pushed.config)
    assert unknown.code == 2 and file.parent.name in unknown.err, "it names the runs that there are"
