"""The baseline is judged fairly: its own copy, retrained on the same data, does not beat it."""

from __future__ import annotations

import pytest

from tests.end_to_end.harness import Project


@pytest.fixture
def judged_by_itself(served: Project) -> Project:
    """A project whose pushed version no longer knows half of its creatives, as after a month of new ads."""
    served.edit_config(lambda config: config["evaluation"].update(confidence_intervals=True))
    asset = served.push_base / str(served.versions[-1]) / "assets" / "creatives.tsv"
    first, *creatives = asset.read_text().splitlines(keepends=True)
    assert len(creatives) > 10
    asset.write_text("".join([first, *creatives[::2]]))
    return served


def test_a_copy_retrained_on_the_same_data_changes_nothing(judged_by_itself: Project) -> None:
    done = judged_by_itself.run()
    assert done.code == 0, done.text
    (run,) = judged_by_itself.status()["runs"]
    change = next(found for found in run["evaluation"] if (found["slice"], found["model"]) == ("overall", "change"))
    for metric in ("auc", "log_loss", "normalised_entropy"):
        assert change["metrics"][metric]["value"] == pytest.approx(0, abs=1e-4), metric


def test_a_copy_from_another_seed_stays_within_the_interval(judged_by_itself: Project) -> None:
    judged_by_itself.edit_config(lambda config: config["training"].update(seed=2))
    done = judged_by_itself.run()
    assert done.code == 0, done.text
    (run,) = judged_by_itself.status()["runs"]
    change = next(found for found in run["evaluation"] if (found["slice"], found["model"]) == ("overall", "change"))
    log_loss = change["metrics"]["log_loss"]
    assert log_loss["value"] != 0
    assert log_loss["lower"] <= 0 <= log_loss["upper"]
