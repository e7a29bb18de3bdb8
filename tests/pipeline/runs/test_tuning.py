"""`adclick tune`: which run it takes, what it writes, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adclick.models import tuning
from adclick.models.features import InputLayout
from adclick.models.settings import ModelSettings, NetworkSettings, TrainingSettings
from adclick.models.trainer import TrainingData
from adclick.models.training_data import Columns
from adclick.models.tuning import HeldOutTest, Trial
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.runs import data as run_data
from adclick.pipeline.runs.record import DropRecord, RunRecord, write_record
from adclick.pipeline.runs.tuning import changed_values, run_tune
from adclick.schema.errors import ConfigError, DataRefused, ModelRefused
from adclick.schema.roles.inputs import CategoryField

CONFIG = """\
# Mine.
data: {root: drops}
features:
  clicked: {role: label}
  at: {role: timestamp, derive: []}
  ad: {role: categorical}
training:
  seed: 3  # lucky
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "config.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


def record_run(config_path: Path, run_id: str, *, month: str = "2026-10", **changes: Any) -> RunRecord:
    settings = load_config(config_path)
    artifacts = {}
    for key in ("Transform.transform_graph", f"AdExampleGen-{month}.examples", f"AdExampleGen-{month}.creatives"):
        folder = Path(settings.output) / key / run_id
        folder.mkdir(parents=True)
        artifacts[key] = [str(folder)]
    drop = DropRecord(
        name=month,
        uri="",
        rows_in=0,
        rows_examples=0,
        rows_quarantined=0,
        rows_duplicate=0,
        quarantined_by_reason={},
        creatives_by_status={},
        quarantine_uri="",
    )
    fields: dict[str, Any] = {
        "run_id": run_id,
        "state": "pushed",
        "input_key": "",
        "config": json.loads(settings.model_dump_json()),
        "baseline": None,
        "started": datetime.now(UTC),
        "drops": [drop],
        "artifacts": artifacts,
    }
    record = RunRecord(**{**fields, **changes})
    write_record(settings.output, record)
    return record


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the search finds, to be changed; the fits themselves are tests/models/test_tuning.py's."""
    values = {"training.learning_rate": 0.004, "network.hidden_units": "128,64"}
    result: dict[str, Any] = {"best": Trial(1, values, 0.1), "test": HeldOutTest(0.2, 0.19, 0.001, 50), "records": []}
    clicks = np.arange(300, dtype=np.float32) % 2
    columns = Columns(
        np.zeros((300, 1), np.int32),
        np.zeros((300, 0), np.int32),
        np.zeros((300, 0), np.float32),
        np.full(300, -1, np.int32),
        clicks,
    )
    layout = InputLayout((CategoryField("ad", 1, 2, 1),), (), False)

    def load(config: Any, record: RunRecord, folder: Path) -> run_data.RunData:
        result["records"].append(record.run_id)
        training = TrainingData(layout, columns, columns, None, None)  # type: ignore[arg-type]
        return run_data.RunData(training, result.get("held_out", columns))

    def search(data: Any, current: Any, settings: Any, folder: Path, on_trial: Any) -> list[Trial]:
        trials = [Trial(0, {}, 0.12), Trial(1, values, 0.1), Trial(2, {"network.dropout": 0.4}, None)]
        for trial in trials:
            on_trial(trial)
        return trials

    monkeypatch.setattr(run_data, "load_run_data", load)
    monkeypatch.setattr(run_data, "held_out_truth", lambda config, record: None)
    monkeypatch.setattr(tuning, "search", search)
    monkeypatch.setattr(tuning, "choose", lambda *arguments: result["best"])
    monkeypatch.setattr(tuning, "held_out_test", lambda *arguments: result["test"])
    return result


