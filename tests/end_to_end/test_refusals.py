"""What the gates refuse leaves the version that was served before, and says why."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.end_to_end.browser import CHROMIUM, assert_readable
from tests.end_to_end.harness import Project


def report_of(project: Project) -> str:
    """The report of the only run, which must read well where there is a browser to tell."""
    (file,) = (project.output / "runs").glob("*/report.html")
    if CHROMIUM is not None:
        assert_readable(file)
    return file.read_text()


def shuffle_clicks(rows: list[str]) -> list[str]:
    sound = [index for index, row in enumerate(rows) if row.count(",") == 16 and row[-2:] in (",0", ",1")]
    clicks = [rows[index][-1] for index in sound]
    random.Random(1).shuffle(clicks)
    for index, click in zip(sound, clicks, strict=True):
        rows[index] = rows[index][:-1] + click
    return rows


def test_a_worse_model_is_refused(served: Project) -> None:
    versions = served.versions
    for month in ("2026-08", "2026-09"):
        for file in (served.folder / "drops" / month).glob("*.gz"):
            file.unlink()
        served.edit_rows(month, shuffle_clicks)

    done = served.run()

    assert done.code == 4, done.text
    assert "auc in slice overall is" in done.err and "required: at least 0.56" in done.err
    assert served.versions == versions
    (run,) = served.status()["runs"]
    assert run["state"] == "model_refused" and run["pushed_version"] is None
    assert run["baseline"] == str(served.push_base / str(versions[-1]))
    assert {found["model"] for found in run["evaluation"]} == {"candidate", "baseline", "change"}
    report = report_of(served)
    assert "The model was refused and not pushed – auc in slice overall is" in report
    assert f"The version that was served before stays: <code>{run['baseline']}</code>" in report
    assert "All metrics of both models" in report and "could not show" not in report

    served.edit_config(lambda config: config["training"].update(learning_rate=1e30))
    done = served.run("--compare")
    assert done.code == 4, done.text
    assert "training failed: " in done.err and "epoch 1" in done.err and "not finite" in done.err
    assert served.versions == versions
    run = served.status()["runs"][-1]
    assert run["state"] == "model_refused" and not run["evaluation"]
    assert "not finite" in (served.output / "runs" / run["run_id"] / "report.html").read_text()


def rename_devices(rows: list[str]) -> list[str]:
    for old, new in (("phone", "MOBILE"), ("desktop", "PC"), ("tablet", "PAD")):
        rows = [row.replace(f",{old},", f",{new},") for row in rows]
    return rows


def test_an_anomalous_month_is_refused(served: Project) -> None:
    versions = served.versions
    served.edit_rows("2026-09", rename_devices)

    done = served.run()

    assert done.code == 3, done.text
    assert "2026-09" in done.err and "device_type" in done.err and "MOBILE" in done.err
    assert "schema" in done.err, "the remedy"
    assert served.versions == versions
    (run,) = served.status()["runs"]
    assert run["state"] == "data_refused"
    assert "ClickTrainer.model" not in run["artifacts"], "nothing is trained on refused data"
    report = report_of(served)
    assert "The data were refused before training – 2026-09: anomaly in the train split: device_type" in report
    assert "No model was trained." in report and "could not show" not in report


def test_too_many_quarantined_rows_are_refused(served: Project) -> None:
    versions = served.versions
    served.edit_rows(
        "2026-09", lambda rows: [row + ",extra" if index % 5 == 0 else row for index, row in enumerate(rows)]
    )

    done = served.run()

    assert done.code == 3, done.text
    assert "are quarantined, more than the allowed 5.00%" in done.err and "wrong_field_count" in done.err
    assert served.versions == versions


def test_a_month_delivered_as_another_is_refused(served: Project) -> None:
    august, september = (served.folder / "drops" / month for month in ("2026-08", "2026-09"))
    shutil.rmtree(september)
    shutil.copytree(august, september)

    done = served.run()

    assert done.code == 3, done.text
    assert "rows are dated outside their month: in 2026-08" in done.err
    assert "stand in 2026-08 too, with the same identifier" in done.err
    (run,) = served.status()["runs"]
    assert run["copies"]["held_out_in_training"] == run["copies"]["held_out_rows"] > 0
    assert "held-out impressions stand in training too" in report_of(served)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda config: config.update(trainning={}), "trainning: unknown key"),
        (lambda config: config["training"].update(batch_size="many"), "training.batch_size"),
        (lambda config: config["data"].update(root="nowhere"), "nowhere"),
        (lambda config: config.update(schema_file="missing.pbtxt"), "missing.pbtxt"),
    ],
    ids=["key", "type", "data", "schema"],
)
def test_a_wrong_config_is_refused_by_name(served: Project, wrong: object, named: str) -> None:
    served.edit_config(wrong)  # type: ignore[arg-type]
    done = served.run("--quiet")
    assert done.code == 2, done.text
    assert named in done.err
