"""The config: what is wrong is named, and everything is documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adclick.pipeline.config.settings import check_local_output, load_config
from adclick.schema.errors import ConfigError

CONFIG: dict[str, Any] = {
    "data": {"root": "drops"},
    "features": {
        "shown_at": {"role": "timestamp"},
        "ad": {"role": "categorical"},
        "site": {"role": "categorical", "encoding": "hashed"},
        "clicked": {"role": "label"},
    },
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, output="here/out"))
    assert config.data.root == str(tmp_path / "drops")
    assert config.output == str(tmp_path / "here" / "out")
    assert config.schema_file == str(tmp_path / "schema.pbtxt")


def test_the_command_line_replaces_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path), data_root="gs://bucket/drops", output="elsewhere")
    assert config.data.root == "gs://bucket/drops"
    assert config.output == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trainning": {}}, "trainning: unknown key"),
        ({"training": {"batch_sise": 3}}, "training.batch_sise: unknown key"),
        ({"training": {"batch_size": 0}}, "training.batch_size"),
        ({"network": {"dropout": 1.5}}, "network.dropout"),
        ({"data": {}}, "data.root"),
        ({"csv": {"delimiter": "ab"}}, "csv.delimiter"),
        ({"csv": {"header": False}}, "csv"),
        ({"csv": {"header": False, "columns": ["ad"]}}, "not among csv.columns"),
        ({"split": {"by": "hash", "column": "colour"}}, "colour"),
        ({"features": {"ad": {"role": "categorical"}}}, "role label"),
        ({"features": {**CONFIG["features"], "ad": {"role": "categoric"}}}, "features.ad"),
        ({"features": {"ad": {"role": "categorical"}, "clicked": {"role": "label"}}}, "split.by is time"),
        ({"evaluation": {"slices": [["colour"]]}}, "colour"),
        ({"evaluation": {"new_value_slices": ["site"]}}, "site"),
        ({"evaluation": {"thresholds": [{"metric": "auc", "lower": 0.5, "slice": ["colour"]}]}}, "colour"),
        ({"evaluation": {"thresholds": []}}, "no model would be judged"),
        ({"evaluation": {"thresholds": [{"metric": "auc"}]}}, "no model would be judged"),
        ({"serving": {"model_name": "a/b"}}, "serving.model_name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert named in error.value.message and str(path) in error.value.message


@pytest.mark.parametrize(("text", "named"), [("a: [", "not valid YAML"), ("- 1", "mapping"), ("\x00", "YAML")])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        load_config(tmp_path / "nothing.yaml")


def test_slices_of_new_values_need_no_declaration_of_their_own(tmp_path: Path) -> None:
    evaluation = {
        "new_value_slices": ["ad"],
        "thresholds": [{"metric": "calibration_ratio", "upper": 2, "slice": ["ad_known"]}],
    }
    assert load_config(write(tmp_path, evaluation=evaluation)).evaluation.new_value_slices == ("ad",)


def test_a_run_on_this_machine_refuses_artifacts_in_s3(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, pipeline_root="s3://bucket/root"))
    with pytest.raises(ConfigError, match=r"pipeline_root: s3://bucket/root") as refused:
        check_local_output(config)
    assert "serving.push_directory may be s3://" in refused.value.remedy


STREAM: dict[str, Any] = {
    "events": {"clicks": {"id": "click_id"}},
    "history": {"clicks": "events/*.jsonl"},
    "features": {
        "clicks_1h": {"kind": "count", "by": ["site"], "window": "1h"},
        "clicks_1d": {"kind": "count", "by": ["site"], "window": "1d"},
    },
}


def test_features_of_the_stream_are_columns_of_the_model(tmp_path: Path) -> None:
    columns = {**CONFIG["features"], "clicks_1d": {"role": "bucketised", "buckets": 5}}
    config = load_config(write(tmp_path, stream=STREAM, features=columns))
    hourly, daily = config.features.root["clicks_1h"], config.features.root["clicks_1d"]
    assert (hourly.role, getattr(hourly, "scaling", None)) == ("numeric", "log")
    # As the config declares it.
    assert daily.role == "bucketised"
    assert config.stream is not None
    assert config.stream.history.clicks == str(tmp_path / "events" / "*.jsonl")


@pytest.mark.parametrize(
    ("features", "named"),
    [
        ({"site": {"role": "numeric"}}, "reads 'site' as text"),
        ({"shown_at": {"role": "timestamp", "format": "epoch_seconds"}}, "as iso8601"),
        ({"clicks_1h": {"role": "numeric", "source": "other"}}, "has no other `source`"),
    ],
)
def test_columns_that_do_not_fit_the_stream_are_named(features: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(write(tmp_path, stream=STREAM, features={**CONFIG["features"], **features}))
