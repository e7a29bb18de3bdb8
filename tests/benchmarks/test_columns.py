"""The logs that growth with columns is measured on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adclick.schema.feature_table import Categorical, Numeric, parse_feature_table
from benchmarks.click_log import LABEL
from benchmarks.columns import Run, compare, write_log


def test_a_log_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    table = parse_feature_table(write_log(tmp_path / "log.csv", 2_000, 21))
    log = pd.read_csv(tmp_path / "log.csv")
    assert list(log) == [*table.root] and len(log) == 2_000
    assert (len(table.of(Categorical)), len(table.of(Numeric))) == (10, 11)
    assert 0.02 < log[LABEL].mean() < 0.15
    assert log["shown_at"].is_monotonic_increasing
    assert log["code_0"].nunique() == 4 and log["amount_3"].isna().mean() == pytest.approx(0.2, abs=0.05)


def test_growth_is_many_over_few() -> None:
    few = Run(20, 30.0, {"Transform": 2.0, "other": 28.0}, 1_000, 200_000, 1.0)
    many = Run(200, 90.0, {"Transform": 4.0, "other": 86.0}, 8_000, 400_000, 3.0)
    found = {result.name.partition(": ")[2]: result for result in compare(few, many, 50_000)}
    assert (found["whole run"].ratio, found["whole run"].met) == (3.0, True)
    assert (found["Transform"].ratio, found["Transform"].target) == (2.0, "")
    assert not found["graph nodes of the SavedModel"].met and found["load time"].met
