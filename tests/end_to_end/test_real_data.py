"""Real click logs go from a CSV file to a pushed model without a line of code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.harness import Project, adclick


@pytest.mark.parametrize("log", ["avazu/impressions.csv", "criteo/impressions.tsv"])
def test_a_real_log_becomes_a_served_model(real_data: Path, tmp_path: Path, log: str) -> None:
    init = adclick("init", real_data / log, "--output", tmp_path)
    assert init.code == 0, init.text
    project = Project(tmp_path)

    done = project.run()

    assert done.code == 0, done.text
    (run,) = project.status()["runs"]
    assert run["state"] == "pushed"
    (drop,) = run["drops"]
    assert drop["rows_in"] == drop["rows_examples"] + drop["rows_quarantined"] + drop["rows_duplicate"] > 7_000
    overall = next(found["metrics"] for found in run["evaluation"] if found["slice"] == "overall")
    assert overall["normalised_entropy"]["value"] < 1, "better than knowing the click rate"
    answer = adclick("predict", "--config", project.config, "--quiet")
    assert answer.code == 0, answer.text
    assert 0 < float(answer.out) < 1