def test_the_best_values_are_written_and_train(
    config: Path, found: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    record_run(config, "r1")
    written = run_tune(config, trials=3, max_rows=1_000)
    assert written == config.with_name("tuned.yaml")
    assert written.read_text() == CONFIG + "  learning_rate: 0.004\n\nnetwork:\n  hidden_units: [128, 64]\n"
    before, after = load_config(config), load_config(written)
    assert after.training == before.training.model_copy(update={"learning_rate": 0.004})
    assert after.network == before.network.model_copy(update={"hidden_units": (128, 64)})
    assert after.model_copy(update={"training": before.training, "network": before.network}) == before
    shown = capfd.readouterr().out
    assert "trial   1  0.10000" in shown and "learning_rate 0.004" in shown and "failed" in shown
    assert "0.20000" in shown and "0.19000" in shown and "-0.01000" in shown and "-0.01196 to -0.00804" in shown
    (result,) = Path(before.output).glob("tuning/r1-*/tuning.json")
    assert json.loads(result.read_text())["tuned"] == {
        "network.hidden_units": [128, 64],
        "training.learning_rate": 0.004,
    }


def test_elsewhere_it_works_too(config: Path, found: dict[str, Any], tmp_path: Path) -> None:
    record_run(config, "r1")
    written = run_tune(config, trials=3, max_rows=1_000, output=tmp_path / "there.yaml", quiet=True)
    before, after = load_config(config), load_config(written)
    assert (after.data, after.output, after.schema_file) == (before.data, before.output, before.schema_file)
    assert "# Mine." in written.read_text()


def test_quiet_prints_the_result_only(config: Path, found: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    record_run(config, "r1")
    run_tune(config, trials=3, max_rows=1_000, quiet=True)
    shown = capfd.readouterr()
    assert "trial" not in shown.out and "held-out" in shown.out and not shown.err


@pytest.mark.parametrize(
    "change",
    [
        {"test": HeldOutTest(0.2, 0.2, 0.001, 50)},
        {"test": HeldOutTest(0.2, 0.3, 0.001, 50)},
        {"best": Trial(0, {}, 0.1)},
    ],
)
def test_nothing_is_written_unless_held_out_impressions_agree(
    config: Path, found: dict[str, Any], change: dict[str, Any]
) -> None:
    record_run(config, "r1")
    found |= change
    with pytest.raises(ModelRefused, match="nothing was written"):
        run_tune(config, trials=3, max_rows=1_000, quiet=True)
    assert sorted(path.name for path in config.parent.iterdir()) == ["config.yaml", "output"]


def test_held_out_impressions_without_a_click_are_refused(config: Path, found: dict[str, Any]) -> None:
    record_run(config, "r1")
    found["held_out"] = Columns(*(np.zeros((5, 0), np.int32),) * 3, np.zeros(5, np.int32), np.zeros(5, np.float32))
    with pytest.raises(DataRefused, match="of 5 scored impressions 0 are clicked"):
        run_tune(config, trials=3, max_rows=1_000, quiet=True)


def test_the_newest_finished_run_of_this_data_is_taken(config: Path, found: dict[str, Any]) -> None:
    for run_id, state in (("r1", "pushed"), ("r2", "model_refused"), ("r3", "failed"), ("r4", "running")):
        record_run(config, run_id, state=state)
    gone = record_run(config, "r5")
    Path(gone.artifacts["Transform.transform_graph"][0]).rmdir()
    other = load_config(config).model_dump(mode="json")
    record_run(config, "r6", config={**other, "split": {**other["split"], "eval_share": 0.5}})
    run_tune(config, trials=3, max_rows=1_000, quiet=True)
    # What is tuned does not say which run fits.
    config.with_name("tuned.yaml").rename(config)
    run_tune(config, trials=3, max_rows=1_000, quiet=True)
    assert found["records"] == ["r2", "r2"]


def test_a_month_chooses_the_run(config: Path, found: dict[str, Any]) -> None:
    record_run(config, "r1", month="2026-09")
    record_run(config, "r2", month="2026-10")
    run_tune(config, trials=3, max_rows=1_000, month="2026-09", quiet=True)
    assert found["records"] == ["r1"]
    with pytest.raises(ConfigError, match="2026-08") as error:
        run_tune(config, trials=3, max_rows=1_000, month="2026-08", force=True)
    assert "adclick run" in error.value.remedy and "--month 2026-08" in error.value.remedy


def test_another_search_has_another_folder(config: Path, found: dict[str, Any]) -> None:
    record_run(config, "r1")
    folders = Path(load_config(config).output) / "tuning"
    for expected, rows in ((1, 1_000), (1, 1_000), (2, 500)):
        run_tune(config, trials=3, max_rows=rows, force=True, quiet=True)
        assert len(list(folders.iterdir())) == expected
    config.write_text(CONFIG.replace("seed: 3", "seed: 4"))
    run_tune(config, trials=3, max_rows=500, force=True, quiet=True)
    assert len(list(folders.iterdir())) == 3


def test_without_a_run_or_place_it_says_so(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run") as error:
        run_tune(config, trials=3, max_rows=1_000)
    assert "adclick run" in error.value.remedy
    config.with_name("tuned.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        run_tune(config, trials=3, max_rows=1_000)
    with pytest.raises(ConfigError, match="no such folder"):
        run_tune(config, trials=3, max_rows=1_000, output=tmp_path / "no" / "x.yaml")


def test_changed_values_are_those_that_differ() -> None:
    current = ModelSettings(network=NetworkSettings(), training=TrainingSettings())
    assert changed_values(current, current) == {}
    tuned = ModelSettings(network=NetworkSettings(hidden_units=(8,)), training=TrainingSettings(seed=5))
    assert changed_values(current, tuned) == {"network.hidden_units": [8], "training.seed": 5}
    assert yaml.safe_load(yaml.safe_dump(changed_values(current, tuned))) == changed_values(current, tuned)
