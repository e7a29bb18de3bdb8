"""The rivals' script: what it makes of a folder of impressions before a library sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adclick.schema.errors import AdclickError, ConfigError
from benchmarks import rival_environment
from benchmarks.rivals import train


def test_vocabulary_keeps_what_was_seen_often_enough() -> None:
    codes = train.vocabulary(pd.Series(["a", "a", "a", "b", "b", "once", None, None]), min_count=2)

    assert codes == {"a": 1, "b": 2, "": 3}
    encoded = train.encode(pd.Series(["b", "once", "never", None, "a"]), codes)
    np.testing.assert_array_equal(encoded, [2, 0, 0, 3, 1])
    assert encoded.dtype == np.int32


def test_scale_uses_the_moments_of_train() -> None:
    column = np.array([1.0, 3.0, np.nan, 5.0])

    scaled = train.scale(column, np.array([3.0, np.nan, 5.0]))

    np.testing.assert_allclose(scaled, [[0, 0], [0, 1], [2 / np.std([1, 3, 5]), 0]], rtol=1e-6)
    assert scaled.dtype == np.float32


def test_scale_tames_a_skewed_column() -> None:
    column = np.random.default_rng(1).lognormal(5, 2, 5_000)

    scaled = train.scale(column, column)[:, 0]

    assert np.abs(scaled).max() < 6
    assert scaled.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("column", [np.full(4, np.nan), np.full(4, 7.0)], ids=["missing", "constant"])
def test_scale_of_a_column_without_information(column: np.ndarray) -> None:
    assert np.isfinite(train.scale(column, np.array([7.0, np.nan]))).all()
    np.testing.assert_array_equal(train.scale(column, np.array([7.0, np.nan]))[:, 1], [0, 1])


def test_a_row_does_not_count_itself() -> None:
    values = pd.Series(["a", "a", "b", None])

    np.testing.assert_allclose(np.expm1(train.other_rows_with_value(values, values, within_train=True)), [1, 1, 0, 0])
    unseen = pd.Series(["a", "never", None])
    np.testing.assert_allclose(np.expm1(train.other_rows_with_value(values, unseen, within_train=False)), [2, 0, 1])


def test_log_loss_is_the_mean_in_nats() -> None:
    expected = -(np.log(0.8) + np.log(0.9)) / 2
    assert train.log_loss(np.array([1.0, 0.0]), np.array([0.8, 0.1])) == pytest.approx(expected)


def _write(folder: Path, frame: pd.DataFrame) -> None:
    for part in ("train", "validation", "test"):
        frame.to_parquet(folder / f"{part}.parquet", index=False)
    columns = {"label": "clicked", "categorical": ["site"], "numeric": ["price"]}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")


def test_reads_the_named_columns(tmp_path: Path) -> None:
    _write(tmp_path, pd.DataFrame({"other": [1, 2], "site": ["a", None], "price": [1.5, np.nan], "clicked": [0, 1]}))

    data = train.read(tmp_path)

    assert list(data.train) == ["clicked", "site", "price"]
    np.testing.assert_array_equal(data.clicks(data.test), [0.0, 1.0])


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"site": ["a", "b"], "clicked": [0, 1]}, "lacks the columns price"),
        ({"site": ["a", "b"], "price": [1.0, 2.0], "clicked": [0, 0]}, "both clicked and unclicked"),
    ],
)
def test_unfit_data_is_refused_by_name(tmp_path: Path, frame: dict[str, list[object]], said: str) -> None:
    _write(tmp_path, pd.DataFrame(frame))

    with pytest.raises(SystemExit, match=said):
        train.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"columns\.json, train\.parquet"):
        train.read(tmp_path)


def test_both_sides_know_the_same_models() -> None:
    assert set(rival_environment.MODELS) == set(train.MODELS)


def test_an_unknown_model_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rival is called 'oracle'"):
        rival_environment.run_rival("oracle", tmp_path, tmp_path)


def test_the_lock_is_pinned_and_names_no_host() -> None:
    lock = (rival_environment.RIVALS / "requirements.lock").read_text(encoding="utf-8")

    assert "://" not in lock
    pins = [line for line in lock.splitlines() if line[:1].isalpha()]
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)


def test_without_uv_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rival_environment, "_UV", tmp_path / "uv")

    with pytest.raises(AdclickError, match="make setup"):
        rival_environment.ensure()


def test_what_uv_said_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n", encoding="utf-8")
    uv.chmod(0o755)
    monkeypatch.setattr(rival_environment, "_UV", uv)
    monkeypatch.setattr(rival_environment, "ENVIRONMENT", tmp_path / "environment")

    with pytest.raises(AdclickError, match="no space left"):
        rival_environment.ensure()


def _fitted(data: train.Data, rate: float) -> train.Fitted:
    values = np.full(len(data.test), rate)
    return train.Fitted(values, values, fit_seconds=1.0, best=1)


@pytest.mark.parametrize(
    ("rates", "best"), [([0.1, 0.6, 0.9], 0.6), ([float("nan"), 0.9, 0.1], 0.9)], ids=["the middle", "no score"]
)
def test_the_setting_that_predicts_the_validation_rows_best_is_kept(
    tmp_path: Path, rates: list[float], best: float
) -> None:
    _write(tmp_path, pd.DataFrame({"site": ["a", "b"], "price": [1.0, 2.0], "clicked": [0, 1]}))
    data = train.read(tmp_path)
    # Held-out labels decide nothing.
    data.test["clicked"] = 0
    data.validation["clicked"] = 1 if best > 0.6 else data.validation["clicked"]

    found = train.search(data, [{"rate": rate} for rate in rates], lambda setting: _fitted(data, setting["rate"]), 60.0)

    assert found.predictions[0] == best
    assert (found.settings, found.fit_seconds) == (3, 3.0)


def test_a_search_without_time_tries_the_first_setting(tmp_path: Path) -> None:
    _write(tmp_path, pd.DataFrame({"site": ["a", "b"], "price": [1.0, 2.0], "clicked": [0, 1]}))
    data = train.read(tmp_path)

    found = train.search(data, [{"rate": 0.2}, {"rate": 0.5}], lambda setting: _fitted(data, setting["rate"]), -1.0)

    assert found.predictions[0] == 0.2 and found.settings == 1
